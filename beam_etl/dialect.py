"""How a file is written, detected from its first bytes: encoding, delimiter, quote, escape, line end, header.

Detection reads the sample's records under every plausible dialect and takes the one under which they look most like a
table: the same number of fields in every record, well-formed quoting, and cells that hold no other delimiter. The idea
of scoring rows and cells together is from van den Burg, Nazabal and Sutton, "Wrangling messy CSV files by detecting row
and type patterns", Data Mining and Knowledge Discovery 33 (2019). What is declared is never second-guessed.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from beam_etl.encoding import Encoding, canonical_encoding, detect_encoding, is_transparent, transcode
from beam_etl.header import clean_names, generated_names, looks_like_header, names_columns, spell_as_declared
from beam_etl.model import Dialect, Escape, LineEnd
from beam_etl.sample_records import SampleRecord, cell_text, split_sample

_USUAL_DELIMITERS = ",;\t|"
# Tried only where the usual ones make no table, and taken only where all fits: they are common inside values.
_UNUSUAL_DELIMITERS = ":^~#"
_UNUSUAL_CONFIDENCE = 0.9
_COLON_IN_VALUE = re.compile(rb"\d:\d\d|[A-Za-z]:(?://|\\)")
_OPENING_APOSTROPHE = re.compile(rb"(?:\A|[,;\t|:^~#\r\n])'")
# Stands for "no delimiter" in a file of one column: no text contains a unit separator.
_UNIT_SEPARATOR = "\x1f"
_SAMPLE_RECORDS = 64
_SAMPLE_CELLS = 100_000
_TYPED_RECORDS = 30
# A cell is clean without any main delimiter or quote in it, or as a number or a list of them.
_CLEAN_CELL = re.compile(rb"[^,;\t|\"]*|[-+0-9., ]*")


@dataclasses.dataclass(frozen=True)
class DeclaredDialect:
    """What is declared of a file's writing; None or () is detected.

    Attributes:
      encoding: any Python text codec.
      delimiter, quote, escape: as in Dialect.
      header: whether the first record names the columns.
      columns: the columns' names, in order.
    """

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: Escape | None = None
    header: bool | None = None
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.encoding is not None:
            canonical_encoding(self.encoding)
        for field, value in (("delimiter", self.delimiter), ("quote", self.quote or None)):
            if value is not None and (len(value) != 1 or not value.isascii() or value in "\r\n"):
                raise ValueError(f"{field} {value!r}: must be one ASCII character and no line end")
        if self.delimiter is not None and self.delimiter == self.quote:
            raise ValueError(f"delimiter and quote are both {self.quote!r}; declare different characters")


@dataclasses.dataclass(frozen=True)
class DetectedDialect:
    """How a file is written.

    Attributes:
      dialect: as the kernels need it; its encoding is "utf-8" where the file must be transcoded.
      header: whether the first record names the columns.
      body_start: offset behind byte order mark and header, in the transcoded bytes where the file must be transcoded.
      columns: one name for each field; () for a file without records.
      header_lines: physical lines before body_start.
      confidence: 0 to 1, the share of what was sampled that fits.
      evidence: sentences for a person.
      transcode_from: the encoding that the file must be rewritten from, None where the kernels can read it.
      complete: the head was long enough to hold the first record; if not, columns and body_start mean nothing.
    """

    dialect: Dialect
    header: bool
    body_start: int
    columns: tuple[str, ...]
    header_lines: int
    confidence: float
    evidence: tuple[str, ...]
    transcode_from: str | None = None
    complete: bool = True


@dataclasses.dataclass(frozen=True)
class _Reading:
    """The sample's records as one dialect has them."""

    dialect: Dialect
    records: tuple[SampleRecord, ...]
    score: float = 0.0
    confidence: float = 0.0
    n_fields: int = 0


def detect(head: bytes, declared: DeclaredDialect, is_whole: bool, windows: Sequence[bytes] = ()) -> DetectedDialect:
    """How a file is written. Never raises, whatever the bytes.

    Args:
      head: the first bytes of the file, 256 KiB or so.
      declared: what is known already.
      is_whole: head is the whole file.
      windows: samples from elsewhere in the file, for its encoding only; worth taking where head is pure ASCII.
    """
    encoding = detect_encoding(head, is_whole, declared.encoding, windows)
    transcode_from = None if is_transparent(encoding.name) else encoding.name
    if transcode_from:
        head = b"".join(transcode([head], encoding))
        if not is_whole:
            # The last character may be cut; what is escaped of it is no part of the file.
            head = head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1] or head
        encoding = Encoding("utf-8", 0, f"{encoding.evidence}; rewritten as UTF-8")
    reading = _best_reading(head, declared, is_whole, encoding)
    found = _describe(head, declared, is_whole, encoding, reading)
    return dataclasses.replace(found, transcode_from=transcode_from)


def _best_reading(head: bytes, declared: DeclaredDialect, is_whole: bool, encoding: Encoding) -> _Reading:
    """The reading with the highest score; of equal ones the first, which is the most usual."""

    def best_with(delimiters: str) -> _Reading:
        candidates = _candidates(head, declared, encoding, delimiters)
        return max((_score(_read(head, c, is_whole, encoding.bom_bytes)) for c in candidates), key=lambda r: r.score)

    if declared.delimiter:
        return best_with(declared.delimiter)
    usual = best_with(_USUAL_DELIMITERS)
    if usual.n_fields > 1:
        return usual
    unusual = best_with(_UNUSUAL_DELIMITERS.replace(":", "") if _COLON_IN_VALUE.search(head) else _UNUSUAL_DELIMITERS)
    if unusual.n_fields > 1 and unusual.confidence >= _UNUSUAL_CONFIDENCE:
        return unusual
    return _one_column(head, usual, is_whole, encoding)


