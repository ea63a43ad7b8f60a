import io
import random
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_etl.model import SourceFile
from beam_etl.sources.archives import (
    BLOCK_BYTES,
    ArchiveError,
    SourceReadError,
    UnpackLimits,
    compressed_archive,
    container_of,
    list_members,
    member_bytes,
    plain_blocks,
)
from tests.awkward_archives import (
    PACK,
    encrypted_zip,
    source_file,
    tar_of,
    tar_with_size,
    zip_of,
    zip_with_method,
    zip_with_size,
    zip_with_wrong_crc,
)

TEXT = b"".join(b"%d,text %d\n" % (n, n * n) for n in range(3000))
LARGE = bytes(range(256)) * 10_000


def _plain(path, container, member="", **limits):
    return b"".join(plain_blocks(source_file(path, container, member), UnpackLimits(**limits)))


@pytest.fixture
def write(tmp_path):
    def write_file(data, name="file"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write_file


class TestContainerOf:
    @pytest.mark.parametrize("container", sorted(PACK))
    def test_by_content_whatever_the_name(self, container):
        for data in (b"", TEXT):
            packed = PACK[container](data)
            assert container_of("data.csv", len(packed), packed[:262]) == container

    def test_archives(self):
        for members in ([], [("a", b"x")]):
            packed = zip_of(members)
            assert container_of("data.csv", len(packed), packed[:262]) == "zip"
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
        assert container_of("a.tar", 10240, tar.getvalue()[:262]) == "tar"

    @pytest.mark.parametrize("head", [b"", b"a,b\n", b"PK,BZh9\n", b"BZh9 is a name\n", b"\x1f", b"PK"])
    def test_plain_text(self, head):
        assert container_of("data.csv", len(head), head) == "none"

    def test_a_promise_that_the_content_breaks(self):
        assert container_of("a.csv.gz", 4, b"a,b\n") == "none"
        assert container_of("a.csv.GZ", 0, b"") == "gzip"
        assert container_of("a.zip", 6, b"<html>") == "zip"
        assert container_of("a.zip", 0, b"") == "zip"
        for name in ("a.tar", "a.TAR.GZ", "a.tgz", "a.tbz2", "a.txz", "a.tar.zst"):
            assert container_of(name, 6, b"<html>") == "tar"
        assert container_of("tar.csv", 6, b"<html>") == "none"


class TestListMembers:
    def test_directories_hidden_files_and_macos_clutter_are_left_out(self, write):
        names = [
            "b/",
            "b/data.csv",
            "a.csv",
            ".hidden",
            "x/.y/z.csv",
            "__MACOSX/a.csv",
            "win\\",
            "win\\c.csv",
            "./d.csv",
        ]
        path = write(zip_of([(name, b"") for name in names]))
        assert list_members(source_file(path, "zip")) == ["b/data.csv", "a.csv", "win\\c.csv", "./d.csv"]

    def test_names_that_lead_out_are_listed_so_that_they_are_refused(self, write):
        path = write(zip_of([("../x.csv", b""), ("/abs.csv", b"")]))
        assert list_members(source_file(path, "zip")) == ["../x.csv", "/abs.csv"]

    def test_each_name_once(self, write):
        with pytest.warns(UserWarning, match="Duplicate name"):
            path = write(zip_of([("a.csv", b"1"), ("a.csv", b"2")]))
        assert list_members(source_file(path, "zip")) == ["a.csv"]

    @pytest.mark.parametrize("data", [b"", b"PK", zip_of([("a", TEXT)])[:-30], b"<html>not found</html>"], ids=len)
    def test_a_broken_archive(self, write, data):
        with pytest.raises(ArchiveError) as raised:
            list_members(source_file(write(data), "zip"))
        assert raised.value.code == "corrupt_file"

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(SourceReadError):
            list_members(SourceFile(0, str(tmp_path / "none.zip"), "", "t", 9, "v", "zip"))


class TestPlainBlocks:
    @pytest.mark.parametrize("container", sorted(PACK))
    @pytest.mark.parametrize("data", [b"", b"a", TEXT, LARGE], ids=len)
    def test_compressed(self, write, container, data):
        assert _plain(write(PACK[container](data)), container) == data

    @pytest.mark.parametrize("container", sorted(PACK))
    def test_several_streams_in_one_file(self, write, container):
        pack = PACK[container]
        assert _plain(write(pack(TEXT) + pack(b"") + pack(b"end\n")), container) == TEXT + b"end\n"

    @pytest.mark.parametrize("container", ["gzip", "bz2", "xz"])
    def test_padding_that_the_format_allows(self, write, container):
        assert _plain(write(PACK[container](TEXT) + bytes(512)), container) == TEXT

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    @pytest.mark.parametrize("data", [b"", b"a", TEXT], ids=len)
    def test_zip_members(self, write, method, data):
        path = write(zip_of([("first", b"1"), ("dir/a.csv", data), ("last", b"2")], method))
        assert _plain(path, "zip", "dir/a.csv") == data

    def test_blocks_are_bounded(self, write):
        blocks = list(plain_blocks(source_file(write(PACK["gzip"](LARGE)), "gzip")))
        assert len(blocks) == 3 and max(map(len, blocks)) == BLOCK_BYTES

    def test_a_plain_file(self, write):
        assert _plain(write(TEXT), "none") == TEXT

    @pytest.mark.parametrize("container", sorted(PACK))
    @pytest.mark.parametrize(
        "damage",
        [
            lambda packed: b"",
            lambda packed: packed[:5],
            lambda packed: packed[: len(packed) // 2],
            lambda packed: packed[:-1],
            lambda packed: packed.replace(packed[200:208], packed[207:199:-1]),
            lambda packed: packed + packed[:-4],
            lambda packed: packed + b"garbage!",
            lambda packed: packed + b"X" + packed[1:],
        ],
        ids=["empty", "header only", "half", "last byte", "flipped", "second cut", "garbage", "second damaged"],
    )
    def test_damage_never_passes(self, write, container, damage):
        with pytest.raises(ArchiveError) as raised:
            _plain(write(damage(PACK[container](TEXT))), container)
        assert raised.value.code == "corrupt_file"

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (encrypted_zip(TEXT), "the member is encrypted; unpack the archive with its password first"),
            (zip_with_wrong_crc(TEXT), "cannot be unpacked: Bad CRC-32 for file 'a.csv'"),
            (zip_with_method(TEXT, 9), "method 9); unpack the archive by hand"),
            (zip_with_size(TEXT, len(TEXT) + 1), "ends too early"),
            (zip_with_size(TEXT, len(TEXT) - 1), "Bad CRC-32"),
            (zip_of([("a.csv", TEXT)])[:-1], "cannot be unpacked"),
            (zip_of([("other.csv", TEXT)]), "holds 0 members of this name"),
            (b"", "cannot be unpacked"),
        ],
        ids=["encrypted", "crc", "method", "longer", "shorter", "truncated", "absent", "empty"],
    )
    def test_zip_faults(self, write, data, reason):
        with pytest.raises(ArchiveError) as raised:
            _plain(write(data), "zip", "a.csv")
        assert raised.value.code == "corrupt_file"
        assert reason in raised.value.reason

    @pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "\\x", "C:\\x", "..\\x"])
    def test_names_that_lead_out_of_the_archive(self, write, name):
        path = write(zip_of([(name, TEXT)]))
        (member,) = zipfile.ZipFile(path).namelist()
        with pytest.raises(ArchiveError, match="leads out of the archive"):
            _plain(path, "zip", member)

    def test_two_members_of_one_name_are_refused_rather_than_one_of_them_lost(self, write):
        with pytest.warns(UserWarning, match="Duplicate name"):
            path = write(zip_of([("a.csv", b"1"), ("a.csv", b"2")]))
        with pytest.raises(ArchiveError, match="holds 2 members of this name"):
            _plain(path, "zip", "a.csv")

    def test_an_archive_without_files(self, write):
        with pytest.raises(ArchiveError, match="holds no files"):
            _plain(write(zip_of([])), "zip", "")

    def test_bombs(self, write):
        zeros = bytes(8 << 20)
        member = write(zip_of([("a.csv", zeros)]), "zip")
        packed = write(PACK["gzip"](zeros), "gz")
        for path, container in ((member, "zip"), (packed, "gzip")):
            with pytest.raises(ArchiveError, match="like a zip bomb"):
                _plain(path, container, "a.csv", max_ratio=100, max_bytes=1 << 20)
            assert _plain(path, container, "a.csv", max_ratio=100, max_bytes=8 << 20) == zeros
            assert _plain(path, container, "a.csv", max_ratio=1100, max_bytes=1 << 20) == zeros
            assert _plain(path, container, "a.csv") == zeros

    def test_a_missing_file(self, write):
        path = write(TEXT)
        source = source_file(path)
        path.unlink()
        with pytest.raises(SourceReadError, match="No such file"):
            list(plain_blocks(source))

    @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        container=st.sampled_from(["zip", *sorted(PACK)]),
        edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4),
        cut=st.integers(0, 60),
    )
    def test_damaged_bytes_give_the_very_data_or_an_archive_error(self, write, container, edits, cut):
        data = TEXT[:2000]
        packed = bytearray(zip_of([("a.csv", data)]) if container == "zip" else PACK[container](data))
        for place, value in edits:
            packed[place % len(packed)] = value
        path = write(bytes(packed[: len(packed) - cut]))
        try:
            assert _plain(path, container, "a.csv") == data
        except ArchiveError as error:
            assert error.code == "corrupt_file"


