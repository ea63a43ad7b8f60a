"""What is declared of how a table's files are written."""

from __future__ import annotations

import dataclasses

from beam_etl.model import MOST_DELIMITER_BYTES, Escape, LineEnd, OnRagged
from beam_etl.sources.encoding import canonical_encoding, is_transparent


@dataclasses.dataclass(frozen=True)
class DeclaredDialect:
    """What is declared of a file's writing; None or () is detected.

    Attributes:
      encoding: any Python text codec.
      delimiter, quote, escape, line_end, comment: as in Dialect; the delimiter is one that the encoding can write.
      header: whether the first record names the columns.
      columns: the columns' names, in order.
      skip_lines: physical lines before the header, or before the first record where there is no header.
      footer_lines: physical lines behind the last record, blank ones included.
      on_ragged: what becomes of a record with more or fewer fields than there are columns.
    """

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None
    escape: Escape | None = None
    header: bool | None = None
    columns: tuple[str, ...] = ()
    line_end: LineEnd | None = None
    comment: str | None = None
    skip_lines: int | None = None
    footer_lines: int | None = None
    on_ragged: OnRagged = "reject"

    def __post_init__(self) -> None:
        if self.encoding is not None:
            canonical_encoding(self.encoding)
        used: dict[str, str] = {"\n": "line end", "\r": "line end"}
        for field in ("delimiter", "quote", "comment"):
            value = getattr(self, field)
            if value is None or (not value and field != "delimiter"):
                continue
            if field == "delimiter":
                self._check_delimiter(value)
            elif len(value) != 1 or not value.isascii() or value in "\r\n":
                raise ValueError(f"{field} {value!r}: must be one ASCII character and no line end")
            if value in used:
                raise ValueError(f"{used[value]} and {field} are both {value!r}; declare different characters")
            used |= dict.fromkeys(value, field)
        if self.escape == "backslash" and "\\" in used:
            raise ValueError(f"{used[chr(92)]} holds a backslash, which is the escape; declare different characters")
        for field in ("skip_lines", "footer_lines"):
            if (getattr(self, field) or 0) < 0:
                raise ValueError(f"{field} {getattr(self, field)}: must be 0 lines or more")

    def _check_delimiter(self, delimiter: str) -> None:
        """One character or several, which the declared encoding can write; UTF-8 where none is declared."""
        if not delimiter or {"\n", "\r"} & set(delimiter):
            raise ValueError(f"delimiter {delimiter!r}: must be one character or several and hold no line end")
        encoding = canonical_encoding(self.encoding) if self.encoding else "utf-8"
        try:
            size = len(delimiter.encode(encoding if is_transparent(encoding) else "utf-8"))
        except UnicodeEncodeError:
            raise ValueError(
                f"delimiter {delimiter!r} cannot be written in {encoding}, the declared encoding"
            ) from None
        if size > MOST_DELIMITER_BYTES:
            raise ValueError(f"delimiter {delimiter!r} has {size} bytes; {MOST_DELIMITER_BYTES} are the most")
