"""Both storages answer the same, under repetition, concurrency, crashes and lost answers."""

import dataclasses
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from beam_etl import storage as storage_module
from beam_etl import storage_gcs
from beam_etl.storage import FileStat, LocalStorage, Storage, join_path, local_path, storage_for
from tests.gcs_front import BUCKET, ConditionalStorage, Fault, serve_gcs


@pytest.fixture(scope="module")
def gcs_server() -> Iterator[tuple[str, ConditionalStorage]]:
    with serve_gcs() as server:
        yield server


@pytest.fixture
def gcs(gcs_server: tuple[str, ConditionalStorage], monkeypatch: pytest.MonkeyPatch) -> ConditionalStorage:
    host, objects = gcs_server
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
    objects.faults.clear()
    objects.injected.clear()
    return objects


@dataclasses.dataclass(frozen=True)
class Place:
    root: str
    storage: Storage

    def path(self, name: str) -> str:
        return join_path(self.root, name)

    def names(self) -> list[str]:
        return [path[len(self.root) + 1 :] for path, _ in self.storage.list_files(self.root)]


@pytest.fixture(params=["local", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place(str(tmp_path / "root"), storage_for(str(tmp_path)))
    request.getfixturevalue("gcs")
    root = f"gs://{BUCKET}/{tmp_path.name}"
    return Place(root, storage_for(root))


def test_storage_is_chosen_by_the_address(gcs: ConditionalStorage) -> None:
    assert isinstance(storage_for("/data/x.csv"), LocalStorage)
    assert isinstance(storage_for("file:///data/x.csv"), LocalStorage)
    assert isinstance(storage_for("odd: name.csv"), LocalStorage)
    assert isinstance(storage_for("gs://bucket/x"), storage_gcs.GcsStorage)
    assert storage_for("gs://bucket/x") is storage_for("gs://other/y")
    with pytest.raises(ValueError, match=r"s3://bucket/x.*use a local path"):
        storage_for("s3://bucket/x")


@pytest.mark.parametrize("path", ["gs://", "gs:///name", "lake/x"])
def test_gcs_address_needs_a_bucket(path: str) -> None:
    with pytest.raises(ValueError, match="gs://bucket/name"):
        storage_gcs.split_gcs(path)


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("lake/", "a", "/b/"), "lake/a/b"),
        (("/", "a"), "/a"),
        (("gs://bucket", "a"), "gs://bucket/a"),
        (("lake", "", "a"), "lake/a"),
        (("/",), "/"),
    ],
)
def test_join_path(parts: tuple[str, ...], joined: str) -> None:
    assert join_path(*parts) == joined


def test_file_address_names_the_same_file(tmp_path: Path) -> None:
    address = (tmp_path / "a b%.csv").as_uri()
    storage_for(address).write_atomic(address, b"x")
    assert local_path(address) == str(tmp_path / "a b%.csv")
    assert (tmp_path / "a b%.csv").read_bytes() == b"x"


def test_bytes_come_back(place: Place) -> None:
    data = bytes(range(256)) * 5
    path = place.path("deep/er/Ünï cödé %41 ?#.bin")
    with place.storage.open_new(path) as file:
        file.write(data[:700])
        file.write(data[700:])
    assert place.storage.read_bytes(path) == data
    stat = place.storage.stat(path)
    assert stat is not None and stat.size_bytes == 1280
    assert place.storage.list_files(place.root) == [(path, stat)]
    with place.storage.open_read(path) as reader:
        assert reader.seekable()
        assert reader.seek(-3, os.SEEK_END) == 1277
        assert reader.read() == data[-3:]
        reader.seek(10)
        assert reader.read(5) == data[10:15]
        assert reader.seek(2, os.SEEK_CUR) == 17
        assert reader.read(1) == data[17:18]


def test_empty_file(place: Place) -> None:
    path = place.path("empty")
    with place.storage.open_new(path):
        pass
    stat = place.storage.stat(path)
    assert stat is not None and stat.size_bytes == 0
    assert place.storage.read_bytes(path) == b""
    assert place.storage.read_range(path, 0, memoryview(bytearray(4))) == 0


