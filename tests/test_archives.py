import io
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_etl.sources.archives import (
    BLOCK_BYTES,
    ArchiveError,
    SourceReadError,
    UnpackLimits,
    container_of,
    list_members,
    plain_blocks,
)
from tests.awkward_archives import (
    PACK,
    encrypted_zip,
    source_file,
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
        assert list_members(str(path)) == ["b/data.csv", "a.csv", "win\\c.csv", "./d.csv"]

    def test_names_that_lead_out_are_listed_so_that_they_are_refused(self, write):
        path = write(zip_of([("../x.csv", b""), ("/abs.csv", b"")]))
        assert list_members(str(path)) == ["../x.csv", "/abs.csv"]

    def test_each_name_once(self, write):
        with pytest.warns(UserWarning, match="Duplicate name"):
            path = write(zip_of([("a.csv", b"1"), ("a.csv", b"2")]))
        assert list_members(str(path)) == ["a.csv"]

    @pytest.mark.parametrize("data", [b"", b"PK", zip_of([("a", TEXT)])[:-30], b"<html>not found</html>"], ids=len)
    def test_a_broken_archive(self, write, data):
        with pytest.raises(ArchiveError) as raised:
            list_members(str(write(data)))
        assert raised.value.code == "corrupt_file"

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(SourceReadError):
            list_members(str(tmp_path / "none.zip"))


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
