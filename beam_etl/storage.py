"""Byte storage behind one small protocol: local directories here, Google Cloud Storage in storage_gcs.py.

Paths are whole strings: a local path, a file:// address or gs://bucket/name. Every operation may be repeated: after a
lost answer, by a second worker, or by a process that was thought dead. Transient failures are retried here, because
not every runner retries.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import glob
import os
import random
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, ParamSpec, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from beam_etl import failpoints, open_files

_P = ParamSpec("_P")
_R = TypeVar("_R")

# ENOTEMPTY comes from a directory that is deleted while a late writer still adds to it.
TRANSIENT_ERRNOS = frozenset(
    {errno.EINTR, errno.EAGAIN, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTEMPTY},
)
ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.05

# A crash can leave temporary files behind. The dot hides them from readers, the suffix from list_files.
_TEMPORARY_SUFFIX = ".beam_etl_tmp"


@dataclasses.dataclass(frozen=True)
class FileStat:
    """Size and identity of a file's bytes.

    Attributes:
      size_bytes: its size.
      version: changes whenever the bytes do: "<size>-<mtime_ns>" locally, the generation on an object store.
    """

    size_bytes: int
    version: str


class Storage(Protocol):
    """What beam_etl needs from a place that holds files. All methods are safe to repeat and to call from any thread."""

    def stat(self, path: str) -> FileStat | None:
        """Size and version of a file; None where there is no file (a directory is none)."""

    def list_files(self, directory: str) -> list[tuple[str, FileStat]]:
        """Every file below a directory at any depth, sorted by path; [] where there is no such directory."""

    def glob(self, pattern: str) -> list[tuple[str, FileStat]]:
        """Files that match a pattern, sorted by path.

        `*`, `?` and `[...]` match inside one name, `**` as a whole name matches any number of directories, and a name
        that starts with a dot is matched only by a pattern that writes the dot.
        """

    def open_read(self, path: str) -> BinaryIO:
        """A seekable reader of one version of the file.

        Raises:
          FileNotFoundError: there is no such file.
        """

    def read_range(self, path: str, start: int, buffer: memoryview) -> int:
        """Fills buffer from byte `start` on; returns the bytes read, fewer than asked only at the end of the file.

        Raises:
          FileNotFoundError: there is no such file.
        """

    def read_bytes(self, path: str) -> bytes:
        """The whole file.

        Raises:
          FileNotFoundError: there is no such file.
        """

    def create_if_absent(self, path: str, data: bytes) -> bool:
        """Creates a durable file in one step; True if the file now holds `data`, False if it holds something else.

        A file that already holds exactly `data` counts as created by this call: that is how a repeated call answers
        after the first answer was lost. Two callers that must be told apart therefore write different data.
        """

    def write_atomic(self, path: str, data: bytes) -> None:
        """Creates or replaces a file durably; a reader sees the old bytes or the new, never a mixture."""

    def open_new(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A writer whose file is durable once the block is left; nothing remains when the block raises.

        The caller chooses a path that no other attempt uses. Missing directories are made.
        """

    def move_files(self, moves: Sequence[tuple[str, str]]) -> None:
        """Moves files (source, target) within this store, durably, replacing targets.

        A move whose source is gone and whose target is there has already happened.

        Raises:
          FileNotFoundError: neither source nor target of a move is there.
        """

    def move(self, source: str, target: str) -> None:
        """One move of move_files."""

    def delete_files(self, paths: Sequence[str]) -> None:
        """Deletes files; one that is missing is fine."""

    def delete(self, path: str) -> None:
        """Deletes one file as delete_files does."""

    def delete_tree(self, directory: str) -> None:
        """Deletes a directory and everything below it; a missing one is fine."""


def storage_for(path: str) -> Storage:
    """The storage that a path belongs to.

    Raises:
      ValueError: for an address of another kind of storage.
    """
    scheme = urlsplit(path).scheme if "://" in path else ""
    if scheme in ("", "file"):
        return _LOCAL
    if scheme == "gs":
        # Importing the client takes a second that local work should not pay.
        from beam_etl.storage_gcs import gcs_storage

        return gcs_storage()
    raise ValueError(f"cannot read or write {path!r}; use a local path, a file:// or a gs:// address")


def join_path(*parts: str) -> str:
    """Joins path parts by "/", whatever the storage; empty parts are left out."""
    first, *rest = [part for part in parts if part]
    return "/".join([first.rstrip("/") or ("" if rest else first), *(part.strip("/") for part in rest)])


def local_path(path: str) -> str:
    """The plain path of a local path or file:// address."""
    return unquote(urlsplit(path).path) if path.startswith("file://") else path


def place_of(path: str) -> str:
    """One text for each file, however its path is written: data.csv, ./data.csv, file:///... and the absolute path."""
    if path.startswith("gs://"):
        return path
    return os.path.abspath(local_path(path))  # noqa: PTH100 - Path is slow over a hundred thousand files


def is_transient(error: BaseException) -> bool:
    """Whether an operating system error may go away by itself."""
    return isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS


def retry_transient(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Calls again after a transient error: five attempts, exponential pauses with jitter, 1.5 s at most in all.

    A loop of its own, because tenacity leaves each error it has seen in a reference cycle: its traceback, and so the
    locals of all callers, among them a chunk's whole table, would live until the next garbage collection.
    """

    @functools.wraps(function)
    def persistent(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for attempt in range(ATTEMPTS - 1):
            try:
                return function(*args, **kwargs)
            except OSError as error:
                if not is_transient(error):
                    raise
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(1.0, 2.0))
        return function(*args, **kwargs)

    return persistent


class LocalStorage:
    """Files of the operating system. Durable means: the file and the directories that lead to it are fsynced."""

    @retry_transient
    def stat(self, path: str) -> FileStat | None:
        return _stat_file(local_path(path))

    @retry_transient
    def list_files(self, directory: str) -> list[tuple[str, FileStat]]:
        paths = (
            os.path.join(parent, name)  # noqa: PTH118 - Path is slow over a hundred thousand files
            for parent, _, names in os.walk(local_path(directory), onerror=_raise_unless_missing)
            for name in names
        )
        return _with_stats(path for path in paths if not path.endswith(_TEMPORARY_SUFFIX))

    @retry_transient
    def glob(self, pattern: str) -> list[tuple[str, FileStat]]:
        return _with_stats(glob.iglob(local_path(pattern), recursive=True))  # noqa: PTH207 - Path cannot be absolute

    @retry_transient
    def open_read(self, path: str) -> BinaryIO:
        return Path(local_path(path)).open("rb")

    @retry_transient
    def read_range(self, path: str, start: int, buffer: memoryview) -> int:
        done = 0
        descriptor = os.open(local_path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            while done < len(buffer):
                count = os.preadv(descriptor, [buffer[done:]], start + done)
                if count == 0:
                    break
                done += count
        finally:
            os.close(descriptor)
        return done

    @retry_transient
    def read_bytes(self, path: str) -> bytes:
        return Path(local_path(path)).read_bytes()

    @retry_transient
    def create_if_absent(self, path: str, data: bytes) -> bool:
        target = Path(local_path(path))
        temporary = _write_temporary(target, data)
        try:
            # Unlike rename, link refuses to replace; unlike O_EXCL, it never shows a file without its contents.
            created = _link_or_compare(temporary, target, data)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(target.parent)
        failpoints.hit("storage.after_create")
        return created

    @retry_transient
    def write_atomic(self, path: str, data: bytes) -> None:
        target = Path(local_path(path))
        temporary = _write_temporary(target, data)
        try:
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_directory(target.parent)

    @contextlib.contextmanager
    def open_new(self, path: str) -> Iterator[BinaryIO]:
        target = Path(local_path(path))
        _make_directories(target.parent)
        try:
            with open_files.writing(target, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        _sync_directory(target.parent)

    @retry_transient
    def move_files(self, moves: Sequence[tuple[str, str]]) -> None:
        touched: dict[Path, None] = {}
        for source_path, target_path in moves:
            source, target = Path(local_path(source_path)), Path(local_path(target_path))
            if target.parent not in touched:
                _make_directories(target.parent)
            try:
                source.replace(target)
            except FileNotFoundError:
                if not target.exists():
                    raise
            failpoints.hit("storage.mid_move")
            # Targets first: until they are durable, a crash must not make the sources' removal so.
            touched[target.parent] = None
            touched[source.parent] = None
        for directory in touched:
            if directory.exists():
                _sync_directory(directory)

    @retry_transient
    def delete_files(self, paths: Sequence[str]) -> None:
        for path in paths:
            Path(local_path(path)).unlink(missing_ok=True)

    def move(self, source: str, target: str) -> None:
        self.move_files([(source, target)])

    def delete(self, path: str) -> None:
        self.delete_files([path])

    @retry_transient
    def delete_tree(self, directory: str) -> None:
        # Not shutil.rmtree: another process may delete the same tree at the same time, and what is missing is fine.
        for parent, directories, names in os.walk(local_path(directory), topdown=False):
            for path in (Path(parent, name) for name in (*names, *directories)):
                _delete_entry(path)
        _delete_entry(Path(local_path(directory)))


_LOCAL = LocalStorage()


def _stat_file(path: str) -> FileStat | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - Path is slow over a hundred thousand files
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileStat(status.st_size, f"{status.st_size}-{status.st_mtime_ns}")


def _with_stats(paths: Iterable[str]) -> list[tuple[str, FileStat]]:
    stats = ((path, _stat_file(path)) for path in sorted(paths))
    return [(path, file) for path, file in stats if file is not None]


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _write_temporary(target: Path, data: bytes) -> Path:
    _make_directories(target.parent)
    temporary = target.with_name(f".{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}")
    try:
        with open_files.writing(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _link_or_compare(temporary: Path, target: Path, data: bytes) -> bool:
    while True:
        try:
            os.link(temporary, target)
        except FileExistsError:
            # Also after a link whose answer was lost (a network file system): then the contents are ours. A file
            # that was deleted before it could be read leaves the name free again.
            with contextlib.suppress(FileNotFoundError):
                return target.read_bytes() == data
        else:
            return True


def _make_directories(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    directory.mkdir(exist_ok=True)
    _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _delete_entry(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
