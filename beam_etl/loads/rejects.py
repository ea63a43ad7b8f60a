"""Rejects as JSON lines, staged by each attempt at a chunk with numbers relative to its spans."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from beam_etl.model import Reject
from beam_etl.storage import storage_for


def render_raw(raw: bytes, encoding: str) -> dict[str, str]:
    """The reject's bytes as JSON fields: text where the codec can give the very bytes back, else base64."""
    try:
        text = raw.decode(encoding)
        if text.encode(encoding) == raw:
            return {"raw": text, "raw_encoding": encoding}
    except (UnicodeDecodeError, UnicodeEncodeError):
        pass  # not text in this codec: the bytes themselves are kept below
    return {"raw": base64.b64encode(raw).decode("ascii"), "raw_encoding": "base64"}


def reject_to_json(reject: Reject) -> dict[str, Any]:
    return {
        "file": reject.file,
        "member": reject.member,
        "record": reject.record,
        "line": reject.line,
        "byte_start": reject.byte_start,
        "byte_end": reject.byte_end,
        "column": reject.column,
        "code": reject.code,
        "reason": reject.reason,
        **render_raw(reject.raw, reject.encoding),
    }


class StagedRejects:
    """One attempt's rejects of one chunk: a file at an attempt-unique path, made with the first reject."""

    def __init__(self, path: str) -> None:
        self.count = 0
        self._path = path
        self._stream: BinaryIO | None = None
        self._open = contextlib.ExitStack()

    def add(self, reject: Reject) -> None:
        """Keeps the span the reject came from, so that its record and line can be made absolute later."""
        if self._stream is None:
            self._stream = self._open.enter_context(storage_for(self._path).open_new(self._path))
        line = {**reject_to_json(reject), "span_index": reject.span_index}
        self._stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self.count += 1

    def close(self) -> str:
        """Makes the rejects durable. Returns their path, "" when there are none."""
        self._open.close()
        return self._path if self.count else ""

    def discard(self) -> None:
        """Forgets an attempt that will not be committed."""
        if self.close():
            storage_for(self._path).delete(self._path)


def read_staged(path: str) -> Iterator[dict[str, Any]]:
    with storage_for(path).open_read(path) as stream:
        for line in stream:
            yield json.loads(line)
