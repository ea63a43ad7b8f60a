"""A file's first records under every plausible dialect, and how much each reading looks like a table.

A reading scores by the share of records with the same number of fields, by well-formed quoting, and by cells that hold no
other delimiter. The idea of scoring rows and cells together is from van den Burg, Nazabal and Sutton, "Wrangling messy CSV
files by detecting row and type patterns", Data Mining and Knowledge Discovery 33 (2019).
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from beam_etl.model import Dialect, Escape, LineEnd
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.encoding import Encoding
from beam_etl.sources.header import is_total, is_value, names_value_columns
from beam_etl.sources.sample_records import SampleRecord, split_sample

_USUAL_DELIMITERS = ",;\t|"
# Nobody writes these into text, so where they make a table they are its delimiter. NUL is damage, not writing.
_CONTROL_DELIMITERS = "".join(chr(code) for code in (*range(1, 9), 11, 12, *range(14, 32)))
# Tried only where the usual ones make no table, and taken only where all fits: they are common inside values.
_UNUSUAL_DELIMITERS = "^~#"
# As common between words and inside times as between fields: taken only where the header or the quotes say so too.
_DOUBTFUL_DELIMITERS = ": "
_UNUSUAL_CONFIDENCE = 0.9
# Of several bytes; tried where they stand in the sample. Others that hold a usual delimiter are found by what stands around
# that one (_compound).
_LONG_DELIMITERS = ("||", "::", ";;", "~~", "^^", "##", "@@", "$$", "|~|", "~|~", "|^|", "^|^", "|#|", "#|#")
# What stands between a cell and a cell in quotes.
_BEFORE_QUOTE = re.compile(rb"[\w\"]([^\w\"'\r\n\x80-\xff]{2,8})\"\w")
_SIGNS = "§¦¬¶þ"
# What may belong to a delimiter around its usual character.
_AROUND = re.compile(rb"[^\w\"'\x80-\xff.+\-$%()\[\]{}/\\]+")
_LEAST_COMPOUND_ROWS = 3
_COMMENTS = "#%"
_OPENING_APOSTROPHE = re.compile(rb"(?:\A|[,;\t|:^~# \x01-\x1f])'")
_TIME_PARTS = re.compile(rb"(?:.*\D)?\d{1,2}"), re.compile(rb"\d\d(?:\D.*)?")
_SAMPLE_RECORDS = 64
_SAMPLE_CELLS = 100_000
_TYPED_RECORDS = 30
# A cell is clean without any main delimiter or quote in it, or as a number or a list of them.
_CLEAN_CELL = re.compile(rb"[^,;\t|\"]*|[-+0-9., ]*")


@dataclasses.dataclass(frozen=True)
class Reading:
    """The sample's records as one dialect has them.

    Attributes:
      score: 0 for no table at all, close to 1 for a wide, even and clean one.
      confidence: 0 to 1, the share of what was sampled that fits.
      n_fields: what most records have.
    """

    dialect: Dialect
    records: tuple[SampleRecord, ...]
    score: float = 0.0
    confidence: float = 0.0
    n_fields: int = 0

    @property
    def table_rows(self) -> list[SampleRecord]:
        """The records that have as many fields as most."""
        return [r for r in self.records if len(r.cells) == self.n_fields and not r.malformed]


def best_reading(head: bytes, declared: DeclaredDialect, is_whole: bool, encoding: Encoding, start: int) -> Reading:
    """The reading with the highest score; of equal ones the first, which is the most usual.

    Args:
      start: offset of the first line that is read.
    """

    def best_with(delimiters: Sequence[str]) -> Reading:
        candidates = _candidates(head[start:], declared, encoding, delimiters)
        readings = [score_reading(_read(head, candidate, is_whole, start)) for candidate in candidates]
        return max(_without_needless(readings), key=lambda reading: reading.score)

    def finished(reading: Reading) -> Reading:
        return _with_comments(head, reading, declared, is_whole, start)

    if declared.delimiter:
        return finished(best_with([declared.delimiter]))
    controls = [control for control in _CONTROL_DELIMITERS if control.encode() in head]
    usual = best_with([*_USUAL_DELIMITERS, *controls])
    compound = _compound(usual)
    if compound:
        longer = best_with([compound])
        if longer.n_fields > 1 and longer.confidence >= max(usual.confidence, _UNUSUAL_CONFIDENCE):
            return finished(longer)
    if usual.n_fields > 1 and usual.confidence >= _UNUSUAL_CONFIDENCE:
        return finished(usual)
    long = [delimiter for delimiter in _LONG_DELIMITERS if delimiter.encode() in head]
    beside_quotes = Counter(match.decode() for match in _BEFORE_QUOTE.findall(head))
    long += [delimiter for delimiter, _ in beside_quotes.most_common(3) if delimiter not in long]
    signs = [sign for sign in _SIGNS if _written_in(sign, encoding.name) in head]
    for delimiters in (long, signs) if long or signs else ():
        reading = finished(best_with(delimiters)) if delimiters else usual
        if reading.n_fields > 1 and reading.score > usual.score and _is_even(reading):
            return reading
    if usual.n_fields > 1:
        return finished(usual)
    for delimiters in (_UNUSUAL_DELIMITERS, *_DOUBTFUL_DELIMITERS):
        reading = finished(best_with(delimiters))
        if reading.n_fields > 1 and reading.confidence >= _UNUSUAL_CONFIDENCE and not _is_doubtful(reading):
            return reading
    return _one_column(head, usual, is_whole, start)


def score_reading(reading: Reading) -> Reading:
    """Judges a reading."""
    records = [record for record in reading.records if record.complete] or list(reading.records)
    if not records:
        return reading
    lengths = Counter(len(record.cells) for record in records if not record.malformed)
    if set(lengths) <= {1} or 2 * lengths[1] > len(records):
        return dataclasses.replace(reading, n_fields=1)
    lengths.pop(1, None)
    n_fields, even = max(lengths.items(), key=lambda item: (item[1], item[0]))
    even_share = even / len(records)
    if not reading.dialect.quote and _has_quoted_cells(records):
        return dataclasses.replace(reading, n_fields=n_fields)
    well_formed_share = 1 - sum(record.malformed for record in records) / len(records)
    clean_share = _clean_share(records[:_TYPED_RECORDS])
    confidence = even_share * well_formed_share * clean_share
    score = confidence * even_share * well_formed_share * (n_fields - 1) / n_fields
    return dataclasses.replace(reading, score=score, confidence=round(confidence, 3), n_fields=n_fields)


def _written_in(delimiter: str, encoding: str) -> bytes:
    """The delimiter's bytes; those of UTF-8 where the encoding cannot write it."""
    try:
        return delimiter.encode(encoding)
    except UnicodeEncodeError:
        return delimiter.encode()


