"""Other engines at the same work, each a process of its own: `python benchmarks/peers.py ENGINE OUTPUT INPUT...`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def polars(output: str, inputs: Sequence[str]) -> None:
    """Streams; infers types from the first 100 rows of a file, dates if asked."""
    import polars

    frame = polars.scan_csv(list(inputs), try_parse_dates=True)
    frame.sink_parquet(output, compression="zstd", compression_level=1)


def duckdb(output: str, inputs: Sequence[str]) -> None:
    """Sniffs dialect and types from a sample."""
    import duckdb

    source = ", ".join(f"'{path}'" for path in inputs)
    options = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"
    duckdb.execute(f"COPY (FROM read_csv([{source}])) TO '{output}' ({options})")


ENGINES = {"polars": polars, "DuckDB": duckdb}

# Whole columns are typed as inference types them, so that both sides store the same.
LINEITEM_COLUMNS = (
    "l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber bigint, l_quantity bigint,"
    " l_extendedprice numeric(18,2), l_discount numeric(18,2), l_tax numeric(18,2), l_returnflag text,"
    " l_linestatus text, l_shipdate date, l_commitdate date, l_receiptdate date, l_shipinstruct text,"
    " l_shipmode text, l_comment text"
)


def engine_command(engine: str, output: Path, inputs: Sequence[Path]) -> list[str]:
    return [sys.executable, __file__, engine, str(output), *map(str, inputs)]


def psql_copy_command(psql: Sequence[str], inputs: Sequence[Path]) -> list[str]:
    r"""`\copy` of the files into an empty, typed, logged table; made in a transaction of its own, else COPY skips the log."""
    copies = [f"\\copy lineitem_psql FROM '{path}' WITH (FORMAT csv, HEADER)" for path in inputs]
    statements = ["DROP TABLE IF EXISTS lineitem_psql", f"CREATE TABLE lineitem_psql ({LINEITEM_COLUMNS})", *copies]
    return [*psql, "-qX", "-v", "ON_ERROR_STOP=1", *(part for statement in statements for part in ("-c", statement))]


if __name__ == "__main__":
    ENGINES[sys.argv[1]](sys.argv[2], sys.argv[3:])
