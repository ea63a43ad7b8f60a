"""Google Cloud Storage behind the Storage protocol, through google.cloud.storage.

The client retries transient errors by itself (exponential, with jitter, for two minutes). Every request here may be
sent twice: creations carry a generation precondition or replace a whole object with the same bytes, and a deletion of
what is gone is fine. Stored bytes are read as they are (raw), never decompressed on the way, so sizes and offsets hold.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from google.api_core.exceptions import NotFound, PreconditionFailed, RequestRangeNotSatisfiable
from google.cloud.storage import Client
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter

from beam_etl.storage import FileStat

# Memory of one open reader or writer; a resumable upload needs a multiple of 256 KiB.
READ_AHEAD_BYTES = 4 << 20
UPLOAD_BYTES = 16 << 20

REQUEST_THREADS = 8

# Of one process: what its worker threads, and each of them with REQUEST_THREADS, may have open at once. The client's own
# session keeps ten, and logs a warning for each one that it throws away.
CONNECTIONS = 64


def gcs_storage() -> GcsStorage:
    """This process's storage; another one once STORAGE_EMULATOR_HOST names another server."""
    return _gcs_storage(os.environ.get("STORAGE_EMULATOR_HOST", ""))


@functools.lru_cache(maxsize=8)
def _gcs_storage(emulator_host: str) -> GcsStorage:
    return GcsStorage()


class GcsStorage:
    """Objects of Google Cloud Storage, addressed as gs://bucket/name.

    Credentials are the application default ones; with STORAGE_EMULATOR_HOST set there are none.
    """

    @functools.cached_property
    def _client(self) -> Any:
        client = Client()
        adapter = HTTPAdapter(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS)
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, adapter)
        return client

    def _blob(self, path: str) -> Any:
        bucket, name = split_gcs(path)
        return self._client.bucket(bucket).blob(name)

    def stat(self, path: str) -> FileStat | None:
        bucket, name = split_gcs(path)
        blob = self._client.bucket(bucket).get_blob(name)
        return None if blob is None else _file_stat(blob)

    def list_files(self, directory: str) -> list[tuple[str, FileStat]]:
        bucket, name = split_gcs(directory)
        prefix = name.rstrip("/") + "/" if name else ""
        return sorted(self._list(bucket, prefix), key=lambda entry: entry[0])

    def glob(self, pattern: str) -> list[tuple[str, FileStat]]:
        bucket, name = split_gcs(pattern)
        fixed = re.split(r"[*?\[]", name, maxsplit=1)[0]
        matches = re.compile(glob_regex(name)).fullmatch
        found = [entry for entry in self._list(bucket, fixed) if matches(split_gcs(entry[0])[1])]
        return sorted(found, key=lambda entry: entry[0])

    def _list(self, bucket: str, prefix: str) -> Iterator[tuple[str, FileStat]]:
        fields = "items(name,size,generation),nextPageToken"
        for blob in self._client.list_blobs(bucket, prefix=prefix, fields=fields):
            # Consoles mark an empty directory by an empty object whose name ends in a slash.
            if not blob.name.endswith("/"):
                yield f"gs://{bucket}/{blob.name}", _file_stat(blob)

    def open_read(self, path: str) -> BinaryIO:
        bucket, name = split_gcs(path)
        # The blob carries its generation, so all parts are read from one version or the read fails.
        blob = self._client.bucket(bucket).get_blob(name)
        if blob is None:
            raise FileNotFoundError(f"{path} does not exist")
        return cast(BinaryIO, blob.open("rb", chunk_size=READ_AHEAD_BYTES, raw_download=True))

    def read_range(self, path: str, start: int, buffer: memoryview) -> int:
        if not len(buffer):
            return 0
        target = _BufferWriter(buffer)
        with _missing_as_file_not_found(path), contextlib.suppress(RequestRangeNotSatisfiable):
            self._blob(path).download_to_file(
                target, start=start, end=start + len(buffer) - 1, raw_download=True, checksum=None
            )
        return target.tell()

    def read_bytes(self, path: str) -> bytes:
        with _missing_as_file_not_found(path):
            return cast(bytes, self._blob(path).download_as_bytes(raw_download=True))

    def create_if_absent(self, path: str, data: bytes) -> bool:
        while True:
            try:
                self._upload(path, data, if_generation_match=0)
            except PreconditionFailed:
                # Also when our first request succeeded and its answer was lost: then the contents are ours. An object
                # that was deleted before it could be read leaves the name free again.
                with contextlib.suppress(FileNotFoundError):
                    return self.read_bytes(path) == data
            else:
                return True

    def write_atomic(self, path: str, data: bytes) -> None:
        self._upload(path, data)

    def _upload(self, path: str, data: bytes, **precondition: int) -> None:
        self._blob(path).upload_from_string(data, content_type="application/octet-stream", **precondition)

    @contextlib.contextmanager
    def open_new(self, path: str) -> Iterator[BinaryIO]:
        writer = self._blob(path).open("wb", chunk_size=UPLOAD_BYTES, ignore_flush=True)
        try:
            yield writer
        except BaseException:
            # Closing would publish what was written so far.
            writer.terminate()
            raise
        writer.close()

    def move_files(self, moves: Sequence[tuple[str, str]]) -> None:
        self._in_threads(self._move, moves)

    def _move(self, source_path: str, target_path: str) -> None:
        source, target = self._blob(source_path), self._blob(target_path)
        token = None
        try:
            while True:
                # Always safe to send again: the source is immutable and the target becomes the same bytes.
                token, _, _ = target.rewrite(source, token=token, retry=DEFAULT_RETRY)
                if token is None:
                    break
        except NotFound as error:
            if not target.exists():
                raise FileNotFoundError(f"neither {source_path} nor {target_path} exists") from error
        self._delete(source_path)

    def delete_files(self, paths: Sequence[str]) -> None:
        self._in_threads(self._delete, [(path,) for path in paths])

    def _delete(self, path: str) -> None:
        with contextlib.suppress(NotFound):
            self._blob(path).delete()

    def move(self, source: str, target: str) -> None:
        self.move_files([(source, target)])

    def delete(self, path: str) -> None:
        self.delete_files([path])

    def delete_tree(self, directory: str) -> None:
        bucket, name = split_gcs(directory)
        prefix = name.rstrip("/") + "/" if name else ""
        names = [
            blob.name for blob in self._client.list_blobs(bucket, prefix=prefix, fields="items(name),nextPageToken")
        ]
        self.delete_files([f"gs://{bucket}/{name}" for name in names])

    @staticmethod
    def _in_threads(function: Any, calls: Iterable[tuple[str, ...]]) -> None:
        with ThreadPoolExecutor(REQUEST_THREADS) as pool:
            for _ in pool.map(lambda arguments: function(*arguments), calls):
                pass


