"""A planned file in; how it is written and where its plain bytes are, or why it cannot be loaded, out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from beam_etl.model import Dialect, InspectedFile, Reject, SkippedRange, SourceFile
from beam_etl.reading.boundaries import first_record_start
from beam_etl.sources.archives import ArchiveError, SourceReadError, container_of, plain_blocks
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.dialect import DetectedDialect, detect
from beam_etl.sources.encoding import Encoding, detect_encoding, is_transparent
from beam_etl.sources.staging import SourceChangedError, check_version, stage_plain, unpacked_archive
from beam_etl.sources.table_extent import find_footer, footer_of_lines
from beam_etl.storage import FileStat, join_path, retry_transient, storage_for

# The head is read again, longer, only while its first record does not end in it.
HEAD_BYTES = (256 << 10, 4 << 20)
WINDOW_BYTES = 64 << 10
WINDOWS = 16
# The end of a file, where a footer is looked for, and the stretch before it in which the automaton comes to be certain.
TAIL_BYTES = 4 << 10
BEFORE_TAIL_BYTES = 4 << 10


@dataclasses.dataclass(frozen=True)
class _PlainFile:
    """Plain bytes that can be read at any place.

    Attributes:
      path, stat: where they are, and their size and version.
      high_byte: offset of the first byte that is not ASCII, -1 for none, None where nobody has looked.
      windows: samples from all over a file whose head is pure ASCII: an accent far inside tells its encoding.
    """

    path: str
    stat: FileStat
    high_byte: int | None
    windows: tuple[bytes, ...] = ()


def inspect_file(source: SourceFile, declared: DeclaredDialect, staging_dir: str) -> InspectedFile | Reject:
    """Finds out how a file is written; unpacks and rewrites it where the kernels could not read it as it is.

    Retry story: may run any number of times, also at once; staging has one result (staging.stage_plain), and the rest
    is a function of the bytes.

    Args:
      staging_dir: where plain copies go; it belongs to one plan.

    Returns:
      The inspected file. An empty one has no columns and its body starts at its end. A file that cannot be loaded is a
      reject with record 0 and code corrupt_file, unreadable_file, changed_file or record_too_long.
    """
    try:
        return _inspect(source, declared, staging_dir)
    except ArchiveError as error:
        return _reject(source, error.code, error.reason)
    except SourceReadError as error:
        return _reject(source, "unreadable_file", f"cannot be read: {error.strerror or error}")
    except SourceChangedError as error:
        return _reject(source, "changed_file", str(error))


@retry_transient
def _inspect(source: SourceFile, declared: DeclaredDialect, staging_dir: str) -> InspectedFile | Reject:
    plain, declared = _plain_file(source, declared, staging_dir)
    found = _detect(plain, declared)
    if not found.complete:
        reason = f"the first record does not end within {HEAD_BYTES[-1] >> 20} MiB, so the columns cannot be told"
        return _reject(source, "record_too_long", f"{reason}; declare delimiter, quote and columns")
    footer, reason = _footer(plain, found, declared)
    skipped = (SkippedRange(footer, plain.stat.size_bytes, reason),) if footer < plain.stat.size_bytes else ()
    return InspectedFile(
        source=source,
        path=plain.path,
        path_bytes=plain.stat.size_bytes,
        path_version=plain.stat.version,
        dialect=found.dialect,
        body_start=found.body_start,
        columns=found.columns,
        header_lines=found.header_lines,
        footer_bytes=plain.stat.size_bytes - footer,
        skipped=(*found.skipped, *skipped),
        doubtful_header_lines=found.doubtful_header_lines,
        confidence=found.confidence,
        evidence=(*found.evidence, *(f"skipped: {part.reason}" for part in skipped)),
        on_ragged=declared.on_ragged,
    )


def _plain_file(source: SourceFile, declared: DeclaredDialect, staging_dir: str) -> tuple[_PlainFile, DeclaredDialect]:
    """The source's plain, ASCII-transparent bytes, and what is declared of them."""
    stat = check_version(source)
    source = unpacked_archive(source, staging_dir)
    head = _source_head(source, stat)
    inner = container_of("", len(head), head)
    if inner != "none":
        where = "holds" if source.container != "none" else "is"
        raise ArchiveError("corrupt_file", f"{where} a {inner} file, which is not unpacked here; unpack it first")
    is_whole = len(head) < HEAD_BYTES[0]
    undecided = not is_whole and declared.encoding is None and head.isascii()
    plain = _PlainFile(source.uri, stat, None)
    if undecided and source.container == "none":
        plain = _with_windows(plain)
    rewrite = _rewrite(head, is_whole, declared, plain.windows)
    if source.container == "none" and rewrite is None:
        return plain, declared
    if rewrite is None:
        plain = _staged(source, staging_dir, None)
        if undecided:
            plain = _with_windows(plain)
            rewrite = _rewrite(head, is_whole, declared, plain.windows)
            staging_dir = join_path(staging_dir, "rewritten")
    if rewrite is None:
        return plain, declared
    return _staged(source, staging_dir, rewrite), dataclasses.replace(declared, encoding="utf-8")


