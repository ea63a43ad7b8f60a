"""Encodings are chosen as documented, equal tables give equal bytes, and three readers get back what was written."""

import datetime
import decimal
import errno
import io
import random
from pathlib import Path

import duckdb
import google_crc32c
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_etl.parquet.file import Encodings, choose_encodings, write_parquet
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema

D = decimal.Decimal
UTC = datetime.timezone.utc

ALL_TYPES = TableSchema(
    tuple(
        ColumnSchema(name, column_type)
        for name, column_type in [
            ("boolean", ColumnType("boolean")),
            ("bigint", ColumnType("bigint")),
            ("short.decimal", ColumnType("decimal", precision=18, scale=2, format=".")),
            ("tiny decimal", ColumnType("decimal", precision=4, scale=4, format=",")),
            ("long decimal", ColumnType("decimal", precision=38, scale=10)),
            ("double", ColumnType("double")),
            ("date", ColumnType("date", format="DD/MM/YYYY")),
            ("timestamp", ColumnType("timestamp", format=" ")),
            ("timestamptz", ColumnType("timestamp", format="T", zone="+02:00")),
            ("Üñï 名 \"'%", ColumnType("string")),
        ]
    )
)
EDGES = {
    "boolean": [True, False, None, True],
    "bigint": [-(2**63), 2**63 - 1, None, 0],
    "short.decimal": [D("9999999999999999.99"), D("-9999999999999999.99"), None, D("0.01")],
    "tiny decimal": [D("0.9999"), D("-0.9999"), None, D("0.0000")],
    "long decimal": [D("9" * 28 + "." + "9" * 10), D("-" + "9" * 28 + "." + "9" * 10), None, D("1E-10")],
    "double": [1.7976931348623157e308, 5e-324, None, -0.0],
    "date": [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None, datetime.date(1970, 1, 1)],
    "timestamp": [
        datetime.datetime(1, 1, 1),
        datetime.datetime(9999, 12, 31, 23, 59, 59, 999999),
        None,
        datetime.datetime(2024, 2, 29),
    ],
    "timestamptz": [
        datetime.datetime(1, 1, 2, tzinfo=UTC),
        datetime.datetime(9999, 12, 30, 23, 59, 59, 999999, UTC),
        None,
        datetime.datetime(2024, 2, 29, tzinfo=UTC),
    ],
    "Üñï 名 \"'%": ["", "\x00\r\n\t\"'", None, "𝔘名é" * 300],
}
SINGLE_TYPES = list(EDGES)


def written(table: pa.Table, codec: str = "zstd") -> bytes:
    sink = io.BytesIO()
    result = write_parquet(table, sink, codec, 1)
    data = sink.getvalue()
    assert result.file_bytes == len(data)
    assert result.checksum == f"{google_crc32c.value(data):08x}"
    return data


def edges(repeat: int = 1) -> pa.Table:
    return pa.table({name: values * repeat for name, values in EDGES.items()}, schema=ALL_TYPES.arrow)


@pytest.mark.parametrize("repeat", [0, 1, 9000])
@pytest.mark.parametrize("codec", ["zstd", "snappy", "none"])
def test_pyarrow_reads_every_type_back(repeat: int, codec: str) -> None:
    table = edges(repeat)
    back = pq.read_table(io.BytesIO(written(table, codec)))
    assert back.schema.equals(ALL_TYPES.arrow, check_metadata=True)
    assert back.equals(table)


@pytest.mark.parametrize("repeat", [0, 1, 9000])
def test_polars_reads_every_type_back(repeat: int) -> None:
    back = pl.read_parquet(io.BytesIO(written(edges(repeat))))
    assert back.columns == list(EDGES)
    # Python's float equality takes -0.0 for 0.0, so doubles are compared as texts.
    found = back.to_dict(as_series=False)
    expected = {name: values * repeat for name, values in EDGES.items()}
    assert [str(value) for value in found["double"]] == [str(value) for value in expected["double"]]
    assert found == expected


@pytest.mark.parametrize("repeat", [0, 1, 9000])
def test_duckdb_reads_every_type_back(tmp_path: Path, repeat: int) -> None:
    path = str(tmp_path / "edges.parquet")
    Path(path).write_bytes(written(edges(repeat)))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        back = connection.sql("SELECT * FROM read_parquet(?)", params=[path]).to_arrow_table()
    types = [field.type for field in back.schema]
    assert types == [field.type for field in ALL_TYPES.arrow]
    assert back.cast(pa.schema([pa.field(f.name, f.type) for f in ALL_TYPES.arrow])).equals(edges(repeat))


