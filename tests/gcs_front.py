"""A loopback Google Cloud Storage for the real client: gcp-storage-emulator, plus what the commit protocol relies on.

The emulator ignores generation preconditions, serves one request at a time and never fails. Here creation with
ifGenerationMatch=0 is refused (412) where the object exists, a read of a generation that is gone is 404, a range behind
the end is 416, requests come in on many threads, and chosen ones fail with 503 before or after they took effect.
"""

import contextlib
import dataclasses
import functools
import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.storage import Storage

BUCKET = "lake"


class PreconditionFailed(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Fault:
    """One request to be answered by 503: the first with this method whose target contains `part`.

    Attributes:
      performed: the request takes effect all the same, only its answer is lost.
    """

    method: str
    part: str
    performed: bool


class ConditionalStorage(Storage):  # type: ignore[misc]
    """Objects in memory. `expected_generation` is the precondition of the request in progress, under `lock`."""

    def __init__(self) -> None:
        super().__init__(use_memory_fs=True)
        self.lock = threading.Lock()
        self.expected_generation: str | None = None
        self.faults: list[Fault] = []
        self.injected: list[Fault] = []

    def create_file(
        self, bucket_name: str, file_name: str, content: bytes, file_obj: dict[str, Any], file_id: str | None = None
    ) -> None:
        if self.expected_generation is not None:
            existing = self.objects.get(bucket_name, {}).get(file_name)
            if (existing["generation"] if existing else "0") != self.expected_generation:
                raise PreconditionFailed(file_name)
        # The emulator forgets to quote the name in this link, so that a "%" or "?" in it leads elsewhere.
        link = urlsplit(file_obj["mediaLink"])
        place = f"/download/storage/v1/b/{bucket_name}/o/{quote(file_name, safe='')}"
        generation = f"generation={file_obj['generation']}&alt=media"
        file_obj["mediaLink"] = f"{link.scheme}://{link.netloc}{place}?{generation}"
        super().create_file(bucket_name, file_name, content, file_obj, file_id)

    def _write_config_to_file(self) -> None:
        """Nothing to keep beyond the process; the emulator would write all its objects' metadata at every change."""


class Handler(emulator.RequestHandler):  # type: ignore[misc]
    storage: ConditionalStorage

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.rfile = io.BytesIO(body)
        with self.storage.lock:
            self._serve_alone(method, body)

    def _serve_alone(self, method: str, body: bytes) -> None:
        fault = next((f for f in self.storage.faults if f.method == method and f.part in self.path), None)
        if fault is not None:
            self.storage.faults.remove(fault)
            self.storage.injected.append(fault)
            if fault.performed:
                answer, self.wfile = self.wfile, io.BytesIO()
                self._perform(method)
                self.wfile = answer
            self._refuse(503, "try again")
        else:
            self._perform(method)

    def _perform(self, method: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        expected = query.get("ifGenerationMatch", [None])[0]
        if expected is not None and "resumable" in query.get("uploadType", []):
            raise NotImplementedError("a resumable upload with a precondition")
        if self._is_gone(query) or self._is_behind_end():
            return
        self.storage.expected_generation = expected
        try:
            emulator.Router(self).handle(method)
        except PreconditionFailed:
            self._refuse(412, "at least one of the preconditions did not hold")
        finally:
            self.storage.expected_generation = None

    def _object(self) -> dict[str, Any] | None:
        match = re.search(r"/b/([^/]+)/o/([^?]+)", self.path)
        if match is None:
            return None
        found: dict[str, Any] | None = self.storage.objects.get(match[1], {}).get(unquote(match[2]))
        return found

    def _is_gone(self, query: dict[str, list[str]]) -> bool:
        wanted, found = query.get("generation"), self._object()
        if not wanted or found is None or found["generation"] == wanted[0]:
            return False
        self._refuse(404, "no such generation")
        return True

    def _is_behind_end(self) -> bool:
        found, wanted = self._object(), self.headers.get("Range", "")
        if found is None or not wanted or int(wanted.removeprefix("bytes=").split("-")[0]) < int(found["size"]):
            return False
        self._refuse(416, "the range is behind the end")
        return True

    def _refuse(self, status: int, message: str) -> None:
        content = json.dumps({"error": {"code": status, "message": message}}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def serve_gcs() -> Iterator[tuple[str, ConditionalStorage]]:
    """Serves a bucket named BUCKET: the value for STORAGE_EMULATOR_HOST, and the storage, which takes faults."""
    objects = ConditionalStorage()
    buckets.create_bucket(BUCKET, objects)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, objects))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", objects
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