def _candidates(head: bytes, declared: DeclaredDialect, encoding: Encoding, delimiters: str) -> Iterator[Dialect]:
    """The plausible dialects with one of the delimiters, most usual first."""
    possible = [delimiter for delimiter in delimiters if delimiter != declared.quote]
    present = [delimiter for delimiter in possible if delimiter.encode() in head] or possible[:1]
    for delimiter, line_end in itertools.product(present, _line_ends(head)):
        quotes = [declared.quote] if declared.quote is not None else _quotes(head)
        for quote in [quote for quote in quotes if quote != delimiter] or [""]:
            escapes: list[Escape] = [declared.escape] if declared.escape else ["doubled"]
            if not declared.escape and quote and b"\\" + quote.encode() in head:
                escapes.append("backslash")
            for escape in escapes:
                yield Dialect(encoding.name, delimiter, quote, escape, line_end)


def _quotes(head: bytes) -> list[str]:
    apostrophe = ["'"] if _OPENING_APOSTROPHE.search(head) else []
    return ['"', *apostrophe, ""] if b'"' in head else ['"', *apostrophe]


def _line_ends(head: bytes) -> list[LineEnd]:
    head = head.removesuffix(b"\r") if b"\n" in head else head
    line_feeds, lone_returns = head.count(b"\n"), head.count(b"\r") - head.count(b"\r\n")
    if not line_feeds:
        return ["cr" if lone_returns else "lf"]
    return ["lf", "any"] if lone_returns else ["lf"]


def _read(head: bytes, dialect: Dialect, is_whole: bool, start: int) -> _Reading:
    records: list[SampleRecord] = []
    cells = 0
    for record in itertools.islice(split_sample(head, dialect, is_whole, start), _SAMPLE_RECORDS):
        records.append(record)
        cells += len(record.cells)
        if cells > _SAMPLE_CELLS:
            break
    return _Reading(dialect, tuple(records))


def _score(reading: _Reading) -> _Reading:
    """Judges a reading: 0 for no table at all, close to 1 for a wide, even and clean one."""
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


def _one_column(head: bytes, best: _Reading, is_whole: bool, encoding: Encoding) -> _Reading:
    """The reading of a file without delimiter."""
    delimiter = _UNIT_SEPARATOR if b"," in head else ","
    quote = '"' if best.dialect.quote == "'" else best.dialect.quote
    dialect = dataclasses.replace(best.dialect, delimiter=delimiter, quote=quote)
    reading = _read(head, dialect, is_whole, encoding.bom_bytes)
    return dataclasses.replace(reading, n_fields=1, confidence=0.5)


def _describe(
    head: bytes, declared: DeclaredDialect, is_whole: bool, encoding: Encoding, reading: _Reading
) -> DetectedDialect:
    """Header, names and body of the chosen reading."""
    dialect, records = reading.dialect, reading.records
    evidence = (f"{encoding.name}: {encoding.evidence}", _dialect_evidence(declared, reading))
    if not records:
        lines = _count_lines(head[encoding.bom_bytes :], dialect.line_end)
        return DetectedDialect(dialect, False, len(head), (), lines, 1.0, (*evidence, "no records"), complete=is_whole)
    first = records[0]
    first_names = [cell_text(c, q, dialect, encoding.name) for c, q in zip(first.cells, first.quoted, strict=True)]
    header, header_evidence = _find_header(declared, reading, first_names)
    if header:
        columns, body_start = clean_names(spell_as_declared(first_names, declared.columns)), first.end
    else:
        columns, body_start = generated_names(_field_count(declared, reading), declared.columns), encoding.bom_bytes
    return DetectedDialect(
        dialect=dialect,
        header=header,
        body_start=body_start,
        columns=columns,
        header_lines=_count_lines(head[encoding.bom_bytes : body_start], dialect.line_end),
        confidence=reading.confidence,
        evidence=(*evidence, header_evidence),
        complete=first.complete or (not header and bool(declared.columns)),
    )


def _dialect_evidence(declared: DeclaredDialect, reading: _Reading) -> str:
    dialect = reading.dialect
    how = "declared" if declared.delimiter else "detected"
    return (
        f"delimiter {dialect.delimiter!r} {how}, quote {dialect.quote!r}, escape {dialect.escape}, line end "
        f"{dialect.line_end}: {len(reading.records)} records sampled, most with {reading.n_fields} fields"
    )


def _find_header(declared: DeclaredDialect, reading: _Reading, first_names: Sequence[str]) -> tuple[bool, str]:
    if declared.header is not None:
        return declared.header, "header declared" if declared.header else "no header, as declared"
    if declared.columns:
        header = names_columns(first_names, declared.columns)
        return header, f"{'header' if header else 'no header'}: the first record against the declared columns"
    return looks_like_header([record for record in reading.records if record.complete] or reading.records)


def _field_count(declared: DeclaredDialect, reading: _Reading) -> int:
    """Fields of a record without header: what most records have; declared columns where no record tells."""
    if any(record.complete and not record.malformed for record in reading.records) or not declared.columns:
        return max(reading.n_fields, 1)
    return len(declared.columns)


def _count_lines(data: bytes, line_end: LineEnd) -> int:
    """Physical lines, a last one without line end included."""
    pattern = {"lf": rb"\n", "cr": rb"\r", "any": rb"\r\n|\n|\r"}[line_end]
    ends = [match.end() for match in re.finditer(pattern, data)]
    return len(ends) + (len(data) > (ends[-1] if ends else 0))
