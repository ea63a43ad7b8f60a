"""Policies for what does not fit, and lineage, through the whole program and into both sinks."""

import json

import pytest

from beam_etl.exit_codes import NOT_PUBLISHED, PUBLISHED, USAGE
from tests.landed import last_report, parquet_table, postgres_rows, reject_lines, run

DATA = b"id,day,text\n1,2020-01-01,a\n2,2020-01-02\nx,2020-13-01,b,\n4,2020-01-04,d,e\n"
JOB = "tables: [{name: t, columns: {id: bigint, day: date}}]\n"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "t.csv").write_bytes(DATA)
    (tmp_path / "job.yaml").write_text(JOB)
    return tmp_path


def load(place, dsn, *flags):
    return run(
        *("--config", place / "job.yaml", "--input", place / "t.csv", "--output", place / "lake"),
        *("--postgres", dsn, "--max_reject_ratio=1", *flags),
    )


def test_padded_and_rescued_rows_with_their_lineage_land_in_both_sinks(place, database):
    flags = ("--on_ragged=pad", "--on_conflict=rescue", "--lineage=_file,_byte_start,_load_id")
    assert load(place, database, *flags).code == PUBLISHED
    entry = last_report(place / "lake")["tables"]["t"]
    assert [entry[key] for key in ("records_in", "rows", "rejects", "padded", "rescued")] == [4, 3, 1, 2, 2]
    rows = parquet_table(place / "lake", "t").to_pylist()
    load_id = last_report(place / "lake")["load_id"]
    assert [row["_byte_start"] for row in rows] == [12, 27, 40]
    assert {(row["_file"], row["_load_id"]) for row in rows} == {(str(place / "t.csv"), load_id)}
    assert [(row["id"], row["text"]) for row in rows] == [(1, "a"), (2, None), (None, "b")]
    assert [row["_rescued"] and json.loads(row["_rescued"]) for row in rows] == [
        None,
        None,
        {"id": "x", "day": "2020-13-01"},
    ]
    assert postgres_rows(database, "t") == sorted((tuple(row.values()) for row in rows), key=str)
    assert [reject["raw"] for reject in reject_lines(place / "lake", "t")] == ["4,2020-01-04,d,e"]
    assert load(place, database, *flags).code == PUBLISHED
    assert last_report(place / "lake")["load_id"] == load_id


def test_fail_refuses_the_table_and_shows_what_did_not_fit(place, database):
    assert load(place, database, "--on_ragged=pad", "--on_conflict=fail").code == NOT_PUBLISHED
    entry = last_report(place / "lake")["tables"]["t"]
    assert (entry["balanced"], entry["published"]) == (True, False)
    assert entry["reasons"] == [
        "1 records hold a value that does not fit its column, and on_conflict is fail; look into the rejects, mend the "
        "files, or declare other types"
    ]
    assert [(r["record"], r["code"], r["column"]) for r in reject_lines(place / "lake", "t")] == [
        (3, "bad_value", "id"),
        (4, "ragged_record", ""),
    ]


def test_a_table_has_its_own_policy_and_may_hold_inferred_types(place, database):
    place.joinpath("job.yaml").write_text(
        "tables: [{name: t, on_conflict: reject, on_ragged: pad, lineage: [_file]}]\n"
    )
    numbers = b"id,text\n" + b"".join(b"%d,a\n" % n for n in range(400_000)) + b"x,a\n7\n"
    place.joinpath("t.csv").write_bytes(numbers)
    assert load(place, database, "--chunk_mb=1").code == PUBLISHED
    entry = last_report(place / "lake")["tables"]["t"]
    assert [(c["name"], c["type"]) for c in entry["schema"]] == [
        ("id", "bigint"),
        ("text", "string"),
        ("_file", "string"),
    ]
    assert [(r["record"], r["code"], r["raw"]) for r in reject_lines(place / "lake", "t")] == [
        (400_001, "bad_value", "x,a")
    ]
    assert (entry["rows"], entry["padded"]) == (400_001, 1)


def test_a_column_of_the_files_is_never_taken_for_lineage(place, database):
    place.joinpath("t.csv").write_bytes(b"id,_file\n1,mine\n")
    assert load(place, database, "--lineage=_file").code == NOT_PUBLISHED
    [reason] = last_report(place / "lake")["tables"]["t"]["reasons"]
    assert reason.startswith("the files have a column '_file' of their own") and "rename it in the files" in reason
    assert load(place, database).code == PUBLISHED
    assert parquet_table(place / "lake", "t")["_file"].to_pylist() == ["mine"]


def test_unknown_lineage_is_refused(place, database):
    result = load(place, database, "--lineage=_line")
    assert result.code == USAGE
    assert "lineage.0" in result.err and "_byte_start" in result.err
