"""transforms.arrow_coder: round trips, sizes, the coder that Beam chooses, and fused stages that never encode."""

import datetime
import decimal
import pickle
import uuid

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, worker_handlers
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.typehints import typehints
from hypothesis import given
from hypothesis import strategies as st

from beam_etl.model import Chunk, ConvertedChunk
from transforms.arrow_coder import ArrowTableCoder, encoded_tables

UTC_MOMENT = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=datetime.timezone.utc)
MOMENT = UTC_MOMENT.replace(tzinfo=None)
DAY = datetime.date(1969, 12, 31)
CLOCK = datetime.time(23, 59, 59, 999999)
SPAN = datetime.timedelta(days=-1, microseconds=7000000)

ARRAYS = {
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False]),
    **{
        f"{kind}": pa.array([0, None, 100], kind)
        for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "int64_bounds": pa.array([-(2**63), None, 2**63 - 1]),
    "float16": pa.array([1.5, None, float("inf")], pa.float16()),
    "float32": pa.array([1.5, None, float("-inf")], pa.float32()),
    "float64": pa.array([1.1, None, -0.0]),
    "decimal32": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-0.01")], pa.decimal32(9, 2)),
    "decimal64": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-0.01")], pa.decimal64(18, 2)),
    "decimal128": pa.array([decimal.Decimal("9" * 38), None, decimal.Decimal("-1")], pa.decimal128(38, 0)),
    "decimal256": pa.array([decimal.Decimal("9" * 70), None, decimal.Decimal("-1")], pa.decimal256(76, 0)),
    "date32": pa.array([DAY, None, MOMENT.date()]),
    "date64": pa.array([DAY, None, MOMENT.date()], pa.date64()),
    "time32": pa.array([CLOCK.replace(microsecond=0), None, datetime.time(0)], pa.time32("s")),
    "time64": pa.array([CLOCK, None, datetime.time(0)], pa.time64("us")),
    "timestamp": pa.array([MOMENT, None, datetime.datetime(1, 1, 1)], pa.timestamp("us")),
    "timestamptz": pa.array([UTC_MOMENT, None, UTC_MOMENT], pa.timestamp("us", tz="UTC")),
    "duration": pa.array([SPAN, None, datetime.timedelta(0)], pa.duration("us")),
    "interval": pa.array([pa.MonthDayNano([1, -2, 3]), None, pa.MonthDayNano([0, 0, 0])]),
    "string": pa.array(["äöü\r\n", None, ""]),
    "large_string": pa.array(["a", None, ""], pa.large_string()),
    "string_view": pa.array(["longer than twelve bytes", None, "short"], pa.string_view()),
    "binary": pa.array([b"\0\xff", None, b""]),
    "large_binary": pa.array([b"a", None, b""], pa.large_binary()),
    "binary_view": pa.array([b"longer than twelve bytes", None, b"short"], pa.binary_view()),
    "fixed_binary": pa.array([b"abcd", None, b"\0\0\0\0"], pa.binary(4)),
    "list": pa.array([[1, None], None, []]),
    "large_list": pa.array([["a"], None, []], pa.large_list(pa.string())),
    "list_view": pa.array([[1], None, [2, 3]], pa.list_view(pa.int64())),
    "fixed_list": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2)),
    "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": ""}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    "dictionary": pa.array(["red", None, "red"]).dictionary_encode(),
    "run_end": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["x", None])),
    "dense_union": pa.UnionArray.from_dense(
        pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["x"])]
    ),
    "sparse_union": pa.UnionArray.from_sparse(
        pa.array([0, 1, 0], pa.int8()), [pa.array([1, 0, 2]), pa.array(["", "x", ""])]
    ),
    "uuid": pa.array([uuid.UUID(int=7).bytes, None, bytes(16)], pa.uuid()),
}


def round_trip(table: pa.Table) -> pa.Table:
    coder = ArrowTableCoder()
    back = coder.decode(coder.encode(table))
    back.validate(full=True)
    return back


@pytest.mark.parametrize("name", ARRAYS)
def test_every_type_comes_back_whole_and_sliced(name):
    field = pa.field("c", ARRAYS[name].type, metadata={"beam_etl.format": "x"})
    table = pa.table([ARRAYS[name]], schema=pa.schema([field], metadata={"k": "v"}))
    for part in (table, table.slice(1), table.slice(2, 1), table.slice(3), table.slice(1, 1)):
        back = round_trip(part)
        assert back.schema.equals(part.schema, check_metadata=True)
        assert back.equals(part)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": pa.chunked_array([[1, 2], [], [3]])}),
        pa.table({"a": pa.chunked_array([], pa.string())}),
        pa.schema([("a", pa.int64()), ("b", pa.string())]).empty_table(),
        pa.table({}),
        pa.table({"a": pa.chunked_array([[1], [2, 3]]), "b": pa.chunked_array([["x", "y"], ["z"]])}),
        pa.table([pa.array([1]), pa.array([2])], names=["same", "same"]),
        pa.table(
            {"a": pa.chunked_array([pa.array(["x", "y"]).dictionary_encode(), pa.array(["z"]).dictionary_encode()])}
        ),
    ],
    ids=["chunks", "no_chunks", "no_rows", "no_columns", "uneven_chunks", "same_names", "dictionaries_differ"],
)
def test_layouts_come_back(table):
    assert round_trip(table).equals(table)


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.text()), st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)))),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_any_slice_of_any_rows_comes_back(rows, offset, length):
    texts, numbers = [row[0] for row in rows], [row[1] for row in rows]
    texts = [None if t is None else t.encode("utf-8", "replace").decode() for t in texts]
    table = pa.table({"t": pa.array(texts, pa.string()), "n": pa.array(numbers, pa.int64())}).slice(offset, length)
    assert round_trip(table).equals(table)


