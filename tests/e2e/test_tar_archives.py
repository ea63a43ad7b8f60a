"""Tar archives in one load: each member lands, and a truncated archive is rejected as a file beside them."""

from beam_etl.exit_codes import NOT_PUBLISHED
from tests.awkward_archives import PACK, tar_of
from tests.landed import last_report, parquet_rows, reject_lines, run


def test_members_load_beside_a_truncated_archive_and_an_unsafe_name(tmp_path):
    orders = [(n, f"text {n}") for n in range(2000)]
    members = [
        ("dump/", "5"),
        ("dump/orders.1.csv", b"id,text\n" + b"".join(b"%d,text %d\n" % (n, n) for n in range(1200))),
        ("dump/link.csv", "2"),
        ("dump/deeper/orders.2.csv", b"id,text\n" + b"".join(b"%d,text %d\n" % (n, n) for n in range(1200, 2000))),
        ("people.csv", "id,name\n1,josé\n".encode("utf-16")),
        ("../outside.csv", b"id,text\n1,a\n"),
    ]
    dump = tmp_path / "dump"
    dump.mkdir()
    packed = PACK["gzip"](tar_of(members))
    (dump / "good.tar.gz").write_bytes(packed)
    (dump / "cut.tar.gz").write_bytes(packed[:-100])
    (dump / "page.tgz").write_bytes(b"<html>404 not found</html>")
    lake = tmp_path / "lake"

    ended = run("--runner=DirectRunner", f"--input={dump}", f"--output={lake}")

    assert ended.code == NOT_PUBLISHED, ended.err
    assert sorted(parquet_rows(lake, "orders")) == orders
    assert parquet_rows(lake, "people") == [(1, "josé")]
    published = {name: table["published"] for name, table in last_report(lake)["tables"].items()}
    assert published == {"orders": True, "people": True, "cut": False, "outside": False, "page": False}
    [cut], [outside], [page] = (reject_lines(lake, table) for table in ("cut", "outside", "page"))
    assert (cut["file"], cut["member"], cut["code"]) == (str(dump / "cut.tar.gz"), "", "corrupt_file")
    assert cut["reason"] == "ends too early: truncated, or an incomplete download"
    assert (outside["member"], outside["code"]) == ("../outside.csv", "corrupt_file")
    assert "leads out of the archive" in outside["reason"]
    assert page["reason"] == "ends too early: truncated, or an incomplete download"
    assert not list(tmp_path.rglob("outside.csv"))
