"""TPC-H lineitem through the whole program: counts, sums and bounds equal DuckDB's on the same CSV, in both sinks."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pytest

from beam_etl import load

NUMBERS = [
    "l_orderkey",
    "l_partkey",
    "l_suppkey",
    "l_linenumber",
    "l_quantity",
    "l_extendedprice",
    "l_discount",
    "l_tax",
]
DATES = ["l_shipdate", "l_commitdate", "l_receiptdate"]
TEXTS = ["l_returnflag", "l_linestatus", "l_shipinstruct", "l_shipmode", "l_comment"]
FACTS = ", ".join(
    ["count(*)"]
    + [f"sum({column})" for column in NUMBERS]
    + [f"min({column}), max({column})" for column in DATES]
    + [f"sum(length({column}))" for column in TEXTS]
)


def write_lineitem(directory: Path, scale: float, parts: int) -> Path:
    command = [str(Path(sys.executable).with_name("tpchgen-cli")), "csv", "-s", str(scale), "--tables", "lineitem"]
    split = ["--parts", str(parts)] if parts > 1 else []
    subprocess.run([*command, *split, "--output-dir", str(directory)], check=True, capture_output=True)
    return directory


def facts_of_csv(directory: Path) -> list:
    decimals = {column: "DECIMAL(18,2)" for column in NUMBERS[4:]}
    files = [str(file) for file in sorted(directory.rglob("*.csv"))]
    return plain(
        duckdb.execute(
            f"SELECT {FACTS} FROM read_csv($1, header=true, delim=',', types=$2)", [files, decimals]
        ).fetchone()
    )


def plain(row) -> list:
    """Numbers compared by value: engines write the same sum with or without fraction digits."""
    return [Decimal(value) if isinstance(value, int | Decimal) else str(value) for value in row]


@pytest.mark.parametrize(
    ("scale", "parts"),
    [(0.05, 1), pytest.param(1, 1, marks=pytest.mark.slow), pytest.param(1, 16, marks=pytest.mark.slow)],
)
def test_lineitem_equals_duckdb_in_both_sinks(scale, parts, tmp_path, database):
    dump = write_lineitem(tmp_path / "dump", scale, parts)
    report = load(input=[str(dump)], output=str(tmp_path / "lake"), postgres=database)
    entry = report["tables"]["lineitem"]
    assert entry["published"], entry["reasons"]
    expected = facts_of_csv(dump)
    parquet = duckdb.execute(f"SELECT {FACTS} FROM read_parquet('{tmp_path}/lake/lineitem/*.parquet')").fetchone()
    assert plain(parquet) == expected
    with psycopg.connect(database) as connection:
        assert plain(connection.execute(f"SELECT {FACTS} FROM lineitem").fetchone()) == expected
    types = {column["name"]: column["type"] for column in entry["schema"]}
    assert {types[column] for column in NUMBERS[:4]} == {"bigint"}
    assert {types[column] for column in NUMBERS[4:]} <= {"decimal(18,2)", "bigint"}
    assert {types[column] for column in DATES} == {"date"}
    assert {types[column] for column in TEXTS} == {"string"}