def _is_even(reading: Reading) -> bool:
    """Whether all but a tenth of several records have the same number of fields."""
    rows = len(reading.table_rows)
    return rows >= _LEAST_COMPOUND_ROWS and rows >= _UNUSUAL_CONFIDENCE * len(reading.records)


def _compound(reading: Reading) -> str:
    """A longer delimiter of which the reading knows one character only; "" for none.

    - Every second cell is the same text, empty or of signs, in all records: `||` and `|~|`. Where the text is empty, these
      must be two columns or more, or the first record must be names; else it may be a column without values.
    - Signs or blanks stand around the character wherever it is: `~|~`. Blanks count only where a quoted cell or a column of
      values stands beside them; else they may belong to texts.
    """
    rows, delimiter = reading.table_rows, reading.dialect.delimiter
    if (
        reading.n_fields < 2
        or len(rows) < _LEAST_COMPOUND_ROWS
        or not delimiter.isascii()
        or len(rows) < 0.9 * len(reading.records)
    ):
        return ""
    if reading.n_fields % 2:
        between = {cell for row in rows for cell in row.cells[1::2]}
        quoted = any(quoted for row in rows for quoted in row.quoted[1::2])
        middle = next(iter(between))
        if len(between) == 1 and not quoted and (not middle or _AROUND.fullmatch(middle)) and len(middle) < 8:
            named = all(cell.strip() and not is_value(cell) for cell in rows[0].cells[::2])
            if (
                middle
                or reading.n_fields > 3
                or (named and names_value_columns(_every_second(rows[0]), [*map(_every_second, rows[1:])]))
            ):
                return f"{delimiter}{middle.decode()}{delimiter}"
    return _with_signs_around(rows, delimiter)