PACKED_TARS = [("tar", bytes), *((f"tar.{name}", pack) for name, pack in sorted(PACK.items()))]
NESTED = [
    ("b/", "5"),
    ("b/c/data.csv", TEXT),
    ("empty.csv", b""),
    ("./d.csv", b"x" * 512),
    ("last.csv", random.Random(1).randbytes(1_100_000)),
]


@pytest.mark.parametrize(("container", "pack"), PACKED_TARS, ids=[name for name, _ in PACKED_TARS])
class TestTar:
    def test_members(self, write, container, pack):
        for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            path = write(pack(tar_of(NESTED, form)))
            files = {name: data for name, data in NESTED if isinstance(data, bytes)}
            assert list_members(source_file(path, container)) == list(files)
            assert member_bytes(source_file(path, container)) == {name: len(data) for name, data in files.items()}
            assert {name: _plain(path, container, name) for name in files} == files

    def test_long_and_foreign_names(self, write, container, pack):
        names = ["d/" * 150 + "a.csv", "münze, größe.csv", "n" * 300]
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            path = write(pack(tar_of([(name, name.encode()) for name in names], form)))
            assert list_members(source_file(path, container)) == names
            assert [_plain(path, container, name) for name in names] == [name.encode() for name in names]
        path = write(pack(tar_of([("caf\udce9.csv", b"1")], tarfile.GNU_FORMAT)))
        assert list_members(source_file(path, container)) == ["caf\ufffd.csv"]
        assert _plain(path, container, "caf\ufffd.csv") == b"1"

    def test_links_devices_and_directories_are_no_members(self, write, container, pack):
        kinds = [(f"kind{kind}.csv", kind) for kind in "123456"]
        path = write(pack(tar_of([("a.csv", b"1"), *kinds, (".hidden", b""), ("__MACOSX/a", b""), ("z", b"2")])))
        assert list_members(source_file(path, container)) == ["a.csv", "z"]
        with pytest.raises(ArchiveError, match="holds 0 members of this name"):
            _plain(path, container, "kind2.csv")

    @pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "..\\x", "C:\\x"])
    def test_names_that_lead_out_are_listed_and_refused(self, write, container, pack, name):
        path = write(pack(tar_of([(name, TEXT), ("good.csv", b"1")])))
        assert list_members(source_file(path, container)) == [name, "good.csv"]
        with pytest.raises(ArchiveError, match="leads out of the archive"):
            _plain(path, container, name)
        assert _plain(path, container, "good.csv") == b"1"

    def test_two_members_of_one_name_are_refused(self, write, container, pack):
        path = write(pack(tar_of([("a.csv", b"1"), ("b.csv", b"2"), ("a.csv", b"3")])))
        assert list_members(source_file(path, container)) == ["a.csv", "b.csv"]
        with pytest.raises(ArchiveError, match="holds 2 members of this name"):
            _plain(path, container, "a.csv")
        assert _plain(path, container, "b.csv") == b"2"

    def test_an_archive_without_files(self, write, container, pack):
        path = write(pack(tar_of([("a/", "5")])))
        assert list_members(source_file(path, container)) == []
        with pytest.raises(ArchiveError, match="holds no files"):
            _plain(path, container)

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (lambda tar: tar[:0], "ends too early"),
            (lambda tar: tar[:300], "ends too early"),
            (lambda tar: tar[: 512 + 700], "ends too early"),
            (lambda tar: tar[:1536], "ends too early"),
            (lambda tar: tar[: 1536 + 100], "ends too early"),
            (lambda tar: tar[:2560], "ends too early"),
            (lambda tar: tar[:1600] + b"?" + tar[1601:], "damaged header of a member: bad checksum"),
            (lambda tar: tar[:3100] + b"?" + tar[3101:], "goes on behind its end mark"),
            (lambda tar: tar + tar, "goes on behind its end mark"),
            (lambda tar: tar_with_size(tar, b"second", b"77777777777\0"), "ends too early"),
            (lambda tar: tar_with_size(tar, b"second", b"\xff" * 11 + b"\0"), "cannot be unpacked"),
            (lambda tar: b"<html>not found</html>" + tar[22:], "bad checksum"),
        ],
    )
    def test_damage_refuses_the_archive(self, write, container, pack, damage, reason):
        tar = tar_of([("first.csv", b"1" * 1000), ("second.csv", b"2" * 10)])
        path = write(pack(damage(tar)))
        for read in (list_members, lambda source: list(plain_blocks(source))):
            with pytest.raises(ArchiveError) as raised:
                read(source_file(path, container))
            assert raised.value.code == "corrupt_file"
            assert reason in raised.value.reason or "incomplete download" in raised.value.reason

    def test_a_member_with_holes_is_refused(self, write, container, pack):
        archive = bytearray(tar_of([("a.csv", b"1" * 512), ("b.csv", b"2")], tarfile.GNU_FORMAT))
        archive[156:157] = b"S"
        archive[386:410] = b"00000001000\0" + b"00000001000\0"
        archive[483:495] = b"00000002000\0"
        path = write(pack(tar_with_size(bytes(archive), b"a.csv", b"00000001000\0")))
        assert list_members(source_file(path, container)) == ["a.csv", "b.csv"]
        with pytest.raises(ArchiveError, match="stored with holes"):
            _plain(path, container, "a.csv")
        assert _plain(path, container, "b.csv") == b"2"

    def test_a_volume_of_several_is_refused(self, write, container, pack):
        path = write(pack(tar_of([("a.csv", "M"), ("b.csv", b"2")])))
        with pytest.raises(ArchiveError, match="one volume"):
            list_members(source_file(path, container))

    def test_a_header_that_would_fill_memory_is_refused(self, write, container, pack):
        path = write(
            pack(tar_with_size(tar_of([("a.csv", "L"), ("b.csv", bytes(2 << 20))]), b"a.csv", b"00010000000\0"))
        )
        with pytest.raises(ArchiveError, match="a header claims 2097152 bytes"):
            list_members(source_file(path, container))

    def test_bombs(self, write, container, pack):
        path = write(pack(tar_of([("a.csv", bytes(8 << 20)), ("b.csv", b"1")])))
        if container == "tar":
            assert _plain(path, container, "b.csv", max_ratio=1, max_bytes=1 << 20) == b"1"
            return
        with pytest.raises(ArchiveError, match="like a zip bomb"):
            _plain(path, container, "b.csv", max_ratio=10, max_bytes=1 << 20)
        assert _plain(path, container, "b.csv", max_ratio=10, max_bytes=9 << 20) == b"1"

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        edits=st.lists(st.tuples(st.integers(0, 3072), st.integers(0, 255)), max_size=4),
        cut=st.integers(0, 9000),
    )
    def test_a_damaged_archive_loses_no_member_silently(self, write, container, pack, edits, cut):
        tar = bytearray(tar_of([("a.csv", b"1" * 600), ("b.csv", b"2")], tarfile.USTAR_FORMAT))
        for place, value in edits:
            tar[place] = value
        path = write(pack(bytes(tar[: len(tar) - cut])))
        try:
            members = _files_or_others(path, container)
        except ArchiveError as error:
            assert error.code == "corrupt_file"
        else:
            assert members == 2


def _files_or_others(path, container):
    """How many entries an archive that passes has; an edited header with a good checksum may have another type."""
    names = list_members(source_file(path, container))
    for name in names:
        try:
            _plain(path, container, name)
        except ArchiveError as error:
            assert "of this name" in error.reason or "leads out" in error.reason
    return len(names)


def test_a_compressed_archive_is_told_by_content(write):
    for container, pack in PACK.items():
        for data, name, expected in (
            (tar_of([("a", b"x")]), "a.csv", f"tar.{container}"),
            (TEXT, "a.csv.gz", container),
            (b"", "a.csv.gz", container),
            (b"<html>", "a.tar.gz", f"tar.{container}"),
        ):
            assert compressed_archive(source_file(write(pack(data)), container), name) == expected
        assert compressed_archive(source_file(write(pack(TEXT)[:5]), container), "a.csv") == container
