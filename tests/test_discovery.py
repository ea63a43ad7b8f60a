import time
from pathlib import Path

import pytest

from beam_etl.model import SourceFile
from beam_etl.sources.discovery import TableRule, discover
from tests.awkward_archives import PACK, source_file, tar_of, zip_of
from tests.privileges import forbidden_file, without_privileges


@pytest.fixture
def dump(tmp_path):
    def write(files):
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(data)
        return str(tmp_path)

    return write


def _found(inputs, rules=(), table=None):
    return [(Path(f.uri).name, f.member, f.container, f.table) for f in discover(inputs, rules, table)]


def test_a_file(dump):
    path = dump({"orders.csv": b"a,b\n"}) + "/orders.csv"
    assert discover([path], [], None) == [source_file(path, table="orders")]


def test_files_are_ordered_by_uri_and_member_and_numbered(dump):
    folder = dump({"b.csv": b"", "a/z.zip": zip_of([("y.csv", b""), ("x.csv", b"")]), "a.csv": b"1"})
    files = discover([folder], [], None)
    assert [(f.file_id, f.uri.removeprefix(folder), f.member) for f in files] == [
        (0, "/a.csv", ""),
        (1, "/a/z.zip", "x.csv"),
        (2, "/a/z.zip", "y.csv"),
        (3, "/b.csv", ""),
    ]
    assert discover([f"{folder}/b.csv", f"{folder}/a.csv", f"{folder}/a/"], [], None) == files


def test_directories_leave_out_hidden_files_and_what_beam_etl_keeps(dump):
    folder = dump({"a.csv": b"", ".x.csv": b"", ".d/b.csv": b"", "_beam_etl/c.csv": b"", "s/_beam_etl/d.csv": b""})
    assert [row[0] for row in _found([folder])] == ["a.csv"]
    assert [row[0] for row in _found([folder + "/"])] == ["a.csv"]


def test_a_directory_below_a_hidden_one_may_be_named(dump):
    assert [row[0] for row in _found([dump({".d/b.csv": b""}) + "/.d"])] == ["b.csv"]


def test_globs(dump):
    folder = dump({"a.csv": b"", "b.txt": b"", "c/d.csv": b"", "e[1].csv": b""})
    assert [row[0] for row in _found([f"{folder}/*.csv"])] == ["a.csv", "e[1].csv"]
    assert [row[0] for row in _found([f"{folder}/**/*.csv"])] == ["a.csv", "d.csv", "e[1].csv"]
    assert [row[0] for row in _found([f"{folder}/e[1].csv"])] == ["e[1].csv"]


def test_a_file_that_several_inputs_name_comes_once(dump, monkeypatch):
    folder = dump({"a.csv": b""})
    monkeypatch.chdir(folder)
    assert [f.uri for f in discover(["a.csv", "./a.csv", f"{folder}/*", f"file://{folder}/a.csv", "."], [], None)] == [
        "a.csv"
    ]


def test_containers_are_told_by_content(dump):
    files = {f"{name}.csv": PACK[name](b"a,b\n") for name in PACK}
    folder = dump({**files, "plain.csv.gz": b"a,b\n", "really_a_zip.csv": zip_of([("m.csv", b"")])})
    assert [row[:3] for row in _found([folder])] == [
        ("bz2.csv", "", "bz2"),
        ("gzip.csv", "", "gzip"),
        ("plain.csv.gz", "", "none"),
        ("really_a_zip.csv", "m.csv", "zip"),
        ("xz.csv", "", "xz"),
        ("zstd.csv", "", "zstd"),
    ]


@pytest.mark.parametrize(
    "data", [b"", b"<html>", zip_of([]), zip_of([("a.csv", b"x")])[:-5], zip_of([("__MACOSX/a.csv", b"x")])], ids=len
)
def test_an_archive_without_readable_members_stands_for_itself(dump, data):
    folder = dump({"Socios1.zip": data})
    assert _found([folder]) == [("Socios1.zip", "", "zip", "socios")]


def test_the_members_of_tar_archives_whatever_compresses_them(dump):
    tar = tar_of([("d/", "5"), ("d/orders.csv", b"x"), ("../out.csv", b"x"), ("link.csv", "2"), ("items.1.csv", b"")])
    folder = dump({"a.tar": tar, **{f"{name}.csv": PACK[name](tar) for name in PACK}})
    members = [("../out.csv", "out"), ("d/orders.csv", "orders"), ("items.1.csv", "items")]
    assert _found([folder]) == [
        (uri, member, container, table)
        for uri, container in [("a.tar", "tar"), *((f"{name}.csv", f"tar.{name}") for name in sorted(PACK))]
        for member, table in members
    ]


@pytest.mark.parametrize("data", [b"", b"<html>", tar_of([("a.csv", b"x")])[:1024], tar_of([("d/", "5")])], ids=len)
def test_a_tar_archive_without_readable_members_stands_for_itself(dump, data):
    folder = dump({"Socios1.tar": data, "Socios2.tar.gz": PACK["gzip"](data), "Socios3.tgz": PACK["gzip"](data)[:-9]})
    assert [(row[1], row[3]) for row in _found([folder])] == [("", "socios")] * 3
    assert all(row[2] in ("tar", "tar.gzip", "gzip") for row in _found([folder]))


def test_tables(dump):
    registry = zip_of([("K3241.K03200Y0.D60808.EMPRECSV", b"")])
    folder = dump({"Empresas0.zip": registry, "x.zip": registry, "SociosBad.zip": b"", "lineitem.1.csv": b""})
    rules = [TableRule("empresa", ("empresas*",)), TableRule("bad", ("re:bad.zip$",))]
    assert [row[3] for row in _found([folder], rules)] == ["empresa", "bad", "lineitem", "emprecsv"]
    assert [row[3] for row in _found([folder], rules, "other")] == ["empresa", "bad", "other", "other"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("none.csv", "there is no such file, and no directory with files in it; check the path"),
        ("none/", "there is no such file, and no directory"),
        ("*.none", "no file matches it; check the path up to the first"),
        ("hidden", "the directory holds no files but hidden ones"),
    ],
)
def test_an_input_that_matches_nothing_is_refused_with_a_remedy(dump, item, message):
    folder = dump({"hidden/.x.csv": b"", "a.csv": b""})
    with pytest.raises(ValueError, match=r"^input ") as raised:
        discover([f"{folder}/a.csv", f"{folder}/{item}"], [], None)
    assert message in str(raised.value) and repr(f"{folder}/{item}") in str(raised.value)


def test_a_file_that_cannot_be_opened_is_planned_and_left_to_inspection():
    with forbidden_file("a.zip", zip_of([("m.csv", b"")])) as path:
        with without_privileges():
            files = discover([path], [], None)
        assert files == [source_file(path, table="a")]


def test_ten_thousand_files_take_seconds(dump):
    folder = dump({f"{n:05}.csv": b"a,b\n1,2\n" for n in range(10_000)})
    started = time.process_time()
    files = discover([folder], [TableRule("t", ("*.tsv", "re:^0")), TableRule("u", ("*",))], None)
    assert time.process_time() - started < 30
    assert [f.file_id for f in files] == list(range(10_000))
    assert {f.table for f in files} == {"t"}


def test_a_source_file_is_hashable_and_small(dump):
    (found,) = discover([dump({"a.csv": b"1"})], [], "t")
    assert isinstance(found, SourceFile) and {found: 1}
