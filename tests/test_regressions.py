"""Defects that loaders before this one had, each as a test of the whole program."""

import gzip
import json
import threading
from decimal import Decimal

import pyarrow.compute as pc
import pytest

from beam_etl import load
from beam_etl.launcher import RunFailedError
from beam_etl.loads import plan
from tests.landed import parquet_rows, parquet_table, postgres_rows, reject_lines, run
from transforms import convert_chunks


@pytest.fixture(scope="module")
def landed(tmp_path_factory, module_database):
    """One load of the files that were read wrongly; (lake, DSN, entries of the report)."""
    directory = tmp_path_factory.mktemp("regressions")
    dump, lake = directory / "dump", directory / "lake"
    dump.mkdir()
    descriptions = [f"{number:04d};Descrição nº {number}: informação" for number in range(1359)]
    (dump / "cnae.csv").write_bytes("\n".join(descriptions).encode("iso-8859-1"))
    (dump / "codes.csv").write_text("code,cep\n0001,01310100\n0002,70836900\n")
    (dump / "capital.csv").write_text('id;capital\n1;"1234,56"\n2;"1234.56"\n3;"1.234,56"\n')
    (dump / "nulls.csv").write_text('id,text\n1,\n2,""\n3,NULL\n')
    (dump / "keys.1.csv").write_text("id,text\n1,first\n2,other\n")
    (dump / "keys.2.csv").write_text("id,text\n1,second\n")
    (dump / "money.csv").write_text("id,price\n1,0.10\n2,0.20\n3,1234567890123456.78\n")
    whole = gzip.compress(b"id,text\n" + b"1,a\n" * 100_000)
    (dump / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    tables = [
        {
            "name": "cnae",
            "columns": {"codigo": None, "descricao": "string"},
            "dialect": {"delimiter": ";", "header": False},
        },
        {"name": "capital", "columns": {"capital": {"type": "decimal(18,2)", "decimal_mark": ","}}},
    ]
    report = load(input=[str(dump)], output=str(lake), postgres=module_database, tables=tables, max_reject_ratio=0.9)
    return lake, module_database, report["tables"]


def both(landed, table):
    """The rows of a table, which both sinks hold alike."""
    lake, dsn, entries = landed
    assert entries[table]["published"], entries[table]["reasons"]
    rows = parquet_rows(lake, table)
    assert rows == postgres_rows(dsn, table)
    return rows


def test_latin_1_is_never_read_as_lossy_utf_8(landed):
    assert both(landed, "cnae") == [(f"{n:04d}", f"Descrição nº {n}: informação") for n in range(1359)]


def test_codes_keep_their_leading_zeros(landed):
    assert both(landed, "codes") == [("0001", "01310100"), ("0002", "70836900")]


def test_a_decimal_point_is_never_taken_for_a_thousands_separator(landed):
    assert both(landed, "capital") == [(1, Decimal("1234.56"))]
    assert [(r["record"], r["code"], r["raw"]) for r in reject_lines(landed[0], "capital")] == [
        (2, "bad_value", '2;"1234.56"'),
        (3, "bad_value", '3;"1.234,56"'),
    ]


def test_null_and_the_empty_string_stay_two_things(landed):
    assert both(landed, "nulls") == [(1, None), (2, ""), (3, "NULL")]


def test_no_record_wins_over_another_of_the_same_key(landed):
    assert both(landed, "keys") == [(1, "first"), (1, "second"), (2, "other")]
    assert parquet_table(landed[0], "keys")["text"].to_pylist() == ["first", "other", "second"], (
        "in the order of the files"
    )


def test_money_is_never_a_float(landed):
    prices = [price for _, price in both(landed, "money")]
    assert prices == [Decimal("0.10"), Decimal("0.20"), Decimal("1234567890123456.78")]
    [column] = [column for column in landed[2]["money"]["schema"] if column["name"] == "price"]
    assert (column["type"], column["postgres"]) == ("decimal(18,2)", "numeric(18,2)")


def test_a_gzip_file_whose_first_bytes_are_good_is_checked_to_its_end(landed):
    lake, _, entries = landed
    assert not entries["cut"]["published"]
    assert [r["reason"] for r in reject_lines(lake, "cut")] == ["ends too early: truncated, or an incomplete download"]


@pytest.mark.slow
def test_neither_a_million_records_nor_a_thousand_chunks_is_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "MIN_CHUNK_BYTES", 7 << 10)
    monkeypatch.setattr(plan, "MAX_CHUNK_BYTES", 7 << 10)
    records = 1_100_000
    (tmp_path / "t.csv").write_text("id\n" + "".join(f"{number}\n" for number in range(records)))
    report = load(input=[str(tmp_path / "t.csv")], output=str(tmp_path / "lake"))
    assert (report["tables"]["t"]["records_in"], report["tables"]["t"]["rows"]) == (records, records)
    assert len(list((tmp_path / "lake" / "t").glob("*.parquet"))) > 1000
    ids = parquet_table(tmp_path / "lake", "t")["id"]
    assert (len(ids), pc.min(ids).as_py(), pc.max(ids).as_py()) == (records, 0, records - 1)
    assert pc.count_distinct(ids).as_py() == records


