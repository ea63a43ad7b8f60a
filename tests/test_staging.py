import os
import threading
from pathlib import Path

import pytest

from beam_etl.sources.archives import ArchiveError, SourceReadError, UnpackLimits
from beam_etl.sources.encoding import Encoding
from beam_etl.sources.staging import SourceChangedError, StagedFile, check_version, stage_plain, unpacked_archive
from beam_etl.storage import LocalStorage
from tests.awkward_archives import PACK, source_file, tar_of, zip_of

TEXT = b"".join(b"%d,text %d\n" % (n, n * n) for n in range(3000))


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(PACK["gzip"](TEXT))
    return source_file(path, "gzip", file_id=7)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "staged"


def _plain_files(target):
    return sorted(path.name for path in target.glob("*.plain"))


def _content(staged):
    with open(staged.path, "rb") as file:
        return file.read()


def test_a_copy_is_made_once(packed, target):
    first = stage_plain(packed, str(target))
    assert _content(first) == TEXT
    before = os.stat(first.path)
    assert stage_plain(packed, str(target)) == first
    assert os.stat(first.path).st_mtime_ns == before.st_mtime_ns
    assert [f"{target}/{name}" for name in _plain_files(target)] == [first.path]


def test_eight_threads_agree_on_one_copy(packed, target):
    start = threading.Barrier(8)
    results = []

    def stage():
        start.wait()
        results.append(stage_plain(packed, str(target)))

    threads = [threading.Thread(target=stage) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and len(set(results)) == 1
    assert _content(results[0]) == TEXT
    assert len(_plain_files(target)) == 1


def test_a_copy_that_somebody_deleted_is_made_again(packed, target):
    first = stage_plain(packed, str(target))
    os.unlink(first.path)
    again = stage_plain(packed, str(target))
    assert _content(again) == TEXT


def test_a_crash_before_the_record_leaves_no_copy_that_counts(packed, target, monkeypatch):
    def crash(self, path, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LocalStorage, "create_if_absent", crash)
        stage_plain(packed, str(target))
    orphans = _plain_files(target)
    staged = stage_plain(packed, str(target))
    assert _content(staged) == TEXT
    assert len(orphans) == 1 and os.path.basename(staged.path) not in orphans


def test_damage_leaves_nothing_behind(tmp_path, target):
    path = tmp_path / "a.gz"
    path.write_bytes(PACK["gzip"](TEXT)[:-1])
    with pytest.raises(ArchiveError):
        stage_plain(source_file(path, "gzip"), str(target))
    assert list(target.iterdir()) == []


def test_limits_are_the_callers(packed, target):
    with pytest.raises(ArchiveError, match="zip bomb"):
        stage_plain(packed, str(target), UnpackLimits(max_ratio=1, max_bytes=100))


def test_an_empty_member(tmp_path, target):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of([("a.csv", b"")]))
    staged = stage_plain(source_file(path, "zip", "a.csv"), str(target))
    assert (_content(staged), staged.high_byte) == (b"", -1)


def test_the_first_high_byte_is_found_in_any_block(tmp_path, target):
    path = tmp_path / "a.gz"
    path.write_bytes(PACK["gzip"](b"a" * 1_500_000 + b"\xe7\xe3" + b"a" * 10))
    assert stage_plain(source_file(path, "gzip"), str(target)).high_byte == 1_500_000


def test_rewriting(tmp_path, target):
    path = tmp_path / "a.csv"
    path.write_bytes("nome\nJoão\n".encode("utf-16"))
    staged = stage_plain(source_file(path), str(target), rewrite=Encoding("utf-16-le", 2, ""))
    assert (_content(staged), staged.high_byte) == ("nome\nJoão\n".encode(), 7)


def test_a_source_that_changes_while_it_is_read(packed, target, monkeypatch):
    opened = LocalStorage.open_read

    def open_and_change(self, path):
        file = opened(self, path)
        if path == packed.uri:
            os.utime(path, ns=(1, 1))
        return file

    monkeypatch.setattr(LocalStorage, "open_read", open_and_change)
    with pytest.raises(SourceChangedError, match=r"was version .* is .*-1"):
        stage_plain(packed, str(target))
    assert _plain_files(target) == []


def test_check_version(packed):
    assert check_version(packed).size_bytes == packed.size_bytes
    os.utime(packed.uri, ns=(5, 5))
    with pytest.raises(SourceChangedError):
        check_version(packed)
    os.unlink(packed.uri)
    with pytest.raises(SourceReadError, match="the file is gone"):
        check_version(packed)


def test_records_name_their_copy(packed, target):
    staged = stage_plain(packed, str(target))
    assert isinstance(staged, StagedFile)
    assert (target / "000007.json").exists()
    assert os.path.basename(staged.path).startswith("000007-")


@pytest.mark.parametrize("container", sorted(PACK))
def test_a_compressed_archive_is_unpacked_once_for_all_its_members(tmp_path, target, container):
    members = {f"{n}.csv": b"%d\n" % n * n for n in range(5)}
    path = tmp_path / "a.tar.x"
    path.write_bytes(PACK[container](tar_of(list(members.items()))))
    sources = [source_file(path, f"tar.{container}", name, file_id) for file_id, name in enumerate(members)]
    opened = [unpacked_archive(source, str(target)) for source in sources]
    assert {(source.container, source.uri) for source in opened} == {("tar", opened[0].uri)}
    assert [path.name for path in target.rglob("*.plain")] == [os.path.basename(opened[0].uri)]
    staged = [stage_plain(source, str(target)).path for source in opened]
    assert [Path(path).read_bytes() for path in staged] == list(members.values())


def test_what_is_no_compressed_archive_is_left_alone(packed, target):
    assert unpacked_archive(packed, str(target)) is packed


def test_a_compressed_archive_that_changed_is_not_unpacked(tmp_path, target):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(PACK["gzip"](tar_of([("a.csv", TEXT)])))
    planned = source_file(path, "tar.gzip", "a.csv")
    path.write_bytes(PACK["gzip"](tar_of([("a.csv", TEXT + b"1")])))
    with pytest.raises(SourceChangedError):
        unpacked_archive(planned, str(target))
    assert not list(target.rglob("*.plain"))