def test_a_small_slice_of_a_large_table_is_small():
    table = pa.table({"n": pa.array(range(1_000_000)), "t": pa.array(["some text"] * 1_000_000)})
    assert len(ArrowTableCoder().encode(table.slice(500_000, 10))) < 1_500
    assert ArrowTableCoder().estimate_size(table.slice(500_000, 10)) < 500


def test_encodes_are_counted_and_sizes_are_not_encodes():
    table = pa.table({"a": [1, 2, 3]})
    coder = registry.get_coder(typehints.Tuple[str, pa.Table])
    before = encoded_tables()
    size, observables = coder.get_impl().get_estimated_size_and_observables(("k", table))
    assert coder.estimate_size(("k", table)) >= table.nbytes
    assert (size >= table.nbytes, observables, encoded_tables() - before) == (True, [], 0)
    coder.encode(("k", table))
    ArrowTableCoder().encode(table)
    assert encoded_tables() - before == 2


def test_beam_chooses_the_coder_inside_typed_tuples():
    coder = registry.get_coder(typehints.normalize(tuple[ConvertedChunk, pa.Table]))
    assert coder.coders()[1] == ArrowTableCoder()
    converted = ConvertedChunk(Chunk("t", "0", ()), "hash", ())
    table = pa.table({"a": [1]})
    assert coder.decode(coder.encode((converted, table))) == (converted, table)
    assert ArrowTableCoder().to_type_hint() is pa.Table


def test_several_tables_in_one_stream():
    impl = ArrowTableCoder().get_impl()
    tables = [pa.table({"a": [1]}), pa.table({"b": ["x", None]}), pa.table({})]
    assert list(impl.decode_all(impl.encode_all(tables))) == tables


def test_it_is_not_deterministic_and_says_so():
    chunked, whole = pa.table({"a": pa.chunked_array([[1], [2]])}), pa.table({"a": [1, 2]})
    assert chunked == whole
    assert ArrowTableCoder().encode(chunked) != ArrowTableCoder().encode(whole)
    assert not ArrowTableCoder().is_deterministic()


def test_it_travels_to_workers():
    assert pickle.loads(pickle.dumps(ArrowTableCoder())) == ArrowTableCoder()


@beam.typehints.with_output_types(tuple[ConvertedChunk, pa.Table], conflicts=str)
class ConvertFn(beam.DoFn):
    def process(self, chunk: Chunk, schemas):
        table = pa.table({schemas[chunk.table]: list(range(1000))})
        yield ConvertedChunk(chunk, schemas[chunk.table], ()), table
        if chunk.chunk_id.endswith("3"):
            yield beam.pvalue.TaggedOutput("conflicts", chunk.chunk_id)


@beam.typehints.with_output_types(tuple[str, int])
class ConsumeFn(beam.DoFn):
    def __init__(self, sink: str):
        self._sink = sink

    def process(self, element: tuple[ConvertedChunk, pa.Table]):
        converted, table = element
        yield f"{self._sink}/{converted.chunk.chunk_id}/{table.column_names[0]}", table.num_rows


def run_convert(monkeypatch: pytest.MonkeyPatch, reshuffle_tables: bool) -> int:
    """Tables encoded by a run of plan -> convert -> two sinks, 25 chunks, two threads."""
    # The timed flush of the local runner is not safe against the thread that is encoding.
    monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", 0)
    options = PipelineOptions(direct_running_mode="multi_threading", direct_num_workers=2)
    ids = [f"{i:02d}" for i in range(25)]
    before = encoded_tables()
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        schemas = pipeline | "Schemas" >> beam.Create([("t", "column_of_t")])
        outputs = (
            pipeline
            | "Plan" >> beam.Create([Chunk("t", i, ()) for i in ids])
            | "FanOut" >> beam.Reshuffle()
            | "Convert"
            >> beam.ParDo(ConvertFn(), beam.pvalue.AsDict(schemas)).with_outputs("conflicts", main="converted")
        )
        converted = outputs.converted
        if reshuffle_tables:
            converted = converted | "ShuffleTables" >> beam.Reshuffle()
        for sink in ("parquet", "postgres"):
            written = converted | f"Write_{sink}" >> beam.ParDo(ConsumeFn(sink)) | f"Commit_{sink}" >> beam.Reshuffle()
            expected = [(f"{sink}/{i}/column_of_t", 1000) for i in ids]
            assert_that(written, equal_to(expected), label=f"Check_{sink}")
        assert_that(outputs.conflicts, equal_to(["03", "13", "23"]), label="Check_conflicts")
    return encoded_tables() - before


def test_a_fused_pipeline_never_encodes_a_table(monkeypatch):
    assert run_convert(monkeypatch, reshuffle_tables=False) == 0


def test_a_shuffle_of_tables_does_encode_them(monkeypatch):
    assert run_convert(monkeypatch, reshuffle_tables=True) == 25
