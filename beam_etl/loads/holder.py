"""Who holds a lease: one run of a load, on one machine."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclasses.dataclass(frozen=True)
class Holder:
    """One run of a load.

    Attributes:
      owner: the load's key, the same for every run of it: runs of one load may hold a lease together.
      run: names the run.
      host, boot, pid: its process; boot changes whenever the machine starts, "" where it is not known.
    """

    owner: str
    run: str
    host: str
    boot: str
    pid: int

    @classmethod
    def this_process(cls, owner: str) -> Holder:
        return cls(owner, uuid.uuid4().hex[:12], socket.gethostname(), _boot_id(), os.getpid())

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Holder:
        return cls(**{field.name: values[field.name] for field in dataclasses.fields(cls)})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (load {self.owner})"

    def is_dead_here(self) -> bool:
        """Whether this was a process of this very machine, and is gone; False where nobody can tell."""
        if not self.boot or (self.host, self.boot) != (socket.gethostname(), _boot_id()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


@functools.cache
def _boot_id() -> str:
    """With the process's PID namespace, where there are several on one machine: a container has numbers of its own."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {_PID_NAMESPACE.readlink()}"
    except OSError:
        return ""
