"""Every kind of damage, read as it comes and read as declared: the table as it was meant, or a reject; never silent damage."""

import functools

import pytest

from beam_etl.sources.declared_dialect import DeclaredDialect
from tests.polluted.files import polluted_files
from tests.polluted.reading import Reading, declared_dialect, judge, read_file

SEED = 7


@functools.cache
def _files():
    return {file.kind: file for file in polluted_files(SEED)}


def _kinds():
    return sorted(_files())


@pytest.fixture
def read(tmp_path):
    def read_kind(kind, declared):
        path = tmp_path / "file.csv"
        path.write_bytes(_files()[kind].data)
        return read_file(path, declared)

    return read_kind


def _assert_right(file, reading):
    assert isinstance(reading, Reading)
    verdict = judge(file, reading)
    assert not verdict.silent_damage, (verdict, reading.header, reading.rows[:3])
    missing = len(file.rows) - len(reading.rows)
    # Only records that cannot be read with certainty are refused, and what belongs to no row of the table.
    assert missing <= file.damaged
    assert missing <= reading.rejects <= missing + file.extra


@pytest.mark.parametrize("kind", _kinds())
def test_as_it_comes(kind, read):
    _assert_right(_files()[kind], read(kind, DeclaredDialect()))


@pytest.mark.parametrize("kind", _kinds())
def test_as_declared(kind, read):
    _assert_right(_files()[kind], read(kind, declared_dialect(_files()[kind].given)))


def test_the_same_seed_gives_the_same_files():
    assert list(polluted_files(3)) == list(polluted_files(3))
    assert [file.data for file in polluted_files(3)] != [file.data for file in polluted_files(4)]


def test_the_judge_sees_every_fault():
    file = _files()["line end lf"]
    right = Reading(file.header, file.rows)
    assert judge(file, right).exact
    for wrong in (
        Reading(("x", *file.header[1:]), file.rows),
        Reading(file.header, file.rows[1:]),
        Reading(file.header, (*file.rows, file.rows[0])),
        Reading(file.header, (("1", "x", *file.rows[0][2:]), *file.rows[1:])),
    ):
        assert judge(file, wrong).silent_damage and not judge(file, wrong).exact
    refused = judge(file, Reading(file.header, file.rows[1:], rejects=1))
    assert not refused.silent_damage and not refused.exact
