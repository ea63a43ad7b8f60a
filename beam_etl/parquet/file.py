"""One Arrow table -> one Parquet file, with an encoding chosen for each column by a sample of its values.

What each choice is for, measured on TPC-H lineitem with zstd 1 on one thread: writing everything by pyarrow's defaults
spends most of its time on dictionaries of unique texts and on statistics of texts. Only encodings that DuckDB, polars
and pyarrow all read are used: https://parquet.apache.org/docs/file-format/data-pages/encodings/
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 1 << 20

# What a column is judged by. Texts: single values spread evenly over the table, as neighbours are often alike where the
# whole is not. Integers: runs of neighbours, whose differences are what is stored.
SAMPLE_VALUES = 8192
SAMPLE_RUNS = 8

# Text repeats enough for a dictionary when at most this share of a sample's values is distinct.
DICTIONARY_DISTINCT_RATIO = 0.25

# Differences of neighbours that need more bits than this are as long as the values themselves.
DELTA_BITS = 48


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


@dataclasses.dataclass(frozen=True)
class WrittenFile:
    """What was written: its size and the CRC-32C of its bytes as 8 hex digits."""

    file_bytes: int
    checksum: str


@dataclasses.dataclass(frozen=True)
class Encodings:
    """Column names by treatment.

    Attributes:
      dictionary: columns written through a dictionary.
      encodings: Parquet encoding of each column that has neither a dictionary nor the plain encoding.
      statistics: columns with minimum and maximum; texts go without, theirs cost a fifth of the writing.
    """

    dictionary: list[str]
    encodings: dict[str, str]
    statistics: list[str]


def write_parquet(table: pa.Table, sink: Writable, codec: str, codec_level: int) -> WrittenFile:
    """Writes a table; equal tables give equal bytes.

    Args:
      table: columns of the types in schema.py.
      sink: takes the bytes in order; stays open.
      codec: "zstd", "gzip", "brotli", "snappy", "lz4" or "none".
      codec_level: for the codecs that have levels.
    """
    chosen = choose_encodings(table)
    leveled = codec != "none" and pa.Codec.supports_compression_level(codec)
    output = _ChecksumSink(sink)
    with pq.ParquetWriter(
        output,
        table.schema,
        compression=codec,
        compression_level=codec_level if leveled else None,
        use_dictionary=chosen.dictionary or False,
        column_encoding=chosen.encodings or None,
        write_statistics=chosen.statistics or False,
        store_decimal_as_integer=True,
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return WrittenFile(output.tell(), f"{output.crc:08x}")


def choose_encodings(table: pa.Table) -> Encodings:
    """The treatment of each column, a function of the table alone."""
    dictionary: list[str] = []
    encodings: dict[str, str] = {}
    statistics: list[str] = []
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_string(field.type):
            if _repeats(column):
                dictionary.append(field.name)
            else:
                encodings[field.name] = "DELTA_LENGTH_BYTE_ARRAY"
            continue
        statistics.append(field.name)
        if _is_stored_as_integer(field.type) and _has_short_deltas(column):
            encodings[field.name] = "DELTA_BINARY_PACKED"
    return Encodings(dictionary, encodings, statistics)


def _repeats(column: pa.ChunkedArray) -> bool:
    step = -(-len(column) // SAMPLE_VALUES) or 1
    values = column.take(pa.array(np.arange(0, len(column), step))) if step > 1 else column
    present = len(values) - values.null_count
    return bool(pc.count_distinct(values).as_py() <= DICTIONARY_DISTINCT_RATIO * present)


def _is_stored_as_integer(arrow_type: pa.DataType) -> bool:
    if pa.types.is_decimal128(arrow_type):
        return bool(arrow_type.precision <= 18)
    return any(check(arrow_type) for check in (pa.types.is_integer, pa.types.is_date32, pa.types.is_timestamp))


def _has_short_deltas(column: pa.ChunkedArray) -> bool:
    """Whether neighbours differ by little in each of SAMPLE_RUNS runs; judged in one array, as many small calls cost more
    than what they look at."""
    rows = SAMPLE_VALUES // SAMPLE_RUNS
    step = max(rows, (len(column) - rows) // (SAMPLE_RUNS - 1))
    runs = [column.slice(start, rows) for start in range(0, len(column), step)]
    if column.null_count:
        runs = [run.drop_null() for run in runs]
    sampled = [chunk for run in runs for chunk in run.chunks]
    if not sampled:
        return True
    numbers = _stored_integers(pa.concat_arrays(sampled)).astype(np.float64)  # exact enough to count bits
    deltas = np.diff(numbers)
    last, ranges = 0, []
    for run in runs:
        inside = deltas[last : last + len(run) - 1]
        last += len(run)
        ranges.append(inside.max() - inside.min() if len(inside) else 0.0)
    return bool(max(ranges) < 2.0**DELTA_BITS)


def _stored_integers(values: pa.Array) -> npt.NDArray[np.signedinteger]:
    """The integers that Parquet stores for values without NULLs: of a decimal the unscaled ones, which fit the low word."""
    if pa.types.is_decimal(values.type):
        words = np.frombuffer(values.buffers()[1], dtype=np.int64)
        return words[2 * values.offset : 2 * (values.offset + len(values)) : 2]
    integers: npt.NDArray[np.signedinteger] = np.frombuffer(
        values.buffers()[1], dtype=np.int32 if values.type.bit_width == 32 else np.int64
    )[values.offset : values.offset + len(values)]
    return integers


class _ChecksumSink:
    """Counts and checksums what passes through. A file object as pyarrow needs it; closing it closes nothing."""

    closed = False

    def __init__(self, sink: Writable) -> None:
        self._sink = sink
        self._position = 0
        self.crc = 0

    def write(self, data: bytes) -> int:
        self.crc = google_crc32c.extend(self.crc, data)
        self._position += len(data)
        self._sink.write(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
