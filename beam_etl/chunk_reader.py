"""Reads the plain bytes of spans, and notices when they are no longer the ones that were inspected."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from beam_etl.model import Span
from beam_etl.storage import storage_for

Bytes = npt.NDArray[np.uint8]

_buffers = threading.local()


class ChangedFileError(Exception):
    """A file's plain bytes are not those that were inspected; the load must be planned again."""


def read_span(span: Span) -> Bytes:
    """The span's bytes, uint8, (span.bytes,), in a buffer that this thread uses again at its next read.

    Raises:
      ChangedFileError: the file's version before or after reading is not the inspected one.
    """
    _check_unchanged(span)
    buffer = getattr(_buffers, "bytes", None)
    if buffer is None or len(buffer) < span.bytes:
        buffer = _buffers.bytes = np.empty(span.bytes, dtype=np.uint8)
    view: Bytes = buffer[: span.bytes]
    got = storage_for(span.file.path).read_range(span.file.path, span.start, memoryview(view))
    if got != span.bytes:
        raise ChangedFileError(f"{span.file.path}: {span.bytes} bytes expected at {span.start}, {got} found")
    _check_unchanged(span)
    return view


def _check_unchanged(span: Span) -> None:
    stat = storage_for(span.file.path).stat(span.file.path)
    if stat is None or stat.version != span.file.path_version:
        now = "gone" if stat is None else f"version {stat.version}"
        raise ChangedFileError(
            f"{span.file.path}: changed during the load (was version {span.file.path_version}, is {now}); "
            "run the same command again when the file is complete"
        )
