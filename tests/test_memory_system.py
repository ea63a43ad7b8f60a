"""beam_etl.memory.system: container limits, v1 and v2, in fake trees."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from beam_etl.memory.system import (
    CgroupLimit,
    available_memory_bytes,
    cgroup_limits,
    import_psutil,
    total_memory_bytes,
)

UNLIMITED_V1 = "9223372036854771712"


def group(path: Path, version: int, limit: str, usage: int, **stat: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}[version]
    (path / names[0]).write_text(f"{limit}\n")
    (path / names[1]).write_text(f"{usage}\n")
    (path / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in stat.items()))


def limits_in(tmp_path: Path, proc: str) -> list[CgroupLimit]:
    (tmp_path / "cgroup").write_text(proc)
    return cgroup_limits(tmp_path / "fs", tmp_path / "cgroup")


@pytest.mark.parametrize(
    "limit, usage, inactive, expected",
    [
        ("1000", 400, 0, [CgroupLimit(1000, 600)]),
        ("1000", 400, 150, [CgroupLimit(1000, 750)]),
        ("1000", 100, 150, [CgroupLimit(1000, 1000)]),
        ("1000", 1000, 0, [CgroupLimit(1000, 0)]),
        ("1000", 1100, 0, [CgroupLimit(1000, 0)]),
        ("0", 0, 0, [CgroupLimit(0, 0)]),
        ("max", 400, 0, []),
    ],
)
def test_v2_in_a_namespace(tmp_path, limit, usage, inactive, expected):
    group(tmp_path / "fs", 2, limit, usage, active_file=7, inactive_file=inactive)
    assert limits_in(tmp_path, "0::/\n") == expected


def test_v2_hierarchy_counts_every_level(tmp_path):
    group(tmp_path / "fs/pod/app", 2, "max", 90)
    group(tmp_path / "fs/pod", 2, "1000", 950, inactive_file=50)
    group(tmp_path / "fs", 2, "5000", 1000)
    assert limits_in(tmp_path, "0::/pod/app\n") == [CgroupLimit(1000, 100), CgroupLimit(5000, 4000)]


@pytest.mark.parametrize("path", ["/kubepods/host/path", "/../sibling"])
def test_v2_path_of_the_host_falls_back_to_the_mount(tmp_path, path):
    group(tmp_path / "fs", 2, "1000", 400)
    assert limits_in(tmp_path, f"0::{path}\n") == [CgroupLimit(1000, 600)]


def test_v2_root_group_has_no_limit_files(tmp_path):
    (tmp_path / "fs").mkdir()
    assert limits_in(tmp_path, "0::/\n") == []


@pytest.mark.parametrize(
    "limit, stat, expected",
    [
        ("1000", {}, [CgroupLimit(1000, 600)]),
        ("1000", {"inactive_file": 1, "total_inactive_file": 100}, [CgroupLimit(1000, 700)]),
        ("1000", {"inactive_file": 100}, [CgroupLimit(1000, 700)]),
        ("1000", {"hierarchical_memory_limit": 800}, [CgroupLimit(800, 400)]),
        (UNLIMITED_V1, {"hierarchical_memory_limit": 800}, [CgroupLimit(800, 400)]),
        (UNLIMITED_V1, {"hierarchical_memory_limit": int(UNLIMITED_V1)}, []),
        (UNLIMITED_V1, {}, []),
    ],
)
def test_v1(tmp_path, limit, stat, expected):
    group(tmp_path / "fs/memory/docker/abc", 1, limit, 400, **stat)
    assert limits_in(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n") == expected


def test_v1_hierarchy_and_hybrid(tmp_path):
    group(tmp_path / "fs/memory/a/b", 1, "1000", 100)
    group(tmp_path / "fs/memory/a", 1, "600", 500)
    group(tmp_path / "fs/memory", 1, UNLIMITED_V1, 9000)
    group(tmp_path / "fs", 2, "700", 650)
    expected = [CgroupLimit(1000, 900), CgroupLimit(600, 100), CgroupLimit(700, 50)]
    assert limits_in(tmp_path, "4:hugetlb,memory:/a/b\n0::/\n") == expected


def test_v1_container_without_a_namespace(tmp_path):
    group(tmp_path / "fs/memory", 1, "1000", 400)
    assert limits_in(tmp_path, "4:memory:/docker/abc\n") == [CgroupLimit(1000, 600)]


def test_systems_without_control_groups(tmp_path):
    assert cgroup_limits(tmp_path / "fs", tmp_path / "absent") == []
    assert limits_in(tmp_path, "") == []
    assert limits_in(tmp_path, "4:memory:/a\n") == []


def psutil_of(total: int, available: int):
    return SimpleNamespace(virtual_memory=lambda: SimpleNamespace(total=total, available=available))


@pytest.mark.parametrize(
    "psutil, limits, total, available",
    [
        (psutil_of(100, 60), [], 100, 60),
        (psutil_of(100, 60), [CgroupLimit(50, 40)], 50, 40),
        (psutil_of(100, 30), [CgroupLimit(50, 40)], 50, 30),
        (psutil_of(100, 60), [CgroupLimit(500, 70)], 100, 60),
        (psutil_of(100, 60), [CgroupLimit(80, 50), CgroupLimit(90, 20)], 80, 20),
        (None, [CgroupLimit(50, 40)], 50, 40),
    ],
)
def test_the_tightest_counts(psutil, limits, total, available):
    assert (total_memory_bytes(psutil, limits), available_memory_bytes(psutil, limits)) == (total, available)


def test_without_psutil_the_machine_s_total_is_still_known(monkeypatch):
    real = import_psutil()
    assert real is not None
    total = real.virtual_memory().total
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert import_psutil() is None
    assert total_memory_bytes(None, []) == total
    assert available_memory_bytes(None, []) is None
