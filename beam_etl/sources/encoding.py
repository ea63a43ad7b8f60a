"""In which encoding a file is written, and the rewriting of those encodings that the kernels cannot read.

The kernels look for delimiters byte by byte, so they read UTF-8 and one-byte encodings that contain ASCII. Everything
else (UTF-16, UTF-32, Shift-JIS, EBCDIC, ...) is rewritten as UTF-8 first.
"""

from __future__ import annotations

import codecs
import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Sequence

from beam_etl.sources.encoding_guess import guess_encoding

# Longest first where one begins with another.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_HIGH_BYTE = re.compile(rb"[\x80-\xff]")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_C1_BYTE = re.compile(rb"[\x80-\x9f]")
_OTHERWISE_IN_ISO_8859_15 = re.compile(rb"[\xa4\xa6\xa8\xb4\xb8\xbc-\xbe]")
_UNDEFINED_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
_LEADING_CONTINUATION = re.compile(rb"\A[\x80-\xbf]{1,3}")
# UTF-8 of ASCII text never holds NUL; in UTF-16 every second byte of it is NUL. Text with accents has a few less.
_NUL_SHARE = 0.4
_STRAY_NUL_SHARE = 0.05
_LEAST_NUL_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What is known of a file's encoding.

    Attributes:
      name: canonical codec name, never with a byte order mark ("utf-8", "utf-16-le", "iso-8859-1", "cp1252", ...).
      bom_bytes: length of the byte order mark at the start of the file, 0 without one.
      evidence: one sentence for a person.
    """

    name: str
    bom_bytes: int
    evidence: str


def canonical_encoding(name: str) -> str:
    """One name for each codec: "latin1" and "ISO_8859-1" are "iso-8859-1", "utf-8-sig" is "utf-8".

    Raises:
      ValueError: there is no such text encoding.
    """
    try:
        b"a".decode(name, "replace")
        codecs.getincrementaldecoder(name)(_ESCAPE).decode(b"a")
        found = codecs.lookup(name).name
    except (LookupError, UnicodeError):
        raise ValueError(f"unknown encoding {name!r}; use a name such as utf-8, iso-8859-1 or cp1252") from None
    return "utf-8" if found == "utf-8-sig" else re.sub(r"^iso8859-", "iso-8859-", found)


@functools.lru_cache(maxsize=256)
def is_transparent(name: str) -> bool:
    """Whether the kernels can read the encoding as it is: UTF-8, or one byte a character with ASCII in its place."""
    if name == "utf-8":
        return True
    ascii_bytes = bytes(range(128))
    if ascii_bytes.decode(name, "replace") != ascii_bytes.decode("ascii"):
        return False
    for byte in range(128, 256):
        decoder = codecs.getincrementaldecoder(name)("replace")
        if not decoder.decode(bytes([byte])):
            return False  # it waits for a second byte
    return True


def detect_encoding(head: bytes, is_whole: bool, declared: str | None, windows: Sequence[bytes] = ()) -> Encoding:
    """The encoding of a file.

    In order: what is declared; a byte order mark; the NUL pattern of UTF-16 and UTF-32; UTF-8 where more characters are
    valid UTF-8 than bytes are not (the few others become rejects rather than mojibake); what the text reads as, where
    that is beyond doubt (encoding_guess); cp1252 where bytes 0x80-0x9f appear and all are defined in it; ISO-8859-1.

    Args:
      head: the first bytes of the file; a character may be cut at its end.
      is_whole: head is the whole file.
      windows: samples from elsewhere in the file, cut anywhere; worth taking where head is pure ASCII.
    """
    mark, mark_bytes = next(((name, len(mark)) for mark, name in BYTE_ORDER_MARKS if head.startswith(mark)), ("", 0))
    if declared is not None:
        return _declared_encoding(head, canonical_encoding(declared), mark, mark_bytes)
    if mark:
        return Encoding(mark, mark_bytes, f"byte order mark of {mark}")
    wide = _wide_encoding(head)
    if wide:
        return Encoding(wide, 0, f"NUL bytes in the pattern of {wide}, without a byte order mark")
    samples = [head if is_whole else _without_cut_tail(head), *map(_without_cut_edges, windows)]
    return _narrow_encoding([sample for sample in samples if not sample.isascii()])


def transcode(blocks: Iterable[bytes], encoding: Encoding) -> Iterator[bytes]:
    """Rewrites a file's blocks as UTF-8 without a byte order mark.

    A byte b that the encoding does not allow becomes the lone surrogate U+DC00+b in UTF-8 form. No decoder yields lone
    surrogates and strict UTF-8 refuses them, so the record is rejected, and its original bytes can be told.
    """
    decoder = codecs.getincrementaldecoder(encoding.name)(_ESCAPE)
    mark_left = encoding.bom_bytes
    for block in blocks:
        skipped = min(mark_left, len(block))
        mark_left -= skipped
        text = decoder.decode(block[skipped:])
        if text:
            yield text.encode("utf-8", "surrogatepass")
    text = decoder.decode(b"", True)
    if text:
        yield text.encode("utf-8", "surrogatepass")


def first_high_byte(data: bytes) -> int:
    """Offset of the first byte that is not ASCII, -1 without one."""
    if data.isascii():
        return -1
    match = _HIGH_BYTE.search(data)
    return match.start() if match else -1


def _escape_undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


_ESCAPE = "beam_etl.escape_undecodable"
codecs.register_error(_ESCAPE, _escape_undecodable)


def _declared_encoding(head: bytes, name: str, mark: str, mark_bytes: int) -> Encoding:
    if name in ("utf-16", "utf-32"):
        found = mark if mark.startswith(name) else _wide_encoding(head)
        # Without any hint little-endian, as the WHATWG encoding standard has it and Windows writes it.
        name = found if found.startswith(name) else f"{name}-le"
    return Encoding(name, mark_bytes if name == mark else 0, "encoding declared")


def _wide_encoding(head: bytes) -> str:
    """UTF-32 or UTF-16 by the places of NUL bytes, "" for neither."""
    for width, name in ((4, "utf-32"), (2, "utf-16")):
        units = len(head) // width
        if units < 2:
            continue
        shares = [head[place : units * width : width].count(0) / units for place in range(width)]
        for order, high_to_low in (("le", shares[::-1]), ("be", shares)):
            *high, low = high_to_low
            # The top byte of UTF-32 is always NUL, the next one nearly so; of UTF-16 there is only one high byte.
            if low <= _STRAY_NUL_SHARE and high[-1] >= _NUL_SHARE and all(share > 0.95 for share in high[:-1]):
                return f"{name}-{order}"
    return _wide_by_line_ends(head)


def _wide_by_line_ends(head: bytes) -> str:
    """UTF-16 of a script without NUL bytes: those of its line ends and digits all stand in the same half of a unit."""
    even, odd = head[::2], head[1::2]
    for order, high, low in (("le", odd, even), ("be", even, odd)):
        if high.count(0) < _LEAST_NUL_BYTES or low.count(0):
            continue
        line_ends = [place for place, byte in enumerate(low) if byte in b"\r\n" and place < len(high)]
        if line_ends and all(high[place] == 0 for place in line_ends) and not any(byte in b"\r\n" for byte in high):
            return f"utf-16-{order}"
    return ""


def _narrow_encoding(samples: Sequence[bytes]) -> Encoding:
    if not samples:
        return Encoding("utf-8", 0, "only ASCII bytes found")
    text = "".join(sample.decode("utf-8", "surrogateescape") for sample in samples)
    invalid = len(_ESCAPED_BYTE.findall(text))
    valid = len(text) - len(text.encode("ascii", "ignore")) - invalid
    if invalid == 0:
        return Encoding("utf-8", 0, "valid UTF-8")
    if valid > invalid:
        return Encoding("utf-8", 0, f"mostly UTF-8: {valid} characters are valid, {invalid} bytes are not")
    guess = guess_encoding(samples)
    if guess is not None:
        name, confidence = guess
        return Encoding(
            canonical_encoding(name), 0, f"not UTF-8; the text reads as {name}, confidence {confidence:.2f}"
        )
    data = b"".join(samples)
    if _C1_BYTE.search(data) and not _UNDEFINED_IN_CP1252.search(data):
        return Encoding("cp1252", 0, "not UTF-8, and bytes 0x80-0x9f appear that only cp1252 uses for text")
    return Encoding("iso-8859-1", 0, f"not UTF-8; one byte a character{_euro_doubt(data)}")


def _euro_doubt(data: bytes) -> str:
    """What speaks for ISO-8859-15: nothing in the bytes tells its euro sign from the currency sign of ISO-8859-1."""
    count = len(_OTHERWISE_IN_ISO_8859_15.findall(data))
    if not count:
        return ""
    return (
        f"; {count} bytes are other characters in iso-8859-15 (such as \u20ac for \xa4): declare encoding if it is that"
    )


def _without_cut_tail(data: bytes) -> bytes:
    """Without the first bytes of a UTF-8 character that data ends in the middle of."""
    for length in range(1, min(4, len(data) + 1)):
        byte = data[-length]
        if byte >= 0xC0:
            needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2
            return data[:-length] if needed > length else data
        if byte < 0x80:
            return data
    return data


def _without_cut_edges(window: bytes) -> bytes:
    return _without_cut_tail(_LEADING_CONTINUATION.sub(b"", window))
