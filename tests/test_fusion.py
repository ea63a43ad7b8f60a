"""Arrow tables never leave a worker: conversion and both sinks are one stage, so nothing encodes a table."""

from pathlib import Path

from beam_etl import load
from transforms.arrow_coder import encoded_tables

RECORDS = 60_000


def test_no_table_is_encoded_between_conversion_and_the_sinks(tmp_path: Path, database: str) -> None:
    lines = (f"{number},{number / 8},{'some text ' * 6}{number}\n" for number in range(RECORDS))
    (tmp_path / "facts.csv").write_text("id,ratio,note\n" + "".join(lines))
    encoded_before = encoded_tables()
    report = load(input=[str(tmp_path / "facts.csv")], output=str(tmp_path / "lake"), postgres=database, chunk_mb=1)
    assert report["published"]
    assert report["tables"]["facts"]["rows"] == RECORDS
    assert len(list((tmp_path / "lake/facts").glob("*.parquet"))) == 5  # 5 MB: every thread has had several tables
    assert encoded_tables() == encoded_before