def split_gcs(path: str) -> tuple[str, str]:
    """Bucket and object name of a gs:// address.

    Raises:
      ValueError: it is not one, or names no bucket.
    """
    bucket, _, name = path.removeprefix("gs://").partition("/")
    if not path.startswith("gs://") or not bucket:
        raise ValueError(f"{path!r} is not an address on Google Cloud Storage; write gs://bucket/name")
    return bucket, name


def glob_regex(pattern: str) -> str:
    """The regular expression of a pattern, with the meaning that Storage.glob documents."""
    regex = ""
    position = 0
    while position < len(pattern):
        at_name_start = position == 0 or pattern[position - 1] == "/"
        not_hidden = r"(?!\.)" if at_name_start else ""
        if at_name_start and pattern.startswith("**/", position):
            regex += r"(?:(?!\.)[^/]+/)*"
            position += 3
            continue
        if at_name_start and pattern[position:] == "**":
            return regex + r"(?:(?!\.)[^/]+/)*(?!\.)[^/]+"
        if match := re.compile(r"\[(!?)(\]?[^\]/]*)\]").match(pattern, position):
            excluded, members = match.groups()
            members = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
            regex += f"{not_hidden}(?!/)[{'^' if excluded else ''}{members}]"
            position = match.end()
            continue
        character = pattern[position]
        regex += {"*": f"{not_hidden}[^/]*", "?": f"{not_hidden}[^/]"}.get(character, re.escape(character))
        position += 1
    return f"(?s:{regex})"


def _file_stat(blob: Any) -> FileStat:
    return FileStat(int(blob.size), str(blob.generation))


@contextlib.contextmanager
def _missing_as_file_not_found(path: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(f"{path} does not exist") from error


class _BufferWriter(io.RawIOBase):
    """Lets the client download into a buffer without a copy in between."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        end = self._position + len(data)
        self._buffer[self._position : end] = data
        self._position = end
        return len(data)

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._buffer)}[whence] + offset
        return self._position
