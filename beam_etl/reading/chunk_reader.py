"""Reads the plain bytes of spans, and notices when they are no longer the ones that were inspected."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from beam_etl.model import Span
from beam_etl.storage import storage_for

Bytes = npt.NDArray[np.uint8]

# What is read and indexed at once. A longer span is one record that never ends: it is rejected without being read whole.
LARGEST_SPAN_BYTES = 512 << 20
# A buffer up to this size is kept by its thread; a larger one is given back.
KEPT_BUFFER_BYTES = 64 << 20

_buffers = threading.local()


class ChangedFileError(Exception):
    """A file's plain bytes are not those that were inspected; the load must be planned again."""


def read_span(span: Span) -> Bytes:
    """The span's bytes, uint8, (span.bytes,), mostly in a buffer that this thread uses again at its next read.

    Raises:
      ChangedFileError: the file's version before or after reading is not the inspected one.
    """
    _check_unchanged(span)
    view = _buffer(span.bytes)
    got = storage_for(span.file.path).read_range(span.file.path, span.start, view.data)
    if got != span.bytes:
        raise ChangedFileError(f"{span.file.path}: {span.bytes} bytes expected at {span.start}, {got} found")
    _check_unchanged(span)
    return view


def _buffer(size: int) -> Bytes:
    if size > KEPT_BUFFER_BYTES:
        return np.empty(size, dtype=np.uint8)
    buffer: Bytes | None = getattr(_buffers, "bytes", None)
    if buffer is None or len(buffer) < size:
        buffer = _buffers.bytes = np.empty(size, dtype=np.uint8)
    return buffer[:size]


def _check_unchanged(span: Span) -> None:
    stat = storage_for(span.file.path).stat(span.file.path)
    if stat is None or stat.version != span.file.path_version:
        now = "gone" if stat is None else f"version {stat.version}"
        raise ChangedFileError(
            f"{span.file.path}: changed during the load (was version {span.file.path_version}, is {now}); "
            "run the same command again when the file is complete"
        )
