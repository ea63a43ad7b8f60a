"""Containers: which one a file is, the members of an archive, and its plain bytes, verified to the last one.

Nothing here trusts a file's name, and nothing is written at a name that comes from an archive.
"""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import errno
import functools
import gzip
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol, cast

import pyarrow as pa

from beam_etl.model import SourceFile
from beam_etl.sources.tar_members import BLOCK_BYTES, ForwardFile, TarMember, TarMemberReader, tar_members
from beam_etl.storage import storage_for

MAGIC_BYTES = 262  # the marks of every container lie within a file's first 262 bytes

# gzip: RFC 1952; bzip2: its header and a block or end mark; xz: file format 1.2.0; zstd: RFC 8878, with skippable
# frames; zip: APPNOTE 6.3.10, local header, empty archive or spanned archive; tar: POSIX.1-1988 (ustar).
_MAGIC = (
    ("gzip", re.compile(rb"\x1f\x8b\x08")),
    ("bz2", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)")),
    ("xz", re.compile(rb"\xfd7zXZ\x00")),
    ("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")),
    ("zip", re.compile(rb"PK(?:\x03\x04|\x05\x06|\x07\x08)")),
    ("tar", re.compile(rb".{257}ustar", re.DOTALL)),
)
_CONTAINER_OF_SUFFIX = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
_TAR_NAME = re.compile(r".*\.(?:tar|tar\.\w+|tgz|tbz2?|txz|tzst)", re.IGNORECASE)
_COMPRESSED = ("gzip", "bz2", "xz", "zstd")