@pytest.fixture
def four_chunks(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,text\n" + "".join(f"{number},{'x' * 90}\n" for number in range(43_000)))
    return path


def test_nothing_is_complete_after_one_failed_part(four_chunks, tmp_path, database, monkeypatch):
    original, failed = convert_chunks.convert_chunk, []

    def convert_chunk(chunk, *arguments):
        if chunk.spans[0].start > 2 << 20:
            failed.append(chunk.chunk_id)
            raise RuntimeError("this part cannot be read today")
        return original(chunk, *arguments)

    monkeypatch.setattr(convert_chunks, "convert_chunk", convert_chunk)
    settings = {"input": [str(four_chunks)], "output": str(tmp_path / "lake"), "postgres": database, "chunk_mb": 1}
    with pytest.raises(RunFailedError, match="this part cannot be read today"):
        load(**settings)
    assert failed
    assert not (tmp_path / "lake" / "t").exists()
    assert not list((tmp_path / "lake").glob("_beam_etl/loads/*/report.json"))
    monkeypatch.undo()
    assert load(**settings)["tables"]["t"]["rows"] == 43_000
    assert len(postgres_rows(database, "t")) == 43_000


@pytest.mark.parametrize(("expansion", "most_at_once"), [(4, 2), (40, 1)])
def test_memory_is_guarded_by_code_that_runs(four_chunks, tmp_path, monkeypatch, expansion, most_at_once):
    """Two chunks fit into 64 MiB at 4 bytes a byte, and are converted at once; at 40 only one does."""
    original, lock, running, most = convert_chunks.convert_chunk, threading.Lock(), [], []
    together = threading.Barrier(most_at_once)

    def convert_chunk(chunk, *arguments):
        with lock:
            running.append(chunk.chunk_id)
            most.append(len(running))
        together.wait(timeout=60)
        try:
            return original(chunk, *arguments)
        finally:
            with lock:
                running.remove(chunk.chunk_id)

    monkeypatch.setattr(convert_chunks, "convert_chunk", convert_chunk)
    monkeypatch.setattr(convert_chunks, "EXPANSION", expansion)
    report = load(
        input=[str(four_chunks)],
        output=str(tmp_path / "lake"),
        chunk_mb=1,
        memory_budget_mb=64,
        beam_args=["--direct_num_workers=2"],
    )
    assert report["tables"]["t"]["rows"] == 43_000
    assert (max(most), len(most)) == (most_at_once, 4)


def test_a_verdict_is_what_the_books_say(tmp_path):
    """No "[OK]" over a truncated load: exit code, report and terminal agree."""
    (tmp_path / "t.csv").write_text("id,text\n1,a\n2\n")
    done = run(f"--input={tmp_path / 't.csv'}", f"--output={tmp_path / 'lake'}", f"--report={tmp_path / 'r.json'}")
    report = json.loads((tmp_path / "r.json").read_text())
    assert (done.code, report["published"], report["tables"]["t"]["published"]) == (3, False, False)
    assert "│ no        │" in done.out