@pytest.mark.parametrize(
    ("start", "length", "expected"), [(0, 4, 4), (7, 3, 3), (7, 9, 3), (10, 4, 0), (99, 4, 0), (3, 0, 0)]
)
def test_read_range_fills_what_exists(place: Place, start: int, length: int, expected: int) -> None:
    path = place.path("digits")
    place.storage.write_atomic(path, b"0123456789")
    buffer = bytearray(b"." * length)
    assert place.storage.read_range(path, start, memoryview(buffer)) == expected
    assert bytes(buffer) == b"0123456789"[start : start + length].ljust(length, b".")


def test_what_is_missing(place: Place) -> None:
    path = place.path("a/missing")
    assert place.storage.stat(path) is None
    assert place.storage.list_files(place.path("a")) == []
    assert place.storage.glob(place.path("a/*")) == []
    place.storage.delete(path)
    place.storage.delete_files([path, path])
    place.storage.delete_tree(place.path("a"))
    readers: list[Callable[[], Any]] = [
        lambda: place.storage.open_read(path),
        lambda: place.storage.read_bytes(path),
        lambda: place.storage.read_range(path, 0, memoryview(bytearray(1))),
        lambda: place.storage.move(path, place.path("b")),
    ]
    for read in readers:
        with pytest.raises(FileNotFoundError):
            read()


def test_a_directory_is_no_file(place: Place) -> None:
    place.storage.write_atomic(place.path("a/b"), b"")
    assert place.storage.stat(place.path("a")) is None
    assert place.storage.stat(place.path("a/b/c")) is None


def test_version_changes_with_the_bytes(place: Place) -> None:
    path = place.path("file")
    place.storage.write_atomic(path, b"old")
    before = place.storage.stat(path)
    assert place.storage.stat(path) == before
    place.storage.write_atomic(path, b"new")
    after = place.storage.stat(path)
    assert before is not None and after is not None and before.version != after.version


def test_local_version_is_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert LocalStorage().stat(str(path)) == FileStat(3, "3-1700000000123456789")


