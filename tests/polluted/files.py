"""Files with every kind of damage that delimited text has in the wild, and the table that each of them holds.

Seeded: the same seed gives the same bytes. The truth is what was meant when the file was written: the table before it was
damaged. Where the bytes of one record no longer tell what was meant (a separator is missing, a quote is missing), the
record is listed as damaged: to land it unchanged is right, to reject it is right, to land anything else is silent damage.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
import random
from collections.abc import Iterator

Row = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class GivenDialect:
    """What a reader is told of a file, in the run in which it is told.

    Attributes:
      skip_lines, footer_lines: physical lines before the header, and after the last record.
      header_lines: 0 without header.
    """

    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    escape: str = "doubled"
    line_end: str = "lf"
    comment: str = ""
    header_lines: int = 1
    skip_lines: int = 0
    footer_lines: int = 0


@dataclasses.dataclass(frozen=True)
class PollutedFile:
    """One file and its truth.

    Attributes:
      kind: the damage.
      name: kind and seed; unique.
      data: the bytes.
      header: the columns' names; None where the file does not tell them, so that any will do.
      rows: the records, as text; "" for an empty cell.
      damaged: how many of the rows cannot be read with certainty.
      extra: records of the file that belong to no row (of a second table, say): to land any of them is silent damage.
      given: how the file is written.
    """

    kind: str
    name: str
    data: bytes
    header: Row | None
    rows: tuple[Row, ...]
    damaged: int = 0
    extra: int = 0
    given: GivenDialect = GivenDialect()


DELIMITERS = {
    "comma": ",",
    "semicolon": ";",
    "tab": "\t",
    "pipe": "|",
    "space": " ",
    "colon": ":",
    "caret": "^",
    "tilde": "~",
    "hash": "#",
    "start of heading": "\x01",
    "unit separator": "\x1f",
}
LONG_DELIMITERS = ("||", "|~|", "~|~", "::", ";;", "\t\t", ", ", " | ", "<|>", "§", "¦")
LINE_ENDS = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}

_LATIN = ("André Lefèvre", "João Conceição", "Jürgen Groß", "Hélène Noël", "São Paulo", "Besançon", "Köln", "Málaga")
# language -> texts, and the encodings that such files come in
_LANGUAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "french": (
        ("déjà payé à l'hôtel", "né à Orléans", "très élevé", "reçu à Sète", "Hélène Noël", "forêt brûlée"),
        ("utf-8", "utf-8-sig", "iso-8859-1", "cp1252"),
    ),
    "portuguese": (
        ("situação não definida", "João Conceição", "ação pública", "Brasília", "manutenção", "São José"),
        ("iso-8859-1", "cp1252"),
    ),
    "euro": (
        ("preço 5 €", "“citação”", "situação – não", "João Conceição", "ação pública", "São José"),
        ("cp1252",),
    ),
    "polish": (
        ("część zapłacona", "Łukasz Wójcik", "źródło", "późniejszy żąda się ścisłości", "Dąbrowska", "Łódź"),
        ("cp1250", "iso-8859-2"),
    ),
    "czech": (
        ("příští měsíc žádný účet", "Jiří Dvořák", "Plzeň", "zůstává dlužen", "Tomáš Němec", "Děčín"),
        ("cp1250", "iso-8859-2"),
    ),
    "russian": (
        ("оплачено полностью", "Иван Петров", "Москва", "нет данных, уточнить", "Мария Сидорова", "Казань"),
        ("cp1251", "koi8-r", "cp866", "iso-8859-5"),
    ),
    "greek": (
        ("πληρώθηκε χθες", "Γιώργος Παπαδόπουλος", "Αθήνα", "δεν υπάρχουν στοιχεία", "Θεσσαλονίκη", "Μαρία"),
        ("cp1253", "iso-8859-7"),
    ),
    "turkish": (
        ("ödeme yapıldı, teşekkürler", "Işıl Yılmaz", "İstanbul", "değişiklik yok, ğüzel", "Çağlar", "Eskişehir"),
        ("cp1254", "iso-8859-9"),
    ),
    "japanese": (
        ("東京都新宿区", "山田太郎", "大阪府大阪市のビル", "カタカナです", "佐藤花子", "お支払い済み"),
        ("shift_jis", "euc_jp"),
    ),
    "chinese": (
        ("北京市朝阳区建国路", "张伟", "上海市浦东新区", "广东省深圳市", "李娜", "已付款"),
        ("gb18030",),
    ),
    "korean": (
        ("서울특별시 강남구", "김철수", "부산광역시 해운대구", "지불 완료", "이영희", "확인 필요"),
        ("euc_kr",),
    ),
    "taiwanese": (
        ("臺北市信義區", "陳小明", "高雄市左營區", "已付款", "林美麗", "請確認"),
        ("big5",),
    ),
    "wide latin": (
        _LATIN,
        ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
    ),
    "wide japanese": (
        ("東京都新宿区", "山田太郎", "大阪府大阪市のビル", "カタカナです"),
        ("utf-16", "utf-16-le", "utf-16-be"),
    ),
}

_NAMES = ("id", "name", "city", "code", "amount", "born", "note")
_PEOPLE = ("Anna Berg", "Bob Stone", "Carla Diaz", "Dan Brown", "Eva Long", "Finn O'Hara", "Gina Rossi", "Hugo Blum")
_CITIES = ("Rome", "Oslo", "New York", "Lima", "Bonn", "Quito", "Paris", "Accra")
_NOTES = ("paid", "open", "see letter of May", "call back", "late, but paid", "moved; new address", "ok | checked", "")


def polluted_files(seed: int) -> Iterator[PollutedFile]:
    """One file of each kind of damage."""
    for make in (
        _dialects,
        _line_ends,
        _quotes,
        _separators,
        _headers,
        _around,
        _encodings,
        _sizes,
        _contents,
    ):
        for file in make(random.Random(f"{make.__name__}-{seed}"), seed):
            yield dataclasses.replace(file, name=f"{file.kind} {seed}")


def table(rng: random.Random, n_rows: int = 24, notes: Row = _NOTES) -> list[Row]:
    """Records of the plain table: an id, texts, a code, an exact amount, a date, a note."""
    return [
        (
            str(number),
            rng.choice(_PEOPLE),
            rng.choice(_CITIES),
            f"K{rng.randrange(100, 99999):06d}",
            f"{rng.randrange(1, 9999)}.{rng.randrange(100):02d}",
            f"{rng.randrange(1950, 2020)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 28):02d}",
            rng.choice(notes),
        )
        for number in range(1, n_rows + 1)
    ]


def written(rows: list[Row], given: GivenDialect, quoting: int = csv.QUOTE_MINIMAL) -> str:
    """The rows as the csv module writes them."""
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=given.delimiter,
        quotechar=given.quote or None,
        quoting=csv.QUOTE_NONE if not given.quote else quoting,
        doublequote=given.escape == "doubled",
        escapechar="\\" if given.escape == "backslash" else None,
        lineterminator={"lf": "\n", "crlf": "\r\n", "cr": "\r", "any": "\n"}[given.line_end],
    )
    writer.writerows(rows)
    return text.getvalue()


def _file(
    kind: str,
    rows: list[Row],
    given: GivenDialect = GivenDialect(),
    header: Row | None = _NAMES,
    quoting: int = csv.QUOTE_MINIMAL,
) -> PollutedFile:
    lines = [header, *rows] if header and given.header_lines else rows
    data = written(list(lines), given, quoting).encode(given.encoding)
    return PollutedFile(kind, "", data, header if given.header_lines else None, tuple(rows), given=given)


def _long_delimited(kind: str, rows: list[Row], given: GivenDialect, quote_all: bool) -> PollutedFile:
    """The rows with a delimiter that the csv module cannot write; cells with any part of it are quoted."""

    def cell(text: str) -> str:
        quoted = quote_all or any(sign in text for sign in (*(set(given.delimiter) - {" "}), '"', "\n"))
        return '"' + text.replace('"', '""') + '"' if quoted else text

    data = "".join(given.delimiter.join(map(cell, row)) + "\n" for row in [_NAMES, *rows]).encode(given.encoding)
    return PollutedFile(kind, "", data, _NAMES, tuple(rows), given=given)


def _dialects(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    for name, delimiter in DELIMITERS.items():
        given = GivenDialect(delimiter=delimiter)
        notes = (f"with {delimiter} inside", f'the "{delimiter}" again', "plain", "two\nlines", "")
        if delimiter == " ":
            notes = ("with blanks inside", 'a "quoted" word', "plain", "none")
        yield _file(f"delimiter {name}", table(rng, notes=notes), given)
        yield _file(f"delimiter {name}, all quoted", table(rng, notes=notes), given, quoting=csv.QUOTE_ALL)
    for name, delimiter in DELIMITERS.items():
        if delimiter != " ":
            plain = table(rng, notes=("plain", "other"))
            yield _file(f"delimiter {name}, nothing quoted", plain, GivenDialect(delimiter=delimiter))
    for delimiter in LONG_DELIMITERS:
        given = GivenDialect(delimiter=delimiter)
        notes = (f"with {delimiter} inside", f"half {delimiter[:1]}of it", 'say "hello"', "plain", "two\nlines", "")
        for kind, every in (("", False), (", all quoted", True)):
            rows = table(rng, notes=notes)
            yield _long_delimited(f"delimiter {delimiter!r}{kind}", rows, given, every)
        yield _long_delimited(
            f"delimiter {delimiter!r}, nothing quoted", table(rng, notes=("plain", "other")), given, False
        )
    for delimiter in "§¦":
        given = GivenDialect(delimiter=delimiter, encoding="iso-8859-1")
        yield _long_delimited(
            f"delimiter {delimiter!r} in iso-8859-1", table(rng, notes=("plain", "other")), given, False
        )
    for delimiter in ",;\t|":
        given = GivenDialect(delimiter=delimiter, quote="'")
        rows = table(rng, notes=(f"with {delimiter} inside", "it's here", "plain"))
        yield _file(f"quote apostrophe, delimiter {delimiter!r}", rows, given)
        yield _file(f"quote apostrophe, delimiter {delimiter!r}, all quoted", rows, given, quoting=csv.QUOTE_ALL)
        escaped = GivenDialect(delimiter=delimiter, escape="backslash")
        rows = table(rng, notes=(f"with {delimiter} inside", 'say "hello" twice', "a back\\slash", "plain"))
        yield _file(f"escape backslash, delimiter {delimiter!r}", rows, escaped, quoting=csv.QUOTE_ALL)
        rows = table(rng, notes=("C:\\dir\\", 'say "hello" twice', "plain"))
        doubled = GivenDialect(delimiter=delimiter)
        yield _file(f"plain backslashes, delimiter {delimiter!r}", rows, doubled, quoting=csv.QUOTE_ALL)
    bare = GivenDialect(delimiter="\t", quote="")
    rows = table(rng, notes=("5 inch", "plain"))
    rows = [(*row[:6], '"5 inch' if number % 3 == 0 else row[6]) for number, row in enumerate(rows)]
    data = "".join("\t".join(row) + "\n" for row in [_NAMES, *rows]).encode()
    yield PollutedFile("no quote, opening inch marks", "", data, _NAMES, tuple(rows), given=bare)
    rows = [(*row[:6], '5" pipe' if number % 3 == 0 else row[6]) for number, row in enumerate(rows)]
    data = "".join("\t".join(row) + "\n" for row in [_NAMES, *rows]).encode()
    yield PollutedFile("no quote, inch marks inside", "", data, _NAMES, tuple(rows), given=bare)


def _line_ends(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    notes = ("two\nlines", "a, b", "plain")
    for name in LINE_ENDS:
        yield _file(f"line end {name}", table(rng), GivenDialect(line_end=name))
        rows = table(rng, notes=("a, b", "plain") if name == "cr" else notes)
        yield _file(f"line end {name}, all quoted", rows, GivenDialect(line_end=name), quoting=csv.QUOTE_ALL)
    base = _file("", table(rng, notes=("a, b", "plain")))
    lines = base.data.splitlines()
    for kind, ends in {
        "lf and crlf": (b"\n", b"\r\n"),
        "lf and cr": (b"\n", b"\r"),
        "cr and crlf": (b"\r", b"\r\n"),
        "lf, cr and crlf": (b"\n", b"\r", b"\r\n"),
    }.items():
        data = b"".join(line + ends[number % len(ends)] for number, line in enumerate(lines))
        given = GivenDialect(line_end="lf" if kind == "lf and crlf" else "any")
        yield dataclasses.replace(base, kind=f"line ends {kind}", data=data, given=given)
    yield dataclasses.replace(base, kind="no line end at the end", data=base.data.rstrip())
    yield dataclasses.replace(base, kind="two line ends at the end", data=base.data + b"\n")
    gaps = b"".join(line + (b"\n\n" if number % 5 == 0 else b"\n") for number, line in enumerate(lines))
    yield dataclasses.replace(base, kind="blank lines", data=gaps)
    yield dataclasses.replace(base, kind="blank lines before the header", data=b"\n\n" + base.data)


def _quotes(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    rows = table(rng, notes=("a, b", "two\nlines", "plain"))
    at = rng.randrange(8, 16)
    for style, quoting in {"few": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL}.items():
        base = _file("", rows, quoting=quoting)
        before, record, after = _cut(rows, at, quoting)
        quoted_city = f'"{rows[at][2]}"'
        city = quoted_city if style == "all" else rows[at][2]
        for kind, damaged in {
            "extra quote before a cell": record.replace(f",{city},", f',"{city},', 1),
            "extra quote behind a cell": record.replace(f",{city},", f',{city}",', 1),
            "extra quote inside a cell": record.replace(f",{city},", f',{city[:-2]}"{city[-2:]},', 1),
            "quotes around a word inside": record.replace(f",{city},", f',"A "Q" {rows[at][2]}",', 1),
            "missing closing quote": record.replace(f",{city},", f',"{rows[at][2]},', 1),
            "missing opening quote": record.replace(f",{city},", f',{rows[at][2]}",', 1),
        }.items():
            data = (before + damaged + after).encode()
            truth = list(rows)
            # A quote inside an unquoted cell is text: the bytes say so, and so does every dialect.
            if kind == "missing opening quote" or (style == "few" and kind == "extra quote behind a cell"):
                truth[at] = (*rows[at][:2], rows[at][2] + '"', *rows[at][3:])
            if style == "few" and kind == "extra quote inside a cell":
                truth[at] = (*rows[at][:2], f'{city[:-2]}"{city[-2:]}', *rows[at][3:])
            if kind == "quotes around a word inside":
                truth[at] = (*rows[at][:2], f'A "Q" {rows[at][2]}', *rows[at][3:])
            yield dataclasses.replace(base, kind=f"{kind}, {style} quoted", data=data, rows=tuple(truth), damaged=1)
    base = _file("", rows)
    open_end = base.data + b'99,Zed,Oslo,000001,1.00,2000-01-01,"never closed'
    last = ("99", "Zed", "Oslo", "000001", "1.00", "2000-01-01", "never closed")
    yield dataclasses.replace(base, kind="last quote never closed", data=open_end, rows=(*rows, last), damaged=1)


def _separators(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    rows = table(rng)
    for delimiter in ",;":
        given = GivenDialect(delimiter=delimiter)
        base = _file("", rows, given)
        at = rng.randrange(6, 18)
        before, _, after = _cut(rows, at, csv.QUOTE_MINIMAL, given)
        cells = [cell.rstrip("\n") for cell in _cells(rows[at], given)]
        for kind, parts in {
            "missing separator": [cells[0] + cells[1], *cells[2:]],
            "extra separator inside": [*cells[:3], "", *cells[3:]],
            "extra separator at the end": [*cells, ""],
            "fewer cells": cells[:4],
            "more cells": [*cells, "x", "y"],
            "one cell": [cells[1]],
        }.items():
            data = (before + delimiter.join(parts) + "\n" + after).encode()
            yield dataclasses.replace(base, kind=f"{kind}, delimiter {delimiter!r}", data=data, damaged=1)
        first = [delimiter.join([*_cells(rows[0], given), "x"]) + "\n"]
        data = (written([_NAMES], given) + "".join(first) + written(rows[1:], given)).encode()
        yield dataclasses.replace(
            base, kind=f"more cells in the first row, delimiter {delimiter!r}", data=data, damaged=1
        )
        shorter = [(*row[:6],) for row in rows]
        ragged = written([_NAMES[:6]], given) + written(shorter, given).replace("\n", delimiter + "\n")
        data = ragged.encode()
        yield PollutedFile(
            f"separator at every row's end, delimiter {delimiter!r}",
            "",
            data,
            _NAMES[:6],
            tuple(shorter),
            damaged=len(shorter),
            given=given,
        )


def _headers(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    rows = table(rng)
    yield _file("no header", rows, GivenDialect(header_lines=0))
    yield _file("no header, all quoted", rows, GivenDialect(header_lines=0), quoting=csv.QUOTE_ALL)
    yield _file("header only", [], GivenDialect())
    yield _file("one row", rows[:1])
    texts = [row[1:3] for row in rows]
    yield _file("all text", texts, header=("person", "town"))
    double = ("person", "person", "address", "", "money", "dates", "other")
    joined = ("person id", "person name", "address city", "code", "money amount", "dates born", "other note")
    base = _file("", rows)
    first = written([double], GivenDialect()).encode()
    given = GivenDialect(header_lines=2)
    yield dataclasses.replace(base, kind="double header", data=first + base.data, header=joined, given=given)
    numbers = [(row[0], row[4], str(number * 7), row[5]) for number, row in enumerate(rows, start=1)]
    names, units = ("time", "weight", "height", "day"), ("s", "kg", "cm", "ISO")
    data = written([names, units, *numbers], GivenDialect()).encode()
    joined = tuple(f"{name} {unit}" for name, unit in zip(names, units, strict=True))
    yield PollutedFile("units row", "", data, joined, tuple(numbers), given=given)
    repeated = [*_NAMES[:5], "name", ""]
    data = written([tuple(repeated), *rows], GivenDialect()).encode()
    yield PollutedFile("repeated and empty names", "", data, None, tuple(rows))
    spaced = tuple(f" {name} " for name in _NAMES)
    yield dataclasses.replace(base, kind="blanks around names", data=written([spaced, *rows], GivenDialect()).encode())


def _around(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    rows = table(rng)
    for delimiter in ",;":
        given = GivenDialect(delimiter=delimiter)
        base = _file("", rows, given)
        for kind, text in {
            "preamble of one line": "Report of all customers\n",
            "preamble and a blank line": "Report of all customers\nmade by hand\n\n",
            "preamble with separators": f"Report{delimiter}{delimiter}{delimiter}{delimiter}{delimiter}{delimiter}\n",
            "preamble of names and values": f"Author{delimiter}Anna Berg\nDate{delimiter}2024-05-01\n\n",
            "comments before the header": "# customers\n# all of them\n",
            "comment with separators": "# all customers" + delimiter * 6 + "\n",
            "licence in comments": f"# Licensed to you{delimiter} as it is\n#\n# see the file{delimiter} or ask\n",
            "sep line": f"sep={delimiter}\n",
        }.items():
            yield dataclasses.replace(
                base,
                kind=f"{kind}, delimiter {delimiter!r}",
                data=text.encode() + base.data,
                given=dataclasses.replace(given, skip_lines=text.count("\n")),
            )
        for kind, text in {
            "footer of one line": "End of report\n",
            "footer behind a blank line": "\nSource: the registry\nAll rights reserved\n",
            "footer without line end": "\nSource: the registry",
            "row of totals": delimiter.join(("Total", "", "", "", "99999.99", "", "")) + "\n",
            "count of rows": "(24 rows)\n",
        }.items():
            yield dataclasses.replace(
                base,
                kind=f"{kind}, delimiter {delimiter!r}",
                data=base.data + text.encode(),
                given=dataclasses.replace(given, footer_lines=len(text.splitlines())),
                extra=len(text.split()) and sum(bool(line) for line in text.splitlines()),
            )
        lines = base.data.decode().splitlines(keepends=True)
        commented = "".join(line + ("# checked\n" if number % 6 == 2 else "") for number, line in enumerate(lines))
        yield dataclasses.replace(
            base,
            kind=f"comments between the records, delimiter {delimiter!r}",
            data=commented.encode(),
            given=dataclasses.replace(given, comment="#"),
        )
        title = "Report of all customers\n\n"
        end = "\nSource: the registry\n"
        yield dataclasses.replace(
            base,
            kind=f"preamble and footer, delimiter {delimiter!r}",
            data=title.encode() + base.data + end.encode(),
            given=dataclasses.replace(given, skip_lines=2, footer_lines=2),
            extra=1,
        )
    few = _file("", rows[:3])
    everything = written([rows[0]], GivenDialect()) + "# checked\n" + written(rows[1:3], GivenDialect())
    everything = (
        "Report\n\n" + written([_NAMES], GivenDialect()) + everything + "Total,,,,9.99,,\n\nSource: the registry\n"
    )
    given = GivenDialect(comment="#", skip_lines=2, footer_lines=3)
    yield dataclasses.replace(few, kind="all of these around three rows", data=everything.encode(), given=given)
    base = _file("", rows)
    second = [(row[0], row[2]) for row in table(rng, 5)]
    data = base.data + b"\n" + written([("id", "town"), *second], GivenDialect()).encode()
    yield dataclasses.replace(base, kind="two tables, the second is narrower", data=data, extra=6)
    wider = [(*row, "x", "y") for row in table(rng, 5)]
    data = base.data + b"\n" + written([(*_NAMES, "p", "q"), *wider], GivenDialect()).encode()
    yield dataclasses.replace(base, kind="two tables, the second is wider", data=data, extra=6)


def _encodings(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    for language, (texts, encodings) in _LANGUAGES.items():
        for encoding in encodings:
            rows = table(rng, notes=texts)
            rows = [(*row[:1], rng.choice(texts), *row[2:]) for row in rows]
            given = GivenDialect(encoding=encoding, delimiter=rng.choice(",;\t"))
            yield _file(f"{language} in {encoding}", rows, given)
    marked = _file("", table(rng, notes=_LATIN), GivenDialect(encoding="utf-8"))
    for encoding, mark in {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}.items():
        data = mark + marked.data.decode().encode(encoding)
        given = GivenDialect(encoding=encoding.removesuffix("-be"))
        yield dataclasses.replace(marked, kind=f"{encoding} with mark", data=data, given=given)


def _sizes(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    yield PollutedFile("empty", "", b"", None, (), given=GivenDialect(header_lines=0))
    yield PollutedFile("one line end", "", b"\n", None, (), given=GivenDialect(header_lines=0))
    numbers = [(str(rng.randrange(10**6)),) for _ in range(20)]
    yield _file("one column of numbers", numbers, header=("number",))
    words = [(rng.choice(_PEOPLE),) for _ in range(20)]
    yield _file("one column of text", words, header=("person",))
    lines = [(rng.choice(("late, but paid", "open", "a, b, c", "well; done")),) for _ in range(20)]
    yield _file("one column of quoted prose", lines, header=("remark",), quoting=csv.QUOTE_ALL)
    wide = [tuple(str(rng.randrange(1000)) for _ in range(10_000)) for _ in range(3)]
    yield _file("10,000 columns", wide, header=tuple(f"c{n}" for n in range(10_000)))
    yield _file("two columns", [(row[0], row[6]) for row in table(rng)], header=("id", "note"))


def _contents(rng: random.Random, seed: int) -> Iterator[PollutedFile]:
    rows = table(rng, notes=("a\0b", "\0", "plain", "pl\0ain"))
    yield _file("NUL characters", rows)
    notes = ("x" * 5000, "a, b", "", "many\nlines\nin\none\ncell")
    yield _file("long and broken cells", table(rng, notes=notes))
    late = [*table(rng, 3000)]
    late.append(("x7", "Anna Berg", "Rome", "A00501", "n/a", "unknown", "late misfits"))
    yield _file("types that change in the last row", late)
    yield _file("separators inside cells", table(rng, notes=("1,2;3|4\t5", "a;b;c", "x|y", ",,,", ";;")))
    decimals = [(row[0], row[4].replace(".", ","), row[4].replace(".", ",")) for row in table(rng)]
    yield _file("decimal commas", decimals, GivenDialect(delimiter=";"), header=("id", "price", "tax"))
    times = [(row[0], f"{row[5]} 10:{rng.randrange(10, 60)}:00", row[2]) for row in table(rng)]
    yield _file("times", times, header=("id", "at", "place"))
    codes = [(*row[:3], f"{rng.randrange(100, 99999):06d}", *row[4:]) for row in table(rng)]
    yield _file("codes with leading zeros", codes)
    rows = [tuple(f"  {cell} " if column == 2 else cell for column, cell in enumerate(row)) for row in table(rng)]
    yield _file("blanks around cells", rows)


def _cells(row: Row, given: GivenDialect) -> list[str]:
    return [written([(cell,)], given).removesuffix("\n") if cell else "" for cell in row]


def _cut(rows: list[Row], at: int, quoting: int, given: GivenDialect = GivenDialect()) -> tuple[str, str, str]:
    """The file's text before one record, the record, and the text behind it."""
    before = written([_NAMES, *rows[:at]], given, quoting)
    return before, written([rows[at]], given, quoting), written(rows[at + 1 :], given, quoting)
