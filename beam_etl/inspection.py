"""A planned file in; how it is written and where its plain bytes are, or why it cannot be loaded, out."""

from __future__ import annotations

import dataclasses

from beam_etl.archives import ArchiveError, SourceReadError, container_of, plain_blocks
from beam_etl.dialect import DeclaredDialect, DetectedDialect, detect
from beam_etl.encoding import detect_encoding, is_transparent
from beam_etl.model import InspectedFile, Reject, SourceFile
from beam_etl.staging import SourceChangedError, check_version, stage_plain
from beam_etl.storage import FileStat, retry_transient, storage_for

# The head is read again, longer, only while its first record does not end in it.
HEAD_BYTES = (256 << 10, 4 << 20)
WINDOW_BYTES = 64 << 10
WINDOWS = 16


@dataclasses.dataclass(frozen=True)
class _PlainFile:
    """Plain bytes that can be read at any place.

    Attributes:
      path, stat: where they are, and their size and version.
      high_byte: offset of the first byte that is not ASCII, -1 for none, None where nobody has looked.
    """

    path: str
    stat: FileStat
    high_byte: int | None


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
    return InspectedFile(
        source=source,
        path=plain.path,
        path_bytes=plain.stat.size_bytes,
        path_version=plain.stat.version,
        dialect=found.dialect,
        body_start=found.body_start,
        columns=found.columns,
        header_lines=found.header_lines,
    )


def _plain_file(source: SourceFile, declared: DeclaredDialect, staging_dir: str) -> tuple[_PlainFile, DeclaredDialect]:
    """The source's plain, ASCII-transparent bytes, and what is declared of them."""
    stat = check_version(source)
    head = _source_head(source, stat)
    inner = container_of("", len(head), head)
    if inner != "none":
        where = "holds" if source.container != "none" else "is"
        raise ArchiveError("corrupt_file", f"{where} a {inner} file, which is not unpacked here; unpack it first")
    encoding = detect_encoding(head, len(head) < HEAD_BYTES[0], declared.encoding)
    rewrite = None if is_transparent(encoding.name) else encoding
    if source.container == "none" and rewrite is None:
        return _PlainFile(source.uri, stat, None), declared
    staged = stage_plain(source, staging_dir, rewrite=rewrite)
    staged_stat = storage_for(staged.path).stat(staged.path)
    if staged_stat is None:
        raise FileNotFoundError(f"{staged.path} was deleted while the load was running")
    if rewrite:
        declared = dataclasses.replace(declared, encoding="utf-8")
    return _PlainFile(staged.path, staged_stat, staged.high_byte), declared


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
    windows: list[bytes] = []
    for head_bytes in HEAD_BYTES:
        head = _read(plain, 0, head_bytes)
        is_whole = len(head) == plain.stat.size_bytes
        if not windows and not is_whole and declared.encoding is None and head.isascii():
            windows = _windows(plain)
        found = detect(head, declared, is_whole, windows)
        if found.complete or is_whole:
            break
    return found


def _windows(plain: _PlainFile) -> list[bytes]:
    """Samples from all over a file whose head is pure ASCII: an accent far inside tells its encoding."""
    if plain.high_byte is not None:
        return [_read(plain, plain.high_byte, WINDOW_BYTES)] if plain.high_byte >= 0 else []
    last = max(plain.stat.size_bytes - WINDOW_BYTES, 0)
    return [_read(plain, last * window // WINDOWS, WINDOW_BYTES) for window in range(1, WINDOWS + 1)]


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