def test_list_is_sorted_deep_and_of_this_directory_alone(place: Place) -> None:
    names = ["d/a.b", "d/a/z", "d/a0", "d/é", "d/.hidden", "d2/x", "dab"]
    for name in names:
        place.storage.write_atomic(place.path(name), b"1")
    listed = [path[len(place.root) + 1 :] for path, _ in place.storage.list_files(place.path("d"))]
    assert listed == ["d/.hidden", "d/a.b", "d/a/z", "d/a0", "d/é"]
    assert place.storage.list_files(place.path("d/")) == place.storage.list_files(place.path("d"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("[!a].csv", ["b.csv"]),
        ("[a-b].csv", ["a.csv", "b.csv"]),
        ("[]x].csv", []),
        ("a.csv", ["a.csv"]),
        ("a?csv", ["a.csv"]),
        ("sub*/*.csv", ["sub/c.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "sub/c.csv", "sub/sub/d.csv"]),
        ("sub/**", ["sub/c.csv", "sub/sub/d.csv", "sub/sub/e+1.txt"]),
        ("**/sub/*", ["sub/c.csv", "sub/sub/d.csv", "sub/sub/e+1.txt"]),
        ("*/.h*/*", ["sub/.h/f.csv"]),
        (".*", [".g.csv"]),
        ("*+*", []),
        ("**/e+1.*", ["sub/sub/e+1.txt"]),
        ("*", ["a.csv", "b.csv"]),
    ],
)
def test_glob(place: Place, pattern: str, expected: list[str]) -> None:
    for name in ["a.csv", "b.csv", "sub/c.csv", "sub/sub/d.csv", "sub/sub/e+1.txt", "sub/.h/f.csv", ".g.csv"]:
        place.storage.write_atomic(place.path(name), b"12")
    found = place.storage.glob(place.path(pattern))
    assert [path[len(place.root) + 1 :] for path, _ in found] == expected
    assert {stat.size_bytes for _, stat in found} <= {2}


def test_create_if_absent_first_writer_wins(place: Place) -> None:
    path = place.path("records/r.json")
    assert place.storage.create_if_absent(path, b"first")
    assert not place.storage.create_if_absent(path, b"second")
    assert place.storage.create_if_absent(path, b"first")
    assert place.storage.read_bytes(path) == b"first"
    assert place.names() == ["records/r.json"]


def test_create_if_absent_has_one_winner_among_threads(place: Place) -> None:
    start = threading.Barrier(8)

    def create(contender: int) -> bool:
        start.wait()
        return place.storage.create_if_absent(place.path("race"), b"%d" % contender)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert place.storage.read_bytes(place.path("race")) == b"%d" % won.index(True)
    assert place.names() == ["race"]


def test_open_new_leaves_nothing_when_its_block_raises(place: Place) -> None:
    with pytest.raises(RuntimeError, match="disk on fire"), place.storage.open_new(place.path("d/half")) as file:
        file.write(b"half")
        raise RuntimeError("disk on fire")
    assert place.names() == []


def test_gcs_upload_in_parts_that_is_given_up_leaves_nothing(
    gcs: ConditionalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_gcs, "UPLOAD_BYTES", 256 << 10)
    root = f"gs://{BUCKET}/parts"
    storage = storage_for(root)
    with pytest.raises(RuntimeError, match="given up"), storage.open_new(f"{root}/half") as file:
        file.write(bytes(600 << 10))
        raise RuntimeError("given up")
    data = os.urandom(600 << 10)
    with storage.open_new(f"{root}/whole") as file:
        file.write(data)
    assert [path for path, _ in storage.list_files(root)] == [f"{root}/whole"]
    assert storage.read_bytes(f"{root}/whole") == data


def test_move_replaces_and_may_be_repeated(place: Place) -> None:
    pairs = [(place.path(f"from/{i}"), place.path(f"to/deep/{i}")) for i in range(20)]
    for source, _ in pairs:
        place.storage.write_atomic(source, source.encode())
    place.storage.write_atomic(pairs[3][1], b"in the way")
    place.storage.move(*pairs[0])
    place.storage.move_files(pairs)
    place.storage.move_files(pairs)
    assert place.names() == sorted(f"to/deep/{i}" for i in range(20))
    assert [place.storage.read_bytes(target) for _, target in pairs] == [source.encode() for source, _ in pairs]


def test_delete_tree_takes_this_directory_alone(place: Place) -> None:
    for name in ["t/a", "t/b/c", "t/b/d/.e", "t2/f", "tt"]:
        place.storage.write_atomic(place.path(name), b"")
    place.storage.delete_tree(place.path("t"))
    assert place.names() == ["t2/f", "tt"]


def test_delete_tree_by_many_at_once(place: Place) -> None:
    for i in range(60):
        place.storage.write_atomic(place.path(f"t/{i % 7}/{i}"), b"")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: place.storage.delete_tree(place.path("t")), range(4)))
    assert place.names() == []


