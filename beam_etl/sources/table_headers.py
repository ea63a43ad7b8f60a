"""Headers in doubt, and names that a file does not have, decided by the other files of the same table.

Where every column is text, a first record of distinct texts may be a header or a record. One file cannot tell; the
others can: a header is written in each file in the same words, a record is not.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from beam_etl.model import InspectedFile
from beam_etl.sources.header import generated_names


def unite_headers(files: Iterable[InspectedFile]) -> list[InspectedFile]:
    """The files of one table, in the order of the plan, with their headers decided together.

    - A header in doubt stays if another file has a column of the same name, or no other file is of the same width.
      Else it is a record.
    - A file without header takes the names of those with one, by position, where all of the same width agree.

    A pure function of the files, whatever their order.
    """
    ordered = sorted(files, key=lambda file: file.source.file_id)
    words = Counter(name for file in ordered if _has_header(file) for name in set(_names(file)))
    widths = Counter(len(file.columns) for file in ordered)
    decided = [_as_record(file) if _is_record(file, words, widths) else file for file in ordered]
    headers: dict[int, set[tuple[str, ...]]] = {}
    for file in decided:
        if _has_header(file):
            headers.setdefault(len(file.columns), set()).add(file.columns)
    return [_named(file, headers.get(len(file.columns), set())) for file in decided]


def _is_record(file: InspectedFile, words: Counter[str], widths: Counter[int]) -> bool:
    shared = any(words[name] > 1 for name in _names(file))
    return file.doubtful_header_lines > 0 and widths[len(file.columns)] > 1 and not shared


def _has_header(file: InspectedFile) -> bool:
    return any(part.reason == "header" for part in file.skipped)


def _names(file: InspectedFile) -> tuple[str, ...]:
    return tuple(name.casefold() for name in file.columns)


def _as_record(file: InspectedFile) -> InspectedFile:
    header = next(part for part in file.skipped if part.reason == "header")
    return dataclasses.replace(
        file,
        body_start=header.start,
        header_lines=file.header_lines - file.doubtful_header_lines,
        doubtful_header_lines=0,
        columns=generated_names(len(file.columns)),
        skipped=tuple(part for part in file.skipped if part is not header),
        evidence=(*file.evidence, "no header: no other file of the table has a column of such a name"),
    )


def _named(file: InspectedFile, headers: set[tuple[str, ...]]) -> InspectedFile:
    unnamed = not _has_header(file) and file.columns == generated_names(len(file.columns))
    if not unnamed or len(headers) != 1:
        return file
    evidence = (*file.evidence, "names by position from the header of another file of the table")
    return dataclasses.replace(file, columns=next(iter(headers)), evidence=evidence)
