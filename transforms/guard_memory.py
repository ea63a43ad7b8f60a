"""Holds back a heavy DoFn until the worker process has memory for its next element.

Same elements in, same outputs out, in the same order. Under retry: as the wrapped DoFn; the guard keeps nothing between
elements, and the bytes of a failed call are released at the latest when the runner tears the DoFn down.
"""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.runners.common import DoFnSignature
from apache_beam.transforms.core import get_function_arguments

from beam_etl.memory.budget import Reservation
from beam_etl.memory.gate import BudgetMb, MemoryGate, process_gate

# Generations of the collector up to this one; searching the oldest, which holds what imports made, takes 0.2 s.
YOUNG = 1

COUNTERS = ("waits", "wait_milliseconds", "warnings", "criticals", "emergencies", "releases")


class MemoryGuard(beam.DoFn):
    """Runs `inner` with its bytes reserved in a budget that all threads of the worker process share.

    The reservation is held until the last output of the element was consumed: consumers fused to this step run inside
    it. Side inputs, DoFn parameters, tagged outputs and type hints are those of `inner`.

    Args:
      inner: what does the work, element by element.
      estimate: bytes that an element needs at most while it is processed and consumed; picklable.
      budget_mb: MiB that all guarded calls of a process hold together; "auto" plans it on the worker; None switches
        the guard off.
      enabled: False switches the guard off too.
      processes: worker processes that share a machine or container, for "auto".

    Raises:
      ValueError: budget_mb or processes is below 1.
      TypeError: inner is stateful, splittable or works on batches: its calls are not one element each.
    """

    def __init__(
        self,
        inner: beam.DoFn,
        estimate: Callable[[Any], int],
        budget_mb: BudgetMb | None,
        *,
        enabled: bool = True,
        processes: int = 1,
    ):
        if budget_mb is not None and budget_mb != "auto" and budget_mb < 1:
            raise ValueError(f'budget_mb={budget_mb} MiB must be at least 1, "auto", or None to switch the guard off')
        if processes < 1:
            raise ValueError(f"processes={processes} must be at least 1 worker process")
        signature = DoFnSignature(inner)
        if signature.is_stateful_dofn() or signature.is_splittable_dofn() or inner._process_batch_defined:
            raise TypeError(f"{inner!r} is stateful, splittable or batched; MemoryGuard wraps element-wise DoFns only")
        self._inner = inner
        self._estimate = estimate
        self._budget_mb = budget_mb if enabled else None
        self._processes = processes
        self._counters = {name: Metrics.counter("GuardMemory", name) for name in COUNTERS}
        self._gate: MemoryGate | None = None
        self._held: Reservation | None = None

    def setup(self) -> None:
        if self._budget_mb is not None:
            self._gate = process_gate(self._budget_mb, self._processes)
        self._inner.setup()

    def start_bundle(self) -> Any:
        return self._inner.start_bundle()

    def process(self, element, *args, **kwargs):  # no hints: Beam takes those of the inner DoFn
        if self._gate is None:
            yield from self._outputs(element, args, kwargs)
        else:
            with self._gate.enter(self._estimate(element), self._count) as self._held:
                yield from self._outputs(element, args, kwargs)
                # An error that was caught on the way can hold the element's data in a cycle through its traceback.
                gc.collect(YOUNG)

    def finish_bundle(self) -> Any:
        return self._inner.finish_bundle()

    def teardown(self) -> None:
        # Where a consumer raised, the suspended process() lives on in the traceback, and its reservation with it.
        if self._held is not None:
            self._held.release()
        self._inner.teardown()

    def _outputs(self, element: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
        outputs = self._inner.process(element, *args, **kwargs)
        if outputs is not None:
            yield from outputs

    def _count(self, name: str, amount: int) -> None:
        self._counters[name].inc(amount)

    # What Beam asks of a DoFn besides running it. It looks for _inspect_process before it reads process itself.

    def _inspect_process(self) -> tuple[list[str], list[Any]]:
        return get_function_arguments(self._inner, "process")

    def _process_argspec_fn(self) -> Callable[..., Any]:
        return self._inner._process_argspec_fn()

    def default_type_hints(self) -> Any:
        return self._inner.get_type_hints()

    def infer_output_type(self, input_type: Any) -> Any:
        return self._inner.infer_output_type(input_type)

    def default_label(self) -> str:
        return self._inner.default_label()

    def display_data(self) -> dict[str, Any]:
        return {"inner": self._inner, "budget_mb": str(self._budget_mb)}