def _every_second(record: SampleRecord) -> SampleRecord:
    return dataclasses.replace(record, cells=record.cells[::2], quoted=record.quoted[::2])


def _with_signs_around(rows: Sequence[SampleRecord], delimiter: str) -> str:
    left = [cell for row in rows for cell in row.cells[:-1]]
    right = [cell for row in rows for cell in row.cells[1:]]
    if any(any(row.quoted[:-1]) for row in rows):
        left = []
    signs_before, signs_behind = _common_signs(left, -1), _common_signs(right, 1)
    if not signs_before + signs_behind:
        return ""
    if not (signs_before + signs_behind).strip():
        inner = [
            (cell.strip(), quoted)
            for row in rows[1:]
            for cell, quoted in zip(row.cells[1:], row.quoted[1:], strict=True)
        ]
        if not any(cell.startswith(b'"') or is_value(cell) for cell, _ in inner):
            return ""
    return f"{signs_before.decode()}{delimiter}{signs_behind.decode()}"


def _common_signs(cells: Sequence[bytes], step: int) -> bytes:
    """The longest run of signs or blanks that all cells begin with (step 1), or end with (step -1)."""
    if not cells:
        return b""
    common = min(cells, key=len)[::step]
    for cell in cells:
        turned = cell[::step]
        while not turned.startswith(common):
            common = common[:-1]
    signs = _AROUND.match(common)
    return (signs.group() if signs else b"")[:4][::step]


def _candidates(
    head: bytes, declared: DeclaredDialect, encoding: Encoding, delimiters: Sequence[str]
) -> Iterator[Dialect]:
    """The plausible dialects with one of the delimiters, most usual first."""
    comment = declared.comment or ""
    taken = {declared.quote, comment} - {None, ""}
    possible = [delimiter for delimiter in delimiters if not taken & set(delimiter)]
    present = (
        [delimiter for delimiter in possible if _written_in(delimiter, encoding.name) in head] or possible[:1] or [","]
    )
    line_ends = [declared.line_end] if declared.line_end else _line_ends(head)
    for delimiter, line_end in itertools.product(present, line_ends):
        quotes = [declared.quote] if declared.quote is not None else _quotes(head)
        for quote in [quote for quote in quotes if not quote or (quote not in delimiter and quote != comment)] or [""]:
            for escape in [declared.escape] if declared.escape else _escapes(head, delimiter, quote, comment):
                yield Dialect(encoding.name, delimiter, quote, escape, line_end, comment)


def _quotes(head: bytes) -> list[str]:
    apostrophe = ["'"] if _OPENING_APOSTROPHE.search(head) else []
    return ['"', *apostrophe, ""] if b'"' in head else ['"', *apostrophe]


def _escapes(head: bytes, delimiter: str, quote: str, comment: str) -> list[Escape]:
    if "\\" not in delimiter + quote + comment and quote and b"\\" + quote.encode() in head:
        return ["doubled", "backslash"]
    return ["doubled"]


def _line_ends(head: bytes) -> list[LineEnd]:
    head = head.removesuffix(b"\r") if b"\n" in head else head
    line_feeds, lone_returns = head.count(b"\n"), head.count(b"\r") - head.count(b"\r\n")
    if not line_feeds:
        return ["cr" if lone_returns else "lf"]
    return ["lf", "any"] if lone_returns else ["lf"]


def _read(head: bytes, dialect: Dialect, is_whole: bool, start: int) -> Reading:
    records: list[SampleRecord] = []
    cells = 0
    for record in itertools.islice(split_sample(head, dialect, is_whole, start), _SAMPLE_RECORDS):
        records.append(record)
        cells += len(record.cells)
        if cells > _SAMPLE_CELLS:
            break
    return Reading(dialect, tuple(records))


