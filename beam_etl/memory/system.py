"""How much memory this process may use: the machine's, or that of the container it runs in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

MB = 1024 * 1024
CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")

# An unlimited cgroup v1 reads as the largest multiple of the page size that fits 63 bits; anything near it is no limit.
_UNLIMITED_BYTES = 1 << 60


class CgroupLimit(NamedTuple):
    """One memory limit in force, in bytes.

    Attributes:
      limit_bytes: what all processes of the group may use together.
      available_bytes: what is left of it, counting file cache that the kernel gives back on demand; never below 0.
    """

    limit_bytes: int
    available_bytes: int


def import_psutil() -> ModuleType | None:
    """psutil, or None where it is not installed."""
    try:
        import psutil
    except ImportError:
        return None
    module: ModuleType = psutil
    return module


def cgroup_limits(root: Path = CGROUP_ROOT, proc_cgroup: Path = PROC_CGROUP) -> list[CgroupLimit]:
    """Memory limits of this process's control group and of all groups above it, cgroup v1 and v2.

    A group that the mount does not show (inside a container without a cgroup namespace the path is the host's) is
    looked for at the mount's root, which then is the container's own group.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html
    """
    limits = []
    for version, mount, group in _memory_groups(root, proc_cgroup):
        for directory in _with_parents(mount, group):
            limit = _read_v1(directory) if version == 1 else _read_v2(directory)
            if limit is not None:
                limits.append(limit)
    return limits


def total_memory_bytes(psutil: ModuleType | None, limits: list[CgroupLimit]) -> int:
    """Memory of the machine, or of the tightest container around this process."""
    if psutil is not None:
        machine = int(psutil.virtual_memory().total)
    else:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *(limit.limit_bytes for limit in limits)])


def available_memory_bytes(psutil: ModuleType | None, limits: list[CgroupLimit]) -> int | None:
    """What can be allocated without swapping or being killed; None where nothing tells (no psutil and no limit)."""
    available = [limit.available_bytes for limit in limits]
    if psutil is not None:
        available.append(int(psutil.virtual_memory().available))
    return min(available) if available else None


def _memory_groups(root: Path, proc_cgroup: Path) -> Iterator[tuple[int, Path, str]]:
    """(version, mount point, path of this process's group in it) of each hierarchy that may limit memory."""
    try:
        lines = proc_cgroup.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if "memory" in controllers.split(","):
            yield 1, root / "memory", group
        elif hierarchy == "0" and not controllers:
            yield 2, root, group


def _with_parents(mount: Path, group: str) -> Iterator[Path]:
    # "/.." stands in the path of a process outside its namespace's root; the mount's root is then all that shows.
    parts = [part for part in group.split("/") if part]
    if ".." in parts or not mount.joinpath(*parts).is_dir():
        parts = []
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _read_v2(directory: Path) -> CgroupLimit | None:
    return _limit(
        _read_int(directory / "memory.max"),
        _read_int(directory / "memory.current"),
        _read_stat(directory).get("inactive_file", 0),
    )


def _read_v1(directory: Path) -> CgroupLimit | None:
    stat = _read_stat(directory)
    # Limits of groups above that the mount does not show are in force too.
    known = [_read_int(directory / "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit")]
    limits = [limit for limit in known if limit is not None]
    inactive = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return _limit(min(limits, default=None), _read_int(directory / "memory.usage_in_bytes"), inactive)


def _limit(limit: int | None, usage: int | None, inactive_file: int) -> CgroupLimit | None:
    if limit is None or limit >= _UNLIMITED_BYTES:
        return None
    used = max(0, (usage or 0) - inactive_file)
    return CgroupLimit(limit, max(0, limit - used))


def _read_int(path: Path) -> int | None:
    """The number in a one-number file; None where it is missing, unreadable or says "max"."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _read_stat(directory: Path) -> dict[str, int]:
    try:
        lines = (directory / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
