"""Whether a file's first record names its columns, and the names that columns get."""

from __future__ import annotations

import re
from collections.abc import Sequence

from beam_etl.sources.sample_records import SampleRecord

# Numbers, dates and times in any notation, told from names by having digits and nothing but their usual company.
_VALUE = re.compile(rb"\s*[-+(]?[$]?[0-9.,][-+0-9.,:/ ]*(?:[eE][-+]?[0-9]+|[TZ%)][0-9:.+Z-]*)?\s*")
_NAME = re.compile(rb"\s*(?:[^\W\d]|[_#@$(\x80-\xff])[\w\x80-\xff .,:;/()\[\]%#$&@'?!+*<>=-]{0,127}\s*")
_MISSING = re.compile(rb"\s*(?:|-+|\.+|\?+|n/?a|nan|null|none|missing|unknown|#n/a|\\N)\s*", re.IGNORECASE)
_TOTAL = re.compile(
    rb"\s*(?:(?:grand|sub)[ -]?)?(?:totals?|totaux|totale|sum|summe|gesamt|suma|soma|somme)\s*:?\s*", re.IGNORECASE
)
_DIGIT = re.compile(rb"[0-9]")


def clean_names(names: Sequence[str]) -> tuple[str, ...]:
    """Column names from the cells of a header.

    Surrounding blanks and NUL characters go, runs of white space become one blank, case stays. An empty name becomes
    column_N, N its position from 1. Names that differ in case only count as equal, because most query engines say so;
    a later one of equal names gets _2, _3, ..., skipping names that the header itself holds.
    """
    cleaned = [" ".join(name.replace("\0", "").split()) for name in names]
    cleaned = [name or f"column_{position}" for position, name in enumerate(cleaned, start=1)]
    taken = {name.casefold() for name in cleaned}
    seen: dict[str, int] = {}
    unique = []
    for name in cleaned:
        key = name.casefold()
        count = seen.get(key, 0) + 1
        while count > 1 and f"{key}_{count}" in taken:
            count += 1
        seen[key] = count
        taken.add(key if count == 1 else f"{key}_{count}")
        unique.append(name if count == 1 else f"{name}_{count}")
    return tuple(unique)


def generated_names(count: int, declared: Sequence[str] = ()) -> tuple[str, ...]:
    """Names by position: the declared ones as far as they go, then column_N."""
    return clean_names([*declared[:count], *(f"column_{n}" for n in range(len(declared) + 1, count + 1))])


def names_columns(first: Sequence[str], declared: Sequence[str]) -> bool:
    """Whether at least half of a record's cells are declared column names; data hardly ever is."""
    known = {name.strip().casefold() for name in declared}
    return 2 * sum(cell.strip().casefold() in known for cell in first) >= len(first)


def spell_as_declared(names: Sequence[str], declared: Sequence[str]) -> list[str]:
    """The names of a header, with declared ones in their declared spelling, so that they meet in the schema."""
    spelling = {name.strip().casefold(): name for name in declared}
    return [spelling.get(name.strip().casefold(), name) for name in names]


def looks_like_header(records: Sequence[SampleRecord]) -> tuple[bool, str]:
    """Whether the first record is a header, with the reason, where nothing is declared.

    It is none if any cell is a number or a date. Else it is one if a column below holds only such values, or if
    all its cells are filled, distinct and look like names, and none of them is repeated in its column.
    """
    first, below = records[0].cells, [record.cells for record in records[1:]]
    values = [cell for cell in first if is_value(cell)]
    if values:
        return False, f"no header: the first record holds a value ({values[0][:20].decode('ascii', 'replace')})"
    if not any(cell.strip() for cell in first):
        return False, "no header: the first record is empty"
    columns = [[cells[place] for cells in below if place < len(cells) and cells[place]] for place in range(len(first))]
    for cell, column in zip(first, columns, strict=True):
        if cell and column and all(is_value(value) for value in column):
            return True, "header: a column of numbers or dates has a name above it"
    if len({cell.strip().lower() for cell in first}) < len(first) or not all(_NAME.fullmatch(cell) for cell in first):
        return False, "no header: the first record's cells are not distinct names"
    if any(cell in column for cell, column in zip(first, columns, strict=True)):
        return False, "no header: a cell of the first record occurs again in its column"
    return True, "header: the first record's cells are distinct names"


def names_value_columns(first: SampleRecord, below: Sequence[SampleRecord], least: int = 1) -> bool:
    """Whether a record without any value stands above `least` columns or more that hold only numbers or dates.

    A record of data would hold a value there, or one of the usual texts for a missing one; a header or a row of units
    holds a text in at least `least` of them.
    """
    if any(is_value(cell) for cell in first.cells):
        return False
    named = 0
    for place, cell in enumerate(first.cells):
        column = [record.cells[place] for record in below if place < len(record.cells) and record.cells[place]]
        if cell.strip() and column and all(is_value(value) for value in column):
            if _MISSING.fullmatch(cell):
                return False
            named += 1
    return named >= least


def join_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names from the cells of several header rows: for each column its different texts, joined by a blank."""
    width = max(map(len, rows))
    columns = [[row[place].strip() for row in rows if place < len(row)] for place in range(width)]
    return [" ".join(dict.fromkeys(filter(None, column))) for column in columns]


def is_value(cell: bytes) -> bool:
    """Whether a cell is a number, a date or a time."""
    return bool(_DIGIT.search(cell)) and bool(_VALUE.fullmatch(cell))


def is_total(cell: bytes) -> bool:
    """Whether a cell is a word for a total."""
    return _TOTAL.fullmatch(cell) is not None
