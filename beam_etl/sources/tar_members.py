"""Where the members of a tar archive are, found in one pass forward that trusts no header.

The standard library's reader takes a damaged or missing header behind the first one for the end of the archive and
says nothing. Here an archive ends at its end mark (POSIX.1-1988: blocks of NUL bytes), or it is damaged.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import IO, NamedTuple, Protocol, TypeVar, cast

BLOCK_BYTES = 1 << 20
# Names and attributes of one member; anything larger is damage, and would be held in memory.
_MOST_HEADER_BYTES = 1 << 20
_VOLUME_TYPE = b"M"


class TarMember(NamedTuple):
    """A regular file in an archive: its name, and where its bytes are in the plain archive. Sparse ones have holes."""

    name: str
    start: int
    size_bytes: int
    is_sparse: bool


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class ForwardFile:
    """A stream read forward only, in exact lengths.

    Args:
      stream: at its start.
      seek: moves the stream to an offset without reading, None where it cannot.
    """

    def __init__(self, stream: _Reader, seek: Callable[[int], object] | None) -> None:
        self._stream = stream
        self._seek = seek
        self._at = 0

    def tell(self) -> int:
        return self._at

    def read(self, size: int, /) -> bytes:
        """Raises EOFError where the stream ends before."""
        if not 0 <= size <= _MOST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        data = b""
        while len(data) < size:
            block = self._stream.read(size - len(data))
            if not block:
                raise EOFError
            data += block
        self._at += size
        return data

    def seek(self, offset: int) -> None:
        if offset < self._at:
            raise tarfile.ReadError("a header claims a negative size")
        if self._seek:
            self._seek(offset)
            self._at = offset
        while self._at < offset:
            skipped = self.read_some(offset - self._at)
            if not skipped:
                raise EOFError
            self._at += len(skipped)

    def read_some(self, size: int) -> bytes:
        """Up to size bytes and a block; none at the end. Does not count them."""
        return self._stream.read(min(size, BLOCK_BYTES))


class TarMemberReader:
    """The bytes of one member; the file is at their start."""

    def __init__(self, file: ForwardFile, size_bytes: int) -> None:
        self._file = file
        self._left_bytes = size_bytes

    def read(self, size: int, /) -> bytes:
        block = self._file.read_some(min(size, self._left_bytes)) if self._left_bytes else b""
        if self._left_bytes and not block:
            raise EOFError
        self._left_bytes -= len(block)
        return block


def tar_members(file: ForwardFile) -> list[TarMember]:
    """The regular files of an archive, in its order. Links, devices and directories are none.

    Reads to the end, so that whatever compresses the archive has checked itself.

    Raises:
      EOFError: ends before its end mark.
      tarfile.TarError: damaged, one volume of several, or several archives in one file.
    """
    members = []
    # Names in another encoding than UTF-8 keep what can be told: they go into reports, JSON and PostgreSQL.
    archive = _StrictTarFile(fileobj=cast(IO[bytes], file), tarinfo=_StrictTarInfo, encoding="utf-8", errors="replace")
    while (info := archive.next()) is not None:
        archive.members.clear()
        if info.type == _VOLUME_TYPE:
            raise tarfile.ReadError("one volume of an archive in several; join them first")
        if info.isreg():
            members.append(TarMember(info.name.replace("\0", "\ufffd"), info.offset_data, info.size, info.issparse()))
    if not archive.ended:
        raise tarfile.ReadError("a header claims a negative size")
    while rest := file.read_some(BLOCK_BYTES):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("it goes on behind its end mark, like several archives in one file; unpack it")
    return members


class _StrictTarFile(tarfile.TarFile):
    members: list[tarfile.TarInfo]
    ended = False


_Self = TypeVar("_Self", bound=tarfile.TarInfo)


class _StrictTarInfo(tarfile.TarInfo):
    @classmethod
    def fromtarfile(cls: type[_Self], archive: tarfile.TarFile) -> _Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # public, but unknown to typeshed
            cast(_StrictTarFile, archive).ended = True
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"damaged header of a member: {error}") from error
