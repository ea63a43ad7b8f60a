"""The demo dump through the real command: values, rejects and books agree with the generator's truth."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from examples.generate_dump import write_dump

ROOT = Path(__file__).resolve().parents[2]
NOT_PUBLISHED = 3


class Demo:
    """One load of the demo dump."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.lake = directory / "lake"
        self.dsn = dsn
        self.truth = write_dump(directory / "dump")
        self.command = [
            *(sys.executable, "-m", "beam_etl", "--runner=DirectRunner"),
            f"--input={directory / 'dump' / 'input'}",
            f"--output={self.lake}",
            "--postgres=env:DEMO_DSN",
            f"--config={ROOT / 'examples' / 'registry.yaml'}",
            f"--report={directory / 'report.json'}",
        ]
        self.first = self.run()
        self.report = json.loads((directory / "report.json").read_text())

    def run(self) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DEMO_DSN": self.dsn, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
        return subprocess.run(self.command, env=environment, capture_output=True, text=True, timeout=280)

    def parquet(self, table: str) -> pa.Table:
        files = sorted((self.lake / table).glob("*.parquet"))  # names sort in file order
        return pa.concat_tables(pq.read_table(file) for file in files)

    def postgres(self, table: str, columns: list[str]) -> list[tuple]:
        names = ", ".join(f'"{column}"' for column in columns)
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(f'SELECT {names} FROM "{table}"').fetchall()

    def rejects(self) -> list[dict]:
        lines = (line for file in self.lake.glob("_beam_etl/rejects/*/*/*.jsonl") for line in file.open())
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def demo(tmp_path_factory, postgres_dsn):
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS demo WITH (FORCE)")
        admin.execute("CREATE DATABASE demo")
    directory = tmp_path_factory.mktemp("demo")
    yield Demo(directory, psycopg.conninfo.make_conninfo(postgres_dsn, dbname="demo"))
    shutil.rmtree(directory)


def test_the_damaged_table_alone_is_not_published(demo):
    assert demo.first.returncode == NOT_PUBLISHED, demo.first.stdout + demo.first.stderr
    unpublished = {name for name, entry in demo.report["tables"].items() if not entry["published"]}
    assert unpublished == set(demo.truth.unpublished_tables)
    assert not any((demo.lake / name).exists() for name in unpublished)
    assert "socio_corrompido is not published" in demo.first.stdout
    assert "Traceback" not in demo.first.stdout + demo.first.stderr


def test_parquet_equals_the_truth_value_by_value(demo):
    for name, truth in demo.truth.tables.items():
        landed = demo.parquet(name)
        assert landed.schema.remove_metadata().equals(truth.schema.remove_metadata()), name
        assert landed.cast(truth.schema).combine_chunks().equals(truth.combine_chunks()), name


def test_postgres_equals_the_truth_value_by_value(demo):
    def order(row):
        return tuple((value is not None, str(value)) for value in row)

    for name, truth in demo.truth.tables.items():
        expected = list(zip(*(column.to_pylist() for column in truth.columns), strict=True))
        assert sorted(demo.postgres(name, truth.column_names), key=order) == sorted(expected, key=order), name


def test_rejects_are_exactly_the_planted_faults(demo):
    fields = ("file", "member", "record", "line", "byte_start", "byte_end", "code", "column")
    found = [
        tuple({**r, "file": Path(r["file"]).name}[field] for field in fields) for r in demo.rejects() if r["record"]
    ]
    planted = [tuple(getattr(reject, field) for field in fields) for reject in demo.truth.rejects]
    assert sorted(found) == sorted(planted)
    raws = {
        (Path(r["file"]).name, r["record"]): r["raw"].encode(r["raw_encoding"]) for r in demo.rejects() if r["record"]
    }
    assert raws == {(reject.file, reject.record): reject.raw for reject in demo.truth.rejects}
    files = {(Path(r["file"]).name, r["member"], r["code"]) for r in demo.rejects() if not r["record"]}
    assert files == {(f.file, f.member, f.code) for f in demo.truth.rejected_files}


def test_books_say_what_landed(demo):
    for name, truth in demo.truth.tables.items():
        entry = demo.report["tables"][name]
        planted = sum(reject.table == name for reject in demo.truth.rejects)
        assert (entry["rows"], entry["rejects"], entry["records_in"]) == (len(truth), planted, len(truth) + planted)
        assert entry["balanced"]
        assert entry["published"]


def test_the_report_says_how_files_are_written(demo):
    (dialect,) = demo.report["tables"]["cnae"]["dialects"]
    assert dialect["file"].startswith(str(demo.lake.parent / "dump"))
    assert [dialect[name] for name in ("delimiter", "quote", "line_end", "comment", "columns")] == [
        ";",
        '"',
        "lf",
        "",
        2,
    ]
    assert dialect["confidence"] == 1.0
    assert any("declared" in sentence for sentence in dialect["evidence"])
    assert dialect["skipped"] == []
    headed = demo.report["tables"]["lineitem"]["dialects"]
    assert {part["reason"] for dialect in headed for part in dialect["skipped"]} == {"header"}


def test_a_type_that_changes_in_the_last_record_widens_the_column(demo):
    tax = demo.parquet("lineitem")["l_tax"]
    assert tax.type == pa.decimal128(18, 4)
    assert str(pc.max(tax)) == str(pc.max(demo.truth.tables["lineitem"]["l_tax"]))


def test_the_same_command_again_changes_nothing(demo):
    before = {path: path.stat().st_mtime_ns for path in demo.lake.glob("*/*.parquet")}
    again = demo.run()
    assert again.returncode == NOT_PUBLISHED, again.stdout + again.stderr
    assert {path: path.stat().st_mtime_ns for path in demo.lake.glob("*/*.parquet")} == before
    for name, truth in demo.truth.tables.items():
        assert len(demo.postgres(name, truth.column_names[:1])) == len(truth)
