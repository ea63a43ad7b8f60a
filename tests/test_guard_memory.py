"""transforms.guard_memory: the guarded DoFn is the DoFn, only held back; nothing stays reserved; causes are counted."""

import pickle
import threading
import time
from collections.abc import Iterable

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, worker_handlers
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.typehints import typehints

import transforms.guard_memory
from beam_etl.memory.budget import MemoryBudget
from beam_etl.memory.gate import MemoryGate
from beam_etl.memory.monitor import MemoryMonitor, MemoryPressureLevel
from beam_etl.model import Chunk, ConvertedChunk
from transforms.arrow_coder import encoded_tables
from transforms.guard_memory import MemoryGuard

CALLS: list[str] = []
IDS = [f"{i:02d}" for i in range(20)]


def chunk_estimate(chunk: Chunk) -> int:
    return 60


def unit_estimate(element) -> int:
    return 1


@beam.typehints.with_output_types(tuple[ConvertedChunk, pa.Table], conflicts=str)
class ConvertFn(beam.DoFn):
    """Side input, DoFn parameter, tagged output and the whole lifecycle."""

    def setup(self):
        CALLS.append("setup")

    def start_bundle(self):
        CALLS.append("start_bundle")

    def process(self, chunk: Chunk, schemas, timestamp=beam.DoFn.TimestampParam, suffix=""):
        name = f"{schemas[chunk.table]}{suffix}@{timestamp.seconds()}"
        yield ConvertedChunk(chunk, name, ()), pa.table({name: list(range(100))})
        if chunk.chunk_id.endswith("3"):
            yield beam.pvalue.TaggedOutput("conflicts", chunk.chunk_id)

    def finish_bundle(self):
        CALLS.append("finish_bundle")

    def teardown(self):
        CALLS.append("teardown")


@beam.typehints.with_output_types(str)
class ConsumeFn(beam.DoFn):
    """Notes how much is reserved while it consumes; fails on one chunk when asked to."""

    def __init__(self, sink: str, poison: str = ""):
        self._sink = sink
        self._poison = poison

    def process(self, element: tuple[ConvertedChunk, pa.Table]):
        converted, table = element
        if converted.chunk.chunk_id == self._poison:
            raise RuntimeError("the sink is broken")
        yield f"{self._sink}/{converted.chunk.chunk_id}/{table.column_names[0]}/{table.num_rows}"


class Pressure(MemoryMonitor):
    """A monitor that reports given levels, the last one for ever."""

    def __init__(self, *levels: MemoryPressureLevel):
        super().__init__()
        self.levels = list(levels)

    def check_memory_pressure(self, *, fresh: bool = False) -> MemoryPressureLevel:
        return self.levels.pop(0) if len(self.levels) > 1 else self.levels[0]


NORMAL, WARNING, CRITICAL, EMERGENCY = MemoryPressureLevel


def gate_of(*levels: MemoryPressureLevel, limit: int = 100, **knobs) -> MemoryGate:
    return MemoryGate(MemoryBudget(limit), Pressure(*(levels or (NORMAL,))), **{"deadline_seconds": 30, **knobs})


@pytest.fixture
def gate(monkeypatch) -> MemoryGate:
    gate = gate_of()
    monkeypatch.setattr(transforms.guard_memory, "process_gate", lambda budget_mb, processes: gate)
    return gate


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    # The timed flush of the local runner is not safe against the thread that is encoding.
    monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", 0)
    CALLS.clear()


def run(do_fn: beam.DoFn, poison: str = ""):
    """The real shape: plan -> fan out -> convert (side input) -> two sinks, and a tagged output, on two threads."""
    options = PipelineOptions(direct_running_mode="multi_threading", direct_num_workers=2)
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=options)
    schemas = pipeline | "Schemas" >> beam.Create([("t", "column")])
    outputs = (
        pipeline
        | "Plan" >> beam.Create([Chunk("t", i, ()) for i in IDS])
        | "Stamp" >> beam.Map(lambda chunk: beam.window.TimestampedValue(chunk, 7)).with_output_types(Chunk)
        | "FanOut" >> beam.Reshuffle()
        | "Convert"
        >> beam.ParDo(do_fn, beam.pvalue.AsDict(schemas), suffix="!").with_outputs("conflicts", main="converted")
    )
    for sink in ("parquet", "postgres"):
        written = outputs.converted | f"Write_{sink}" >> beam.ParDo(ConsumeFn(sink, poison))
        assert_that(written, equal_to([f"{sink}/{i}/column!@7/100" for i in IDS]), label=f"Check_{sink}")
    assert_that(outputs.conflicts, equal_to(["03", "13"]), label="Check_conflicts")
    assert outputs.converted.element_type == typehints.normalize(tuple[ConvertedChunk, pa.Table])
    assert outputs.conflicts.element_type is str
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace("GuardMemory"))["counters"]
    return {counter.key.metric.name: counter.committed for counter in counters}


@pytest.mark.parametrize("budget_mb, knobs", [(None, {}), (1, {"enabled": False}), (1, {}), ("auto", {})])
def test_on_or_off_the_pipeline_gives_the_same(budget_mb, knobs):
    before = encoded_tables()
    run(MemoryGuard(ConvertFn(), chunk_estimate, budget_mb, **knobs))
    assert encoded_tables() == before


def test_calls_are_held_back_and_counted(gate):
    counters = run(MemoryGuard(ConvertFn(), chunk_estimate, 1))
    # 60 of 100 bytes each: two threads, but never two calls at once.
    assert gate.budget.stats.peak_bytes == 60
    assert (gate.budget.reserved_bytes, gate.budget.holders) == (0, 0)
    assert counters.get("waits", 0) == gate.budget.stats.waits
    assert set(counters) <= {"waits", "wait_milliseconds"}


