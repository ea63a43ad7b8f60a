import codecs
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_etl.model import Dialect, InspectedFile, Reject, SkippedRange
from beam_etl.sources import inspection
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.discovery import discover
from beam_etl.sources.inspection import HEAD_BYTES, inspect_file
from beam_etl.storage import LocalStorage, storage_for
from tests.awkward_archives import PACK, encrypted_zip, source_file, zip_of, zip_with_wrong_crc
from tests.gcs_front import BUCKET, serve_gcs
from tests.privileges import forbidden_file, without_privileges

NOTHING = DeclaredDialect()
TEXT = b"id,name\n1,anna\n2,bob\n"
ENDED = TEXT + b"End of report\n"
REGISTRY = '"33683111";"SERVIÇO; FEDERAL\nSERPRO";"1061004829,23"\n"00000000";"JOÃO";"0,00"\n'.encode("iso-8859-1")


@pytest.fixture
def inspect(tmp_path):
    def inspect_bytes(data, container="none", member="", declared=NOTHING):
        path = tmp_path / "file"
        path.write_bytes(data)
        return inspect_file(source_file(path, container, member), declared, str(tmp_path / "staged"))

    return inspect_bytes


def _content(inspected):
    with open(inspected.path, "rb") as file:
        return file.read()


def _body(inspected):
    return _content(inspected)[inspected.body_start :]


def test_a_plain_file_is_read_where_it_is(tmp_path):
    path = tmp_path / "people.csv"
    path.write_bytes(TEXT)
    source = source_file(path)
    assert inspect_file(source, NOTHING, str(tmp_path / "staged")) == InspectedFile(
        source=source,
        path=str(path),
        path_bytes=len(TEXT),
        path_version=source.version,
        dialect=Dialect(),
        body_start=8,
        columns=("id", "name"),
        header_lines=1,
        skipped=(SkippedRange(0, 8, "header"),),
        evidence=(
            "utf-8: only ASCII bytes found",
            "delimiter ',' detected, quote '\"', escape doubled, line end lf: 3 records sampled, most with 2 fields",
            "header: a column of numbers or dates has a name above it",
        ),
    )
    assert not (tmp_path / "staged").exists()


@pytest.mark.parametrize("container", sorted(PACK))
def test_a_compressed_file_is_staged(inspect, container):
    found = inspect(PACK[container](TEXT), container)
    assert (_content(found), found.columns, found.body_start) == (TEXT, ("id", "name"), 8)
    stat = storage_for(found.path).stat(found.path)
    assert (found.path_bytes, found.path_version) == (stat.size_bytes, stat.version)


def test_a_registry_member(inspect):
    found = inspect(zip_of([("K3241.K03200Y0.D60808.EMPRECSV", REGISTRY)]), "zip", "K3241.K03200Y0.D60808.EMPRECSV")
    assert _body(found) == REGISTRY
    assert found.dialect == Dialect("iso-8859-1", ";", '"', "doubled", "lf")
    assert (found.columns, found.header_lines) == (("column_1", "column_2", "column_3"), 0)


@pytest.mark.parametrize("container", ["none", *sorted(PACK)])
@pytest.mark.parametrize("data", [b"", b"\n", codecs.BOM_UTF8])
def test_a_file_without_records(inspect, container, data):
    found = inspect(PACK[container](data) if container != "none" else data, container)
    assert (found.columns, found.body_start, found.path_bytes) == ((), len(data), len(data))


def test_an_empty_and_a_one_byte_member(inspect):
    empty = inspect(zip_of([("a.csv", b"")]), "zip", "a.csv")
    assert (empty.columns, empty.body_start, empty.path_bytes) == ((), 0, 0)