def _rewrite(head: bytes, is_whole: bool, declared: DeclaredDialect, windows: Sequence[bytes]) -> Encoding | None:
    """The encoding that a file must be rewritten from; None where the kernels can read it."""
    encoding = detect_encoding(head, is_whole, declared.encoding, windows)
    return None if is_transparent(encoding.name) else encoding


def _staged(source: SourceFile, staging_dir: str, rewrite: Encoding | None) -> _PlainFile:
    staged = stage_plain(source, staging_dir, rewrite=rewrite)
    stat = storage_for(staged.path).stat(staged.path)
    if stat is None:
        raise FileNotFoundError(f"{staged.path} was deleted while the load was running")
    return _PlainFile(staged.path, stat, staged.high_byte)


def _source_head(source: SourceFile, stat: FileStat) -> bytes:
    if source.container == "none":
        return _read(_PlainFile(source.uri, stat, None), 0, HEAD_BYTES[0])
    head = b""
    for block in plain_blocks(source):
        head += block
        if len(head) >= HEAD_BYTES[0]:
            break
    return head[: HEAD_BYTES[0]]


def _detect(plain: _PlainFile, declared: DeclaredDialect) -> DetectedDialect:
    for head_bytes in HEAD_BYTES:
        head = _read(plain, 0, head_bytes)
        is_whole = len(head) == plain.stat.size_bytes
        if not plain.windows and not is_whole and declared.encoding is None and head.isascii():
            plain = _with_windows(plain)
        found = detect(head, declared, is_whole, plain.windows)
        if found.complete or is_whole:
            break
    return found


def _footer(plain: _PlainFile, found: DetectedDialect, declared: DeclaredDialect) -> tuple[int, str]:
    """Where the records end, and why they do not go on to the end of the file."""
    size = plain.stat.size_bytes
    if not found.columns or declared.footer_lines == 0:
        return size, ""
    start = max(found.body_start, size - BEFORE_TAIL_BYTES - TAIL_BYTES)
    data = _read(plain, start, size - start)
    if declared.footer_lines is not None:
        at = start + footer_of_lines(data, declared.footer_lines)
        return at, f"footer: {declared.footer_lines} lines, as declared"
    certain = 0 if start == found.body_start else _record_start(data, found.dialect)
    if certain is None or len(found.columns) < 2:
        return size, ""
    footer = find_footer(data, found.dialect, len(found.columns), certain)
    return (start + footer[0], footer[1]) if footer else (size, "")


def _record_start(tail: bytes, dialect: Dialect) -> int | None:
    """Offset in the tail of a file at which a record starts, None where that is not certain.

    Without a quote in it, the tail is either plain lines or the inside of a quoted field that is never closed. Then the
    record is rejected wherever the body ends, so plain lines are assumed.
    """
    certain = first_record_start(np.frombuffer(tail, dtype=np.uint8), dialect, BEFORE_TAIL_BYTES)
    if certain is None and dialect.quote.encode() not in tail and dialect.escape != "backslash":
        line_end = tail.find(b"\r" if dialect.line_end == "cr" else b"\n", BEFORE_TAIL_BYTES)
        certain = line_end + 1 if line_end >= 0 else None
    return certain


def _with_windows(plain: _PlainFile) -> _PlainFile:
    if plain.high_byte is not None:
        windows = [_read(plain, plain.high_byte, WINDOW_BYTES)] if plain.high_byte >= 0 else []
    else:
        last = max(plain.stat.size_bytes - WINDOW_BYTES, 0)
        windows = [_read(plain, last * window // WINDOWS, WINDOW_BYTES) for window in range(1, WINDOWS + 1)]
    return dataclasses.replace(plain, windows=tuple(windows))


def _read(plain: _PlainFile, start: int, size_bytes: int) -> bytes:
    buffer = bytearray(min(size_bytes, plain.stat.size_bytes - start))
    try:
        got = storage_for(plain.path).read_range(plain.path, start, memoryview(buffer))
    except OSError as error:
        raise SourceReadError(error.errno, error.strerror or str(error)) from error
    if got != len(buffer):
        raise SourceChangedError(f"{plain.path}: shorter than the {plain.stat.size_bytes} bytes it had a moment ago")
    return bytes(buffer)


def _reject(source: SourceFile, code: str, reason: str) -> Reject:
    return Reject(
        file=source.uri,
        member=source.member,
        record=0,
        line=0,
        byte_start=0,
        byte_end=source.size_bytes if source.container == "none" else 0,
        column="",
        code=code,
        reason=reason,
        raw=b"",
    )