def test_lifecycle_is_delegated(gate):
    run(ConvertFn())
    bare, CALLS[:] = sorted(set(CALLS)), []
    run(MemoryGuard(ConvertFn(), chunk_estimate, 1))
    assert sorted(set(CALLS)) == bare == ["finish_bundle", "setup", "start_bundle", "teardown"]
    assert CALLS.count("setup") == CALLS.count("teardown")
    assert CALLS.count("start_bundle") == CALLS.count("finish_bundle")


@pytest.mark.parametrize(
    "level, counter", [(WARNING, "warnings"), (CRITICAL, "criticals")], ids=lambda value: getattr(value, "name", value)
)
def test_pressure_is_counted_in_beam(monkeypatch, level, counter):
    gate = gate_of(level, limit=10_000)
    monkeypatch.setattr(transforms.guard_memory, "process_gate", lambda budget_mb, processes: gate)
    counters = run(MemoryGuard(ConvertFn(), chunk_estimate, 1))
    assert counters[counter] >= len(IDS)
    assert counters["releases"] >= 1


def test_a_failing_consumer_leaves_nothing_reserved(gate):
    with pytest.raises(RuntimeError, match="the sink is broken"):
        run(MemoryGuard(ConvertFn(), chunk_estimate, 1), poison="05")
    deadline = time.monotonic() + 10
    while gate.budget.holders and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert gate.budget.holders == 0


def guarded(inner: beam.DoFn, **knobs) -> MemoryGuard:
    guard = MemoryGuard(inner, unit_estimate, 1, **knobs)
    guard.setup()
    return guard


class GivesFn(beam.DoFn):
    def __init__(self, outputs):
        self._outputs = outputs

    def process(self, element):
        return self._outputs


class FailsFn(beam.DoFn):
    def process(self, element):
        yield element
        raise OSError("disk")


@pytest.mark.parametrize("outputs, expected", [(None, []), ([], []), ([1, 2], [1, 2]), (iter("ab"), ["a", "b"])])
def test_any_kind_of_output_passes(gate, outputs, expected):
    assert list(guarded(GivesFn(outputs)).process("x")) == expected
    assert gate.budget.holders == 0


def test_bytes_are_held_while_outputs_are_consumed_and_not_after(gate):
    outputs = guarded(GivesFn(["a", "b"])).process("x")
    assert gate.budget.holders == 0
    held = [gate.budget.reserved_bytes for _ in outputs]
    assert (held, gate.budget.reserved_bytes) == ([1, 1], 0)


def test_an_error_of_the_inner_do_fn_passes_and_releases(gate):
    outputs = guarded(FailsFn()).process("x")
    assert next(outputs) == "x"
    with pytest.raises(OSError, match="disk"):
        next(outputs)
    assert gate.budget.holders == 0


@pytest.mark.parametrize("how", ["close", "teardown"])
def test_an_abandoned_call_releases(gate, how):
    guard = guarded(FailsFn())
    outputs = guard.process("x")
    next(outputs)
    assert gate.budget.reserved_bytes == 1
    outputs.close() if how == "close" else guard.teardown()
    assert gate.budget.reserved_bytes == 0


def test_the_refusal_of_the_gate_reaches_the_runner(gate):
    with gate.budget.reserve(100, 1), pytest.raises(RuntimeError):
        # Held by this thread, a call in another one cannot get in.
        gate._deadline_seconds = 0.2
        run(MemoryGuard(ConvertFn(), chunk_estimate, 1))
    assert gate.budget.holders == 0


class ProcessesBatchesFn(beam.DoFn):
    def process_batch(self, batch: list[int]):
        yield batch


class KeepsStateFn(beam.DoFn):
    def process(self, element, state=beam.DoFn.StateParam(ReadModifyWriteStateSpec("s", beam.coders.VarIntCoder()))):
        yield element


class HalvesProvider(beam.transforms.core.RestrictionProvider):
    """Never asked: the guard refuses before anything is split."""


class SplitsFn(beam.DoFn):
    def process(self, element, tracker=beam.DoFn.RestrictionParam(HalvesProvider())):
        yield element


@pytest.mark.parametrize(
    "make, error, text",
    [
        (lambda: MemoryGuard(GivesFn([]), unit_estimate, 0), ValueError, "budget_mb=0 MiB"),
        (lambda: MemoryGuard(GivesFn([]), unit_estimate, "auto", processes=0), ValueError, "processes=0"),
        (lambda: MemoryGuard(ProcessesBatchesFn(), unit_estimate, 1), TypeError, "batched"),
        (lambda: MemoryGuard(KeepsStateFn(), unit_estimate, 1), TypeError, "stateful"),
        (lambda: MemoryGuard(SplitsFn(), unit_estimate, 1), TypeError, "splittable"),
    ],
)
def test_wrong_use_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_type_checks_are_those_of_the_inner_do_fn():
    with pytest.raises(beam.typehints.TypeCheckError):
        _ = beam.Pipeline() | beam.Create(["text"]) | beam.ParDo(MemoryGuard(TypedFn(), unit_estimate, 1))
    numbers = beam.Pipeline() | beam.Create([1]) | beam.ParDo(MemoryGuard(TypedFn(), unit_estimate, 1))
    assert numbers.element_type is float


class TypedFn(beam.DoFn):
    def process(self, element: int) -> Iterable[float]:
        yield element / 2


def test_it_travels_to_workers():
    guard = pickle.loads(pickle.dumps(MemoryGuard(GivesFn(["a"]), unit_estimate, 1)))
    guard.setup()
    assert list(guard.process("x")) == ["a"]
    assert guard.default_label() == "GivesFn"