def test_a_one_byte_member(inspect):
    one = inspect(zip_of([("a.csv", b"x")]), "zip", "a.csv")
    assert (one.columns, one.body_start, one.path_bytes) == (("x",), 1, 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("container", ["none", "gzip"])
def test_utf_16_and_utf_32_are_staged_as_utf_8(inspect, encoding, container):
    data = "id;nome\r\n1;João\r\n".encode(encoding)
    found = inspect(PACK["gzip"](data) if container == "gzip" else data, container)
    assert _content(found) == "id;nome\r\n1;João\r\n".encode()
    assert (found.dialect.encoding, found.columns, found.body_start) == ("utf-8", ("id", "nome"), 9)


def test_a_declared_wide_encoding_is_staged_as_utf_8(inspect):
    found = inspect("番号,名前\n1,漢字\n".encode("shift_jis"), declared=DeclaredDialect(encoding="shift_jis"))
    assert (_body(found).decode(), found.columns) == ("1,漢字\n", ("番号", "名前"))


def test_undecodable_bytes_of_utf_16_stay_undecodable(inspect):
    data = codecs.BOM_UTF16_LE + "id,x\n1,".encode("utf-16-le") + b"\x00\xd8" + "\n2,b\n".encode("utf-16-le") + b"c"
    found = inspect(data)
    assert _body(found) == b"1,\xed\xb0\x80\xed\xb3\x98\n2,b\n\xed\xb1\xa3"


@pytest.mark.parametrize("container", ["none", "gzip"])
@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8"])
def test_an_accent_far_behind_an_ascii_head_tells_the_encoding(inspect, container, encoding):
    rows = b"1,anna\n" * 200_000
    data = b"id,name\n" + rows + "2,João\n".encode(encoding) * 20_000 + rows
    found = inspect(PACK["gzip"](data) if container == "gzip" else data, container)
    assert found.dialect.encoding == encoding


def test_one_accent_in_a_staged_file_is_enough(inspect):
    rows = b"1,anna\n" * 200_000
    found = inspect(zip_of([("a", b"id,name\n" + rows + b"2,Jo\xe3o\n" + rows)]), "zip", "a")
    assert found.dialect.encoding == "iso-8859-1"


def test_a_header_longer_than_the_head(inspect):
    names = [f"a_column_with_a_long_name_{n}" for n in range(10_000)]
    header = (",".join(names) + "\n").encode()
    assert len(header) > HEAD_BYTES[0]
    found = inspect(header + b",".join([b"1"] * 10_000) + b"\n")
    assert (found.columns, found.body_start) == (tuple(names), len(header))


def test_a_first_record_without_end(inspect, monkeypatch):
    monkeypatch.setattr(inspection, "HEAD_BYTES", (100, 1000))
    endless = b"a" * 5000
    rejected = inspect(endless)
    assert (rejected.code, rejected.record) == ("record_too_long", 0)
    declared = DeclaredDialect(delimiter=",", quote='"', header=False, columns=("a", "b"))
    assert inspect(endless, declared=declared).columns == ("a", "b")
    # Where it ends with the file, its columns are known.
    names = [f"c{n}" for n in range(200)]
    assert inspect(",".join(names).encode()).columns == tuple(names)


@pytest.mark.parametrize("container", ["none", "gzip"])
@pytest.mark.parametrize("rows", [b"1,anna,2.50\n", b'"1","an""na, x","2.50"\n'])
def test_a_footer_far_behind_the_head(inspect, container, rows):
    body, footer = rows * 60_000, b"Total,,150000.00\n\nSource: the registry\n"
    data = b"Report of May\nid,name,sum\n" + body + footer
    found = inspect(PACK["gzip"](data) if container == "gzip" else data, container)
    assert _content(found)[found.body_start : found.body_end] == body
    assert [(part.reason, part.end - part.start) for part in found.skipped] == [
        ("preamble", 14),
        ("header", 12),
        ("footer: row of totals and notes behind the table", len(footer)),
    ]


def test_declared_lines_before_and_behind_the_table(inspect):
    data = b"x,y\n\nid,name\n1,anna\n2,bob\nz,z\n\n"
    found = inspect(data, declared=DeclaredDialect(skip_lines=2, footer_lines=2))
    assert data[found.body_start : found.body_end] == b"1,anna\n2,bob\n"
    assert inspect(ENDED, declared=DeclaredDialect(footer_lines=0)).body_end == len(ENDED)
    assert inspect(ENDED).body_end == len(TEXT)


@pytest.mark.parametrize("container", ["none", "gzip"])
def test_japanese_far_behind_an_ascii_head(inspect, container):
    rows = b"1,anna\n" * 60_000
    kana = "2,東京都新宿区のビル\n3,カタカナです\n" * 20_000
    found = inspect(
        PACK[container](b"id,name\n" + rows + kana.encode("cp932"))
        if container == "gzip"
        else (b"id,name\n" + rows + kana.encode("cp932")),
        container,
    )
    assert found.dialect.encoding == "utf-8"
    assert _body(found) == rows + kana.encode()


def test_an_archive_on_an_object_store_is_found_and_staged_there(monkeypatch):
    with serve_gcs() as (host, _):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        archive = f"gs://{BUCKET}/in/dump.zip"
        storage_for(archive).write_atomic(archive, zip_of([("people.csv", TEXT), ("b/registry", REGISTRY)]))
        plain = f"gs://{BUCKET}/in/plain.csv"
        storage_for(plain).write_atomic(plain, TEXT)
        files = discover([f"gs://{BUCKET}/in"], [], None)
        assert [(f.uri, f.member, f.container, f.table) for f in files] == [
            (archive, "b/registry", "zip", "registry"),
            (archive, "people.csv", "zip", "people"),
            (plain, "", "none", "plain"),
        ]
        found = [inspect_file(file, NOTHING, f"gs://{BUCKET}/staged") for file in files]
        assert [f.columns for f in found] == [("column_1", "column_2", "column_3"), ("id", "name"), ("id", "name")]
        assert [storage_for(f.path).read_bytes(f.path) for f in found] == [REGISTRY, TEXT, TEXT]
        assert found[2].path == plain


def test_inspection_is_repeatable(inspect):
    packed = PACK["gzip"](TEXT)
    first = inspect(packed, "gzip")
    again = inspect_file(first.source, NOTHING, os.path.dirname(first.path))
    assert again == first


class TestRejects:
    @pytest.mark.parametrize(
        ("data", "container", "member", "reason"),
        [
            (PACK["gzip"](TEXT)[:-3], "gzip", "", "ends too early: truncated, or an incomplete download"),
            (PACK["xz"](TEXT)[:-3], "xz", "", "ends too early"),
            (PACK["zstd"](TEXT)[:-3], "zstd", "", "cannot be unpacked: Truncated compressed stream"),
            (zip_of([("a.csv", TEXT)])[:-3], "zip", "", "cannot be unpacked: File is not a zip file"),
            (zip_with_wrong_crc(TEXT), "zip", "a.csv", "cannot be unpacked: Bad CRC-32 for file 'a.csv'"),
            (encrypted_zip(TEXT), "zip", "a.csv", "the member is encrypted"),
            (zip_of([("../a.csv", TEXT)]), "zip", "../a.csv", "leads out of the archive"),
            (b"<html>", "zip", "", "cannot be unpacked: File is not a zip file"),
            (zip_of([("a.gz", PACK["gzip"](TEXT))]), "zip", "a.gz", "holds a gzip file, which is not unpacked here"),
            (zip_of([("a.csv", TEXT)]), "none", "", "is a zip file, which is not unpacked here"),
        ],
        ids=["gzip", "xz", "zstd", "zip", "crc", "encrypted", "zip-slip", "no zip", "nested", "grown a container"],
    )
    def test_corrupt_files(self, inspect, data, container, member, reason):
        rejected = inspect(data, container, member)
        assert isinstance(rejected, Reject)
        assert (rejected.code, rejected.record, rejected.line, rejected.raw) == ("corrupt_file", 0, 0, b"")
        assert (rejected.member, rejected.column) == (member, "")
        assert reason in rejected.reason

    def test_damage_behind_the_head_is_found(self, inspect):
        packed = PACK["gzip"](os.urandom(1 << 20))
        rejected = inspect(packed[: len(packed) // 2], "gzip")
        assert rejected.code == "corrupt_file"

    def test_a_vanished_file(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(TEXT)
        source = source_file(path)
        path.unlink()
        rejected = inspect_file(source, NOTHING, str(tmp_path))
        assert (rejected.file, rejected.code, rejected.byte_end) == (str(path), "unreadable_file", len(TEXT))
        assert rejected.reason == "cannot be read: the file is gone"

    @pytest.mark.parametrize("container", ["none", "gzip"])
    def test_a_file_without_permission(self, container):
        with forbidden_file("a.csv", TEXT) as path:
            source = source_file(path, container)
            with without_privileges():
                rejected = inspect_file(source, NOTHING, "unused")
        assert (rejected.code, rejected.reason) == ("unreadable_file", "cannot be read: Permission denied")

    def test_a_changed_file(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(TEXT)
        source = source_file(path)
        path.write_bytes(TEXT + b"3,eve\n")
        rejected = inspect_file(source, NOTHING, str(tmp_path))
        assert rejected.code == "changed_file"
        assert f"was version {source.version} when the load was planned" in rejected.reason

    def test_a_file_that_shrinks_while_it_is_read(self, tmp_path, monkeypatch):
        path = tmp_path / "a.csv"
        path.write_bytes(TEXT)
        source = source_file(path)
        monkeypatch.setattr(LocalStorage, "read_range", lambda self, path, start, buffer: 3)
        assert inspect_file(source, NOTHING, str(tmp_path)).code == "changed_file"

    def test_a_staging_directory_that_cannot_be_written_is_no_fault_of_the_file(self, tmp_path):
        path = tmp_path / "a.gz"
        path.write_bytes(PACK["gzip"](TEXT))
        (tmp_path / "staged").write_bytes(b"a file, no directory")
        with pytest.raises(OSError):
            inspect_file(source_file(path, "gzip"), NOTHING, str(tmp_path / "staged"))

    def test_a_passing_fault_of_the_disk_is_tried_again(self, tmp_path, monkeypatch):
        path = tmp_path / "a.csv"
        path.write_bytes(TEXT)
        source = source_file(path)
        faults = [OSError(5, "Input/output error")] * 2
        really = LocalStorage.read_range

        def read_range(self, path, start, buffer):
            if faults:
                raise faults.pop()
            return really(self, path, start, buffer)

        monkeypatch.setattr(LocalStorage, "read_range", read_range)
        assert inspect_file(source, NOTHING, str(tmp_path)).columns == ("id", "name")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60), container=st.sampled_from(["none", "gzip", "bz2", "xz", "zstd", "zip"]))
def test_any_bytes_are_inspected_or_rejected(inspect, data, container):
    found = inspect(data, container)
    if isinstance(found, InspectedFile):
        assert container == "none"
        assert 0 <= found.body_start <= found.body_end <= found.path_bytes
    else:
        assert found.code == "corrupt_file"


def test_a_small_plain_file_takes_milliseconds(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(TEXT)
    source = source_file(path)
    inspect_file(source, NOTHING, str(tmp_path))
    started = time.process_time()
    for _ in range(100):
        inspect_file(source, NOTHING, str(tmp_path))
    assert (time.process_time() - started) / 100 < 0.005
