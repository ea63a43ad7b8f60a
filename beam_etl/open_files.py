"""The local files that this process is writing, so that an interruption can delete those that are not complete."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from beam_etl import interruption

_lock = threading.Lock()
_writing: set[Path] = set()


@contextlib.contextmanager
def writing(path: Path, mode: str) -> Iterator[BinaryIO]:
    """Opens a file for writing; it counts as incomplete until the block is left."""
    interruption.pause_if_stopping()
    with _lock:
        file = path.open(mode)
        _writing.add(path)
    try:
        with file:
            yield file  # type: ignore[misc]  # mode is a binary one
    finally:
        with _lock:
            _writing.discard(path)


def delete_incomplete() -> None:
    """Deletes all files that are being written; to be called when no new one is begun any more."""
    with _lock:
        for path in _writing:
            path.unlink(missing_ok=True)
