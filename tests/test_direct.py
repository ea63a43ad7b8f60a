"""DirectRunner: flags, the unsafe timed flush, and how elements are dealt out to threads."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, worker_handlers
from apache_beam.runners.runner import create_runner
from apache_beam.runners.worker import data_plane
from apache_beam.testing.util import assert_that

from runners.direct import DIRECT

TESTS = Path(__file__).parent
LANES = 3
ALL_LANES_AT_WORK = threading.Barrier(LANES, timeout=60)


def direct_options(threads: int) -> PipelineOptions:
    return PipelineOptions(DIRECT.options([f"--direct_num_workers={threads}"], cores=1))


@pytest.fixture
def original_time_limit() -> Iterator[None]:
    limit = worker_handlers.DATA_BUFFER_TIME_LIMIT_MS
    yield
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = limit


# Flags


def test_every_core_gets_a_thread_of_the_in_process_runner() -> None:
    assert DIRECT.options(["--output=lake"], 7) == [
        "--runner=FnApiRunner",
        "--output=lake",
        "--direct_running_mode=multi_threading",
        "--direct_num_workers=7",
    ]


def test_the_runner_that_beam_creates_is_not_the_one_that_tries_prism() -> None:
    runner_flag = DIRECT.options([], 1)[0]
    assert type(create_runner(runner_flag.removeprefix("--runner="))) is FnApiRunner


def test_given_flags_stay() -> None:
    given = ["--direct_running_mode=in_memory", "--direct_num_workers", "3"]
    assert DIRECT.options(["--runner=DirectRunner", *given], 2) == ["--runner=FnApiRunner", *given]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], 2),
        (["--direct_num_workers=5"], 5),
        (["--direct_num_workers", "4"], 4),
        (["--direct_num_workers=0"], os.cpu_count()),
    ],
)
def test_static_lanes_are_the_threads(args: list[str], expected: int) -> None:
    assert DIRECT.static_lanes(args, 2) == expected


@pytest.mark.parametrize("value", ["-1", "two", "", "1.5"])
def test_a_number_of_threads_that_is_none_is_refused(value: str) -> None:
    (problem,) = DIRECT.check([f"--direct_num_workers={value}"])
    assert problem.startswith(f"--direct_num_workers={value} is not a whole number of at least 0: give")


def test_an_unknown_running_mode_is_refused() -> None:
    (problem,) = DIRECT.check(["--direct_running_mode=fast"])
    assert "multi_threading" in problem


def test_good_flags_have_no_problem() -> None:
    assert DIRECT.check(["--direct_num_workers=0", "--direct_running_mode=multi_processing"]) == []


# The timed flush


def test_beams_timed_flush_cuts_an_element_in_two() -> None:
    """Why the switch exists. Once Beam guards the stream with a lock this fails, and the switch can go."""
    flushed: list[bytes] = []
    stream = data_plane.TimeBasedBufferingClosableOutputStream(flush_callback=flushed.append, time_flush_threshold_ms=1)
    stream.write(b"first half, ")
    deadline = time.monotonic() + 30
    while not any(flushed) and time.monotonic() < deadline:
        threading.Event().wait(0.001)
    stream.write(b"second half")
    stream.close()
    assert b"first half, " in flushed


@pytest.mark.usefixtures("original_time_limit")
@pytest.mark.parametrize(("prepare", "timed"), [(DIRECT.prepare, False), (lambda: None, True)])
def test_prepared_streams_are_never_flushed_by_a_timer(
    monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None], timed: bool
) -> None:
    """With the switch no stream of the runner or of its workers has a timer; without it the same run has them."""
    worker_handlers.DATA_BUFFER_TIME_LIMIT_MS = 1_000
    kinds = set()
    create = data_plane.ClosableOutputStream.create

    def recorded(*args: object, **kwargs: object) -> data_plane.ClosableOutputStream:
        stream = create(*args, **kwargs)
        kinds.add(type(stream))
        return stream

    monkeypatch.setattr(data_plane.ClosableOutputStream, "create", staticmethod(recorded))
    prepare()
    with beam.Pipeline(options=direct_options(2)) as pipeline:
        pipeline | beam.Create([("a", 1), ("b", 2)]) | beam.GroupByKey()
    expected = (
        data_plane.TimeBasedBufferingClosableOutputStream
        if timed
        else data_plane.SizeBasedBufferingClosableOutputStream
    )
    assert kinds == {expected}


def test_three_shuffles_are_exact_every_time() -> None:
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, str(TESTS / "three_shuffles.py"), "4"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert (run.returncode, run.stdout.split()) == (0, ["exact"] * 4), run.stderr[-2000:]


@pytest.mark.parametrize("moved", [None, "1000"])
def test_a_beam_that_keeps_the_time_limit_elsewhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, moved: str | None
) -> None:
    if moved is None:
        monkeypatch.delattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS")
    else:
        monkeypatch.setattr(worker_handlers, "DATA_BUFFER_TIME_LIMIT_MS", moved)
    with pytest.raises(RuntimeError, match="unsafe timed flush cannot be switched off"):
        DIRECT.prepare()


# Lanes


class LaneWitness(beam.DoFn):
    """(lane, value or values) -> (id of the bundle, lane). A lane's first element waits for all the others'."""

    def start_bundle(self) -> None:
        self._bundle = uuid.uuid4().hex
        self._met = False

    def process(self, keyed: tuple[int, object]) -> Iterator[tuple[str, int]]:
        if not self._met:
            ALL_LANES_AT_WORK.wait()
            self._met = True
        yield self._bundle, keyed[0]


def one_lane_each(seen: Iterable[tuple[str, int]]) -> None:
    lanes_by_bundle = defaultdict(set)
    for bundle, lane in seen:
        lanes_by_bundle[bundle].add(lane)
    assert sorted(map(sorted, lanes_by_bundle.values())) == [[lane] for lane in range(LANES)]


@pytest.mark.usefixtures("original_time_limit")
@pytest.mark.parametrize("shuffle", [beam.GroupByKey, beam.transforms.util.ReshufflePerKey])
def test_each_thread_gets_exactly_one_lane_and_all_work_at_once(shuffle: Callable[[], beam.PTransform]) -> None:
    """Lanes of different sizes: dealing by number would mix them. The barrier breaks unless all run at once."""
    DIRECT.prepare()
    ALL_LANES_AT_WORK.reset()
    chunks = [(0, number) for number in range(40)] + [(1, 40), (2, 41), (2, 42)]
    with beam.Pipeline(options=direct_options(LANES)) as pipeline:
        seen = pipeline | beam.Create(chunks) | shuffle() | beam.ParDo(LaneWitness())
        assert_that(seen, one_lane_each)
