"""Which table a file belongs to: by rule, by default, or by its name."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import re
from collections.abc import Callable, Sequence

_TEXT_EXTENSIONS = ("csv", "tsv", "psv", "tab", "txt", "dat", "data", "tbl", "del", "dsv", "asc")
_PACKED_EXTENSIONS = ("gz", "gzip", "bz2", "xz", "zst", "zstd", "zip", "tar", "tgz", "tbz", "tbz2", "txz", "tzst")
_EXTENSIONS = frozenset((*_TEXT_EXTENSIONS, *_PACKED_EXTENSIONS))
# What numbers one part of several, once punctuation is "_": orders_00001_of_00010, part_2024_01, empresas0.
_PART_NUMBER = re.compile(r"_?\d+(?:_?of_?\d+)?$")


@dataclasses.dataclass(frozen=True)
class TableRule:
    """Which files a table is made of.

    Attributes:
      name: the table.
      patterns: globs, or "re:<regex>" searched for; both without regard to case, on the base names of file and member
        and on the whole uri. One that matches is enough.

    Raises:
      ValueError: an expression is not valid.
    """

    name: str
    patterns: tuple[str, ...]

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            _matcher(pattern)

    def matches(self, names: Sequence[str]) -> bool:
        return any(_matcher(pattern)(name) for pattern in self.patterns for name in names)


def table_of(uri: str, member: str, rules: Sequence[TableRule], table: str | None) -> str:
    """The table of a file: of the first rule that matches, else the given one, else by its own name."""
    names = [base_name(member), base_name(uri), uri] if member else [base_name(uri), uri]
    for rule in rules:
        if rule.matches(names):
            return rule.name
    return table or table_name(names[0])


def table_name(name: str) -> str:
    """A table's name from a file's name.

    The base name is cut at its dots. Extensions, single letters and parts with more digits than letters (numbers,
    dates, release codes) are left out, then part numbers at the end of what remains; the rest is joined by "_" in
    lower case. Where nothing remains, the whole name stands.

        lineitem.1.csv -> lineitem               orders-00001-of-00010.csv.gz -> orders
        Empresas0.zip -> empresas                K3241.K03200Y0.D60808.EMPRECSV -> emprecsv
        part_2024-01.csv -> part                 F.K03200$W.SIMPLES.CSV.D60808 -> simples
        2024.csv -> 2024                         Order Lines (2).CSV -> order_lines
    """
    parts = [part for part in base_name(name).split(".") if part]
    named = [part for part in parts if part.lower() not in _EXTENSIONS]
    words = [part for part in named if not _is_code(part)]
    stem = _word("_".join(words))
    while (shorter := _PART_NUMBER.sub("", stem)) != stem:
        stem = shorter
    return _word(stem) or _word("_".join(named)) or _word("_".join(parts)) or "data"


def base_name(name: str) -> str:
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1]


def _is_code(part: str) -> bool:
    letters, digits = sum(c.isalpha() for c in part), sum(c.isdigit() for c in part)
    return letters + digits <= 1 or ("_" not in part and "-" not in part and digits > letters)


def _word(text: str) -> str:
    return re.sub(r"[\W_]+", "_", text).strip("_").lower()


@functools.lru_cache(maxsize=4096)
def _matcher(pattern: str) -> Callable[[str], re.Match[str] | None]:
    if not pattern.startswith("re:"):
        return re.compile(fnmatch.translate(pattern), re.IGNORECASE).match
    try:
        return re.compile(pattern.removeprefix("re:"), re.IGNORECASE).search
    except re.error as error:
        raise ValueError(f"pattern {pattern!r}: not a valid regular expression: {error}") from None