def test_delete_tree_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_bytes(b"")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "kept")
    LocalStorage().delete_tree(str(tmp_path / "tree"))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "kept"]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which are not waited for."""
    seconds: list[float] = []
    monkeypatch.setattr("beam_etl.storage.time.sleep", seconds.append)
    return seconds


class Failing:
    """Stands for an operating system call: fails `times` times, before or after it took effect."""

    def __init__(self, call: Callable[..., Any], number: int, times: int, after: bool) -> None:
        self.call, self.number, self.times, self.after = call, number, times, after

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.times == 0:
            return self.call(*arguments, **named)
        self.times -= 1
        if self.after:
            self.call(*arguments, **named)
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", sorted(storage_module.TRANSIENT_ERRNOS))
@pytest.mark.parametrize("call", ["link", "fsync", "open"])
@pytest.mark.parametrize("after", [False, True])
def test_create_if_absent_survives_transient_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float], number: int, call: str, after: bool
) -> None:
    failing = Failing(getattr(os, call), number, times=2, after=after)
    monkeypatch.setattr(os, call, failing)
    assert LocalStorage().create_if_absent(str(tmp_path / "record"), b"mine")
    assert failing.times == 0
    assert [path.name for path in tmp_path.iterdir()] == ["record"]


def test_reading_survives_short_reads_and_transient_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    preadv = os.preadv
    failing = Failing(lambda fd, buffers, offset: preadv(fd, [buffers[0][:3]], offset), errno.EIO, times=2, after=False)
    monkeypatch.setattr(os, "preadv", failing)
    buffer = bytearray(8)
    assert LocalStorage().read_range(str(tmp_path / "file"), 1, memoryview(buffer)) == 8
    assert bytes(buffer) == b"12345678"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_lasting_errors_rise_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    failing = Failing(os.fsync, number, times=1, after=False)
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError) as caught:
        LocalStorage().create_if_absent(str(tmp_path / "record"), b"mine")
    assert caught.value.errno == number
    assert list(tmp_path.iterdir()) == []


def test_transient_errors_that_last_rise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    (tmp_path / "file").write_bytes(b"0")
    failing = Failing(os.preadv, errno.EIO, times=99, after=False)
    monkeypatch.setattr(os, "preadv", failing)
    with pytest.raises(OSError) as caught:
        LocalStorage().read_range(str(tmp_path / "file"), 0, memoryview(bytearray(1)))
    assert (caught.value.errno, failing.times) == (errno.EIO, 99 - storage_module.ATTEMPTS)
    assert [low <= pause <= 2 * low for low, pause in zip((0.05, 0.1, 0.2, 0.4), pauses, strict=True)] == [True] * 4


def test_a_crash_leaves_nothing_that_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", kill)
        patch.setattr(Path, "unlink", kill)
        with pytest.raises(Killed):
            LocalStorage().create_if_absent(str(tmp_path / "record"), b"mine")
    assert len(list(tmp_path.iterdir())) == 1
    assert LocalStorage().list_files(str(tmp_path)) == []
    assert LocalStorage().create_if_absent(str(tmp_path / "record"), b"other")


@pytest.mark.parametrize("performed", [False, True])
def test_gcs_create_whose_answer_is_lost(gcs: ConditionalStorage, performed: bool) -> None:
    path = f"gs://{BUCKET}/lost/{performed}"
    fault = Fault("POST", "ifGenerationMatch=0", performed)
    gcs.faults.append(fault)
    assert storage_for(path).create_if_absent(path, b"mine")
    assert gcs.injected == [fault]
    assert storage_for(path).read_bytes(path) == b"mine"
    assert not storage_for(path).create_if_absent(path, b"other")


@pytest.mark.parametrize("performed", [False, True])
def test_gcs_move_whose_answers_are_lost(gcs: ConditionalStorage, performed: bool) -> None:
    source, target = f"gs://{BUCKET}/moved/{performed}/a", f"gs://{BUCKET}/moved/{performed}/b"
    storage = storage_for(source)
    storage.write_atomic(source, b"payload")
    gcs.faults += [Fault("POST", "rewriteTo", performed), Fault("DELETE", "moved", performed)]
    storage.move(source, target)
    assert len(gcs.injected) == 2
    assert storage.stat(source) is None
    assert storage.read_bytes(target) == b"payload"


def test_gcs_reader_never_mixes_versions(gcs: ConditionalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_gcs, "READ_AHEAD_BYTES", 4)
    path = f"gs://{BUCKET}/replaced"
    storage = storage_for(path)
    storage.write_atomic(path, b"old old old old ")
    with storage.open_read(path) as reader:
        assert reader.read(2) == b"ol"
        storage.write_atomic(path, b"new new new new ")
        with pytest.raises(Exception, match="no such generation"):
            reader.read(12)