def _without_needless(readings: Sequence[Reading]) -> list[Reading]:
    """Without readings that take quotes for text where, as quotes, each of them has its place."""
    in_place = {
        (reading.dialect.delimiter, reading.dialect.line_end)
        for reading in readings
        if reading.dialect.quote == '"'
        and not any(record.malformed for record in reading.records)
        and any(any(record.quoted) for record in reading.records)
    }
    return [r for r in readings if r.dialect.quote or (r.dialect.delimiter, r.dialect.line_end) not in in_place]


def _has_quoted_cells(records: Sequence[SampleRecord]) -> bool:
    """Whether most cells that begin with a quote also end with one: then it has a meaning, even where it is misused."""
    opened = [cell for record in records for cell in record.cells if cell.startswith(b'"')]
    return 2 * sum(len(cell) > 1 and cell.endswith(b'"') for cell in opened) > len(opened)


def _clean_share(records: Sequence[SampleRecord]) -> float:
    clean = total = 0
    for record in records:
        for cell, quoted in zip(record.cells, record.quoted, strict=True):
            total += 1
            # Apostrophes around a cell are quotes that this reading does not know.
            enclosed = len(cell) > 1 and cell[:1] == cell[-1:] == b"'"
            clean += quoted or (not enclosed and _CLEAN_CELL.fullmatch(cell) is not None)
    return clean / total


def _with_comments(head: bytes, best: Reading, declared: DeclaredDialect, is_whole: bool, start: int) -> Reading:
    """The reading without the comments between its records.

    A line is one only where it could be no record: it has another number of fields than the others, and the first column
    holds numbers, dates or quoted cells alone. So a record farther inside the file is never taken for a comment.
    """
    rows = [row for row in best.table_rows[1:] if not is_total(row.cells[0])]
    if declared.comment is not None or best.n_fields < 2 or not rows:
        return best
    if not all(row.quoted[0] or is_value(row.cells[0]) for row in rows):
        return best
    for comment in _COMMENTS:
        suspects = [record for record in best.records if head.startswith(comment.encode(), record.start)]
        inside = any(record.start > rows[0].start for record in suspects)
        fits = comment not in best.dialect.delimiter + best.dialect.quote
        if fits and inside and all(len(record.cells) != best.n_fields for record in suspects):
            dialect = dataclasses.replace(best.dialect, comment=comment)
            return score_reading(_read(head, dialect, is_whole, start))
    return best


def _is_doubtful(reading: Reading) -> bool:
    """Whether a blank or a colon may just as well be part of the text."""
    delimiter, rows = reading.dialect.delimiter, reading.table_rows
    if delimiter not in _DOUBTFUL_DELIMITERS:
        return False
    named = names_value_columns(rows[0], rows[1:]) and len(rows) > 1
    quoted = any(any(row.quoted) for row in rows)
    if delimiter == " ":
        return not named and not quoted
    left, right = _TIME_PARTS
    for place in range(reading.n_fields - 1):
        pairs = [(row.cells[place], row.cells[place + 1]) for row in rows]
        if all(left.fullmatch(a) and right.match(b) for a, b in pairs):
            return True
        if 2 * sum(b.startswith((b"//", b"\\")) for _, b in pairs) >= len(pairs):
            return True
    return not named and not quoted and reading.n_fields < 4


def _one_column(head: bytes, best: Reading, is_whole: bool, start: int) -> Reading:
    """The reading of a file without delimiter."""
    absent = [control for control in reversed(_CONTROL_DELIMITERS) if control.encode() not in head]
    delimiter = "," if b"," not in head or not absent else absent[0]
    quote = '"' if best.dialect.quote == "'" else best.dialect.quote
    dialect = dataclasses.replace(best.dialect, delimiter=delimiter, quote=quote)
    return dataclasses.replace(_read(head, dialect, is_whole, start), n_fields=1, confidence=0.5)
