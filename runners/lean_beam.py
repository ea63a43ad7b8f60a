"""What Beam 2.77 computes again and again while it builds and starts a graph, computed once.

Of the 2 CPU seconds of a one-row job a third went into these two: every look at an option built a whole argument parser
(some 900 times), and every question about a DoFn inspected the signatures of all its methods (some 15,000 times).
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms import core

_SIGNATURE_READER = "get_signature"


class RememberingOptions(PipelineOptions):
    """PipelineOptions whose views are made once; a view shares the values of what it views, so it never grows old."""

    def view_as(self, cls: type[Any]) -> Any:
        views: dict[type[Any], Any] = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as the plain options, which a worker can read without this module."""
        return PipelineOptions, (self._flags,), {"_all_options": self._all_options}


def remember_signatures() -> None:
    """Makes Beam's transforms inspect each function once. Idempotent.

    A bound method's signature follows from its function, whatever it is bound to. Where another version of Beam reads
    signatures elsewhere, nothing changes but the time.
    """
    inspect_once = getattr(core, _SIGNATURE_READER, None)
    if inspect_once is None or hasattr(inspect_once, "remembers"):
        return
    setattr(core, _SIGNATURE_READER, _remembering(inspect_once))


def _remembering(read: Callable[[Any], inspect.Signature]) -> Callable[[Any], inspect.Signature]:
    of_function: dict[types.FunctionType, inspect.Signature] = {}

    @functools.wraps(read)
    def remembering(func: Any) -> inspect.Signature:
        function = func.__func__ if isinstance(func, types.MethodType) else None
        if not isinstance(function, types.FunctionType):
            return read(func)
        if function not in of_function:
            of_function[function] = read(func)
        return of_function[function]

    remembering.remembers = True  # type: ignore[attr-defined]
    return remembering
