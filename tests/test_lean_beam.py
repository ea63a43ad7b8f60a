"""Beam's own questions are answered once, and the answers are the same."""

import inspect
import pickle

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, SetupOptions
from apache_beam.transforms import core
from apache_beam.typehints.decorators import get_signature

from runners.lean_beam import RememberingOptions, remember_signatures


def test_a_view_is_made_once_and_shares_the_values() -> None:
    options = RememberingOptions(["--direct_num_workers=3"])
    view = options.view_as(DirectOptions)
    assert view.direct_num_workers == 3
    assert options.view_as(DirectOptions) is view
    view.direct_num_workers = 5
    assert options.view_as(DirectOptions).direct_num_workers == 5
    assert options.get_all_options()["direct_num_workers"] == 5


def test_views_of_two_classes_are_two() -> None:
    options = RememberingOptions(["--no_save_main_session"])
    assert options.view_as(SetupOptions).save_main_session is False
    assert type(options.view_as(DirectOptions)) is DirectOptions


def test_pickled_options_are_plain_ones_with_the_values_as_they_are() -> None:
    options = RememberingOptions(["--direct_num_workers=3"])
    options.view_as(DirectOptions).direct_num_workers = 5
    copy = pickle.loads(pickle.dumps(options))
    assert type(copy) is PipelineOptions
    assert copy.view_as(DirectOptions).direct_num_workers == 5


class _Multiply(beam.DoFn):
    def process(self, element: int, *, factor: int = 2) -> list[int]:
        return [element * factor]


class _Inherits(_Multiply):
    def setup(self) -> None: ...


def test_remembered_signatures_are_those_that_beam_reads_itself() -> None:
    remember_signatures()
    remember_signatures()
    for fn in (_Multiply(), _Inherits(), _Multiply()):
        for _, method in inspect.getmembers(fn, inspect.ismethod):
            assert core.get_signature(method) == get_signature(method)
    assert core.get_signature(len) == get_signature(len)


def test_a_function_is_inspected_once() -> None:
    remember_signatures()
    assert core.get_signature(_Multiply().process) is core.get_signature(_Multiply().process)