@pytest.mark.parametrize("name", SINGLE_TYPES)
@pytest.mark.parametrize("rows", [1, 70_000])
def test_columns_of_nulls_alone(name: str, rows: int) -> None:
    table = pa.table([pa.nulls(rows, ALL_TYPES.arrow.field(name).type)], names=[name])
    data = written(table)
    assert pq.read_table(io.BytesIO(data)).equals(table)
    assert pl.read_parquet(io.BytesIO(data)).to_dict(as_series=False) == {name: [None] * rows}


def random_table(rows: int) -> pa.Table:
    draw = random.Random(7)
    return pa.table(
        {
            "country": [draw.choice(["ES", "FR", None, "PT"]) for _ in range(rows)],
            "note": [f"note {draw.random()}" for _ in range(rows)],
            "near_neighbours": [f"order {row // 8}" for row in range(rows)],
            "id": pa.array(range(rows), pa.int64()),
            "hash": pa.array([draw.getrandbits(63) for _ in range(rows)], pa.int64()),
            "price": pa.array([D(draw.randrange(10**6)).scaleb(-2) for _ in range(rows)], pa.decimal128(18, 2)),
            "wide_price": pa.array([D(draw.randrange(10**17)) for _ in range(rows)], pa.decimal128(18, 0)),
            "day": pa.array([draw.randrange(20_000) for _ in range(rows)], pa.int32()).cast(pa.date32()),
            "share": [draw.random() for _ in range(rows)],
            "flag": [draw.random() < 0.5 for _ in range(rows)],
        }
    )


@pytest.mark.parametrize("rows", [5_000, 100_000])
def test_encodings_follow_the_values(rows: int) -> None:
    assert choose_encodings(random_table(rows)) == Encodings(
        dictionary=["country"] if rows > 50_000 else ["country", "near_neighbours"],
        encodings={
            "note": "DELTA_LENGTH_BYTE_ARRAY",
            **({"near_neighbours": "DELTA_LENGTH_BYTE_ARRAY"} if rows > 50_000 else {}),
            "id": "DELTA_BINARY_PACKED",
            "price": "DELTA_BINARY_PACKED",
            "day": "DELTA_BINARY_PACKED",
        },
        statistics=["id", "hash", "price", "wide_price", "day", "share", "flag"],
    )


def test_encodings_look_at_values_alone_not_at_nulls_nor_at_what_a_slice_leaves_out() -> None:
    count = 20_000
    far, near = [row * 2**40 % 2**62 * (-1) ** row for row in range(count)], list(range(count))
    table = pa.table(
        {
            "near": pa.array([*far, *near], pa.int64()),
            "far": pa.array([*near, *far], pa.int64()),
            "near_price": pa.array([*(D(v % 10**17) for v in far), *(D(-v) for v in near)], pa.decimal128(18, 0)),
            "gaps": pa.array([*far, *(v if v % 3 else None for v in near)], pa.int64()),
            "nothing": pa.nulls(2 * count, pa.int64()),
        }
    ).slice(count)
    assert choose_encodings(table).encodings == dict.fromkeys(
        ["near", "near_price", "gaps", "nothing"], "DELTA_BINARY_PACKED"
    )


def test_chosen_encodings_are_what_the_file_has() -> None:
    table = random_table(100_000)
    data = written(table)
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert "RLE_DICTIONARY" in columns["country"].encodings
    assert "DELTA_LENGTH_BYTE_ARRAY" in columns["note"].encodings
    assert "DELTA_BINARY_PACKED" in columns["price"].encodings
    assert columns["price"].physical_type == "INT64"
    assert not columns["note"].is_stats_set and not columns["country"].is_stats_set
    assert (columns["id"].statistics.min, columns["id"].statistics.max) == (0, 99_999)
    default = io.BytesIO()
    pq.write_table(table, default, compression="zstd", compression_level=1)
    assert len(data) < len(default.getvalue())


def test_equal_tables_give_equal_bytes() -> None:
    table = random_table(20_000)
    again = pa.concat_tables([table.slice(0, 7_000), table.slice(7_000)]).combine_chunks()
    assert written(table) == written(again)


def test_row_groups_hold_a_mebi_of_rows() -> None:
    rows = (1 << 20) + 5
    data = written(pa.table({"n": pa.array(range(rows), pa.int64())}))
    metadata = pq.read_metadata(io.BytesIO(data))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [1 << 20, 5]


def test_a_sink_that_fails_is_heard() -> None:
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(errno.EIO, "the disk went away")

    with pytest.raises(OSError, match="the disk went away") as caught:
        write_parquet(random_table(10), Full(), "zstd", 1)
    assert caught.value.errno == errno.EIO