_ENCRYPTED_FLAG = 0x1
_XZ_MEMORY_BYTES = 1 << 30  # `xz -9` needs 65 MiB to unpack; a damaged header can ask for anything
# What the parsers of the standard library and of Arrow raise for bytes that are not what they should be.
_DAMAGE = (
    EOFError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    UnicodeError,
    ValueError,
    lzma.LZMAError,
    pa.ArrowException,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


class ArchiveError(Exception):
    """A container cannot be unpacked. Its code is one of REJECT_CODES, its reason a sentence for a person."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class SourceReadError(OSError):
    """The operating system refused to open or read a source, unlike an error in writing its copy."""


@dataclasses.dataclass(frozen=True)
class UnpackLimits:
    """A file is refused as a bomb once its plain bytes exceed both limits.

    Attributes:
      max_ratio: plain bytes for each packed byte. Deflate cannot exceed 1032, and real tables stay below 100.
      max_bytes: plain bytes up to which any ratio is harmless.
    """

    max_ratio: int = 1000
    max_bytes: int = 1 << 30


DEFAULT_LIMITS = UnpackLimits()


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def container_of(name: str, size_bytes: int, head: bytes) -> str:
    """The container of a file ("none", "gzip", "bz2", "xz", "zstd", "zip" or "tar"), by its first MAGIC_BYTES bytes.

    The name counts in two cases only: an empty file with a packed file's name is a broken download, and so is anything
    called .zip or like a tar archive that does not begin like one (a saved error page, mostly). A plain file called .gz
    is simply plain.
    """
    for container, magic in _MAGIC:
        if magic.match(head):
            return container
    if _TAR_NAME.fullmatch(name):
        return "tar"
    promised = next((c for suffix, c in _CONTAINER_OF_SUFFIX.items() if name.lower().endswith(suffix)), "none")
    return promised if size_bytes == 0 or promised == "zip" else "none"


def is_archive(container: str) -> bool:
    """Whether it has members: zip, tar, and tar.gzip, tar.bz2, tar.xz and tar.zstd, which are compressed as a whole."""
    return container.startswith(("zip", "tar"))


def compressed_archive(source: SourceFile, name: str) -> str:
    """The container of a compressed file once its first plain bytes are seen: "tar.gzip" for a tar archive in gzip.

    Args:
      source: the file, its container as container_of tells it.
      name: its base name.

    Raises:
      SourceReadError: the file cannot be read.
    """
    if source.container not in _COMPRESSED:
        return source.container
    try:
        head = next(plain_blocks(source), b"")
    except ArchiveError:
        return source.container  # inspection finds the same and rejects the file for it
    return f"tar.{source.container}" if container_of(name, len(head), head[:MAGIC_BYTES]) == "tar" else source.container


def list_members(source: SourceFile) -> list[str]:
    """Names of the files in an archive, each once, in its order; directories, hidden files and __MACOSX left out.

    A zip archive has a directory. A tar archive is read through, and unpacked for it if it is compressed.

    Raises:
      ArchiveError: it cannot be read, or, of a compressed tar archive, is damaged anywhere or a bomb.
      SourceReadError: the file cannot be read.
    """
    return list(dict.fromkeys(name for name in member_bytes(source) if not _is_clutter(name)))


def member_bytes(source: SourceFile) -> dict[str, int]:
    """The files in an archive and how long they are, in its order. Raises as list_members."""
    if source.container != "zip":
        return {member.name: member.size_bytes for member in _tar_directory(_whole(source))}
    with contextlib.closing(_open_source(source.uri)) as raw, _sorted_faults(), zipfile.ZipFile(raw) as archive:
        return {info.filename: info.file_size for info in archive.infolist() if not info.is_dir()}


def plain_blocks(source: SourceFile, limits: UnpackLimits = DEFAULT_LIMITS) -> Iterator[bytes]:
    """The plain bytes of a source, in blocks of up to 1 MiB. Who reads to the end has checked every length and CRC.

    Raises (while iterating):
      ArchiveError: damaged, truncated, encrypted, unsupported, or a bomb.
      SourceReadError: the file cannot be read.
    """
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(contextlib.closing(_open_source(source.uri)))
        with _sorted_faults():
            stream = _open_container(source, raw, stack, limits)
        while True:
            with _sorted_faults():
                block = stream.read(BLOCK_BYTES)
            if not block:
                break
            yield block


def _open_source(uri: str) -> BinaryIO:
    try:
        return storage_for(uri).open_read(uri)
    except OSError as error:
        raise SourceReadError(error.errno, error.strerror or str(error)) from error


@contextlib.contextmanager
def _sorted_faults() -> Iterator[None]:
    """Sorts what parsers and the operating system raise: damage, or a failure to read."""
    try:
        yield
    except EOFError as error:
        raise ArchiveError("corrupt_file", "ends too early: truncated, or an incomplete download") from error
    except _DAMAGE as error:
        raise ArchiveError("corrupt_file", f"cannot be unpacked: {error}") from error
    except OSError as error:
        # Decompressors raise OSError too, but only the operating system gives it a number. EINVAL comes from an offset
        # in the archive's directory that no file can have.
        if error.errno in (None, errno.EINVAL):
            raise ArchiveError("corrupt_file", f"cannot be unpacked: {error}") from error
        raise SourceReadError(error.errno, error.strerror or str(error)) from error


def _open_container(source: SourceFile, raw: BinaryIO, stack: contextlib.ExitStack, limits: UnpackLimits) -> _Reader:
    """A reader of the plain bytes, within the limits."""
    if source.container == "zip":
        stream, packed_bytes = _open_zip_member(source.member, raw, stack)
        return _BoundedReader(stream, packed_bytes, limits)
    if is_archive(source.container):
        return _open_tar_member(source, raw, stack, limits)
    return _open_compressed(source.container, source.size_bytes, raw, stack, limits)


def _open_compressed(
    container: str, packed_bytes: int, raw: BinaryIO, stack: contextlib.ExitStack, limits: UnpackLimits
) -> _Reader:
    if container != "none" and packed_bytes == 0:
        raise ArchiveError("corrupt_file", "is empty, which no compressed file is: an incomplete download")
    stream: _Reader = raw
    if container == "gzip":
        stream = cast(_Reader, stack.enter_context(gzip.GzipFile(fileobj=raw)))
    elif container == "zstd":
        stream = stack.enter_context(pa.CompressedInputStream(raw, "zstd"))
    elif container == "bz2":
        stream = _StreamsReader(raw, bz2.BZ2Decompressor)
    elif container == "xz":
        new = functools.partial(lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
        stream = _StreamsReader(raw, new)
    return _BoundedReader(stream, packed_bytes, limits)


def _open_tar(source: SourceFile, raw: BinaryIO, stack: contextlib.ExitStack, limits: UnpackLimits) -> ForwardFile:
    if source.container == "tar":
        return ForwardFile(raw, raw.seek)
    packing = source.container.removeprefix("tar.")
    return ForwardFile(_open_compressed(packing, source.size_bytes, raw, stack, limits), None)


@functools.lru_cache(maxsize=4)
def _tar_directory(archive: SourceFile, limits: UnpackLimits = DEFAULT_LIMITS) -> list[TarMember]:
    """All members. Kept, so that an archive of many is not read through for each of them."""
    with contextlib.ExitStack() as stack:
        raw = stack.enter_context(contextlib.closing(_open_source(archive.uri)))
        with _sorted_faults():
            return tar_members(_open_tar(archive, raw, stack, limits))


def _whole(source: SourceFile) -> SourceFile:
    """The archive that a member is in."""
    return dataclasses.replace(source, file_id=0, member="", table="")


def _open_tar_member(
    source: SourceFile, raw: BinaryIO, stack: contextlib.ExitStack, limits: UnpackLimits
) -> TarMemberReader:
    directory = _tar_directory(_whole(source), limits)
    found = [member for member in directory if member.name == source.member]
    _check_member(source.member, len(found))
    if found[0].is_sparse:
        raise ArchiveError("corrupt_file", "the member is stored with holes; pack it again without --sparse")
    file = _open_tar(source, raw, stack, limits)
    file.seek(found[0].start)
    return TarMemberReader(file, found[0].size_bytes)


def _check_member(name: str, found: int) -> None:
    if not name:
        raise ArchiveError("corrupt_file", "the archive holds no files")
    if found != 1:
        raise ArchiveError("corrupt_file", f"the archive holds {found} members of this name; name each differently")
    if _is_unsafe(name):
        raise ArchiveError(
            "corrupt_file", "the member's name leads out of the archive; pack it again under a plain name"
        )


def _open_zip_member(name: str, raw: BinaryIO, stack: contextlib.ExitStack) -> tuple[_Reader, int]:
    """A reader of the member's plain bytes, and how many packed bytes they come from."""
    archive = stack.enter_context(zipfile.ZipFile(raw))
    found = [info for info in archive.infolist() if info.filename == name]
    _check_member(name, len(found))
    info = found[0]
    if info.flag_bits & _ENCRYPTED_FLAG:
        raise ArchiveError("corrupt_file", "the member is encrypted; unpack the archive with its password first")
    try:
        return _MemberReader(
            cast(BinaryIO, stack.enter_context(archive.open(info))), info.file_size
        ), info.compress_size
    except NotImplementedError as error:
        reason = f"{error} (method {info.compress_type}); unpack the archive by hand and load the plain files"
        raise ArchiveError("corrupt_file", reason) from error


class _BoundedReader:
    """Refuses to go on where packed bytes turn out a bomb."""

    def __init__(self, stream: _Reader, packed_bytes: int, limits: UnpackLimits) -> None:
        self._stream = stream
        self._packed_bytes = packed_bytes
        self._limits = limits
        self._total_bytes = 0

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(size)
        self._total_bytes += len(block)
        limit_bytes = max(self._limits.max_bytes, self._limits.max_ratio * self._packed_bytes)
        if self._total_bytes > limit_bytes:
            raise ArchiveError(
                "corrupt_file",
                f"unpacks to more than {self._limits.max_ratio} times its {self._packed_bytes} packed bytes, like a zip "
                "bomb; unpack it by hand if it is meant to",
            )
        return block


class _MemberReader:
    """A member of a zip archive whose length is checked besides its CRC."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._left_bytes = size_bytes

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(size)
        self._left_bytes -= len(block)
        if not block and self._left_bytes:
            raise EOFError
        return block


class _StreamsReader:
    """All streams of a .bz2 or .xz file, and the NUL bytes that may pad them.

    Not bz2.BZ2File or lzma.LZMAFile: they take a damaged second stream for the end of the file and say nothing. Not
    Arrow's reader: it fails at the empty streams that parallel compressors write.
    """

    def __init__(self, raw: BinaryIO, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self._raw = raw
        self._new = new
        self._decompressor = new()

    def read(self, size: int, /) -> bytes:
        while True:
            if self._decompressor.eof:
                packed = self._decompressor.unused_data.lstrip(b"\0")
                while not packed:
                    more = self._raw.read(BLOCK_BYTES)
                    if not more:
                        return b""
                    packed = more.lstrip(b"\0")
                self._decompressor = self._new()
            elif self._decompressor.needs_input:
                packed = self._raw.read(BLOCK_BYTES)
                if not packed:
                    raise EOFError
            else:
                packed = b""
            block = self._decompressor.decompress(packed, size)
            if block:
                return block


def _is_clutter(name: str) -> bool:
    """Directories written by Windows, hidden files, and what macOS adds."""
    parts = re.split(r"[/\\]", name)
    hidden = any(part.startswith(".") and part.strip(".") for part in parts)
    return hidden or "__MACOSX" in parts or not parts[-1]


def _is_unsafe(name: str) -> bool:
    return bool(re.match(r"[/\\]|[A-Za-z]:[/\\]", name)) or ".." in re.split(r"[/\\]", name)
