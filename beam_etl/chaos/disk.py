"""A small disk of the chaos suite's own, which can be full or read-only without harm to anything else."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from pathlib import Path

DISK_MB = 128
_BALLAST = ".ballast"


class SmallDisk:
    """A tmpfs at a directory of its own. A context manager: unmounted at its end.

    Raises:
      OSError: this user may not mount; the message says what mount said.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={DISK_MB}m", "beam_etl_chaos", str(path))

    def fill(self, free_bytes: int) -> None:
        """Leaves at most so many bytes free; tries again where a writer was faster."""
        with (self.path / _BALLAST).open("wb") as ballast:
            while True:
                stats = os.statvfs(self.path)
                surplus = stats.f_bavail * stats.f_frsize - free_bytes
                if surplus <= 0:
                    return
                try:
                    os.posix_fallocate(ballast.fileno(), 0, os.fstat(ballast.fileno()).st_size + surplus)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def make_space(self) -> None:
        (self.path / _BALLAST).unlink(missing_ok=True)

    def make_read_only(self, seconds: float) -> bool:
        """Refuses writing from now on; tries for so many seconds, as it fails while a file is open for writing."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                _mount("-o", "remount,ro", str(self.path))
            except OSError:
                time.sleep(0.002)
            else:
                return True
        return False

    def make_writable(self) -> None:
        _mount("-o", "remount,rw", str(self.path))

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a reader that is about to end must not keep it mounted for ever.
        subprocess.run(["umount", "--lazy", str(self.path)], check=False, capture_output=True)


def _mount(*arguments: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise OSError(error.stderr.strip() or f"mount failed with {error.returncode}") from error
