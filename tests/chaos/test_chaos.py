"""The chaos suite finds what is wrong with naive loaders, and nothing wrong with the program under each nemesis."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_etl import cli
from beam_etl.chaos import disk as chaos_disk
from beam_etl.chaos import suite as chaos
from beam_etl.chaos.nemeses import NEED_A_DISK, NEMESES
from beam_etl.chaos.process import Loader
from beam_etl.chaos.suite import BROKEN, CLEAN, ChaosResult, command_line, run_chaos
from beam_etl.exit_codes import USAGE
from tests.chaos.naive_loader import forgetting, repeating

# Minutes of attacks: beside the suite of every change stands `make chaos`.
pytestmark = pytest.mark.slow

RECORDS = 60_000


@pytest.fixture
def directory() -> Iterator[Path]:
    """Not below pytest's own base directory, which the user that the server runs as may not enter."""
    path = Path(tempfile.mkdtemp(prefix="beam_etl_chaos_test_"))
    yield path
    shutil.rmtree(path)


def run_naive(loader: Loader, directory: Path, nemeses: list[str]) -> ChaosResult:
    return run_chaos(
        directory, 0, 1, nemeses, loader=loader, preloaded="tests.chaos.naive_loader", records=20_000, least_rounds=5
    )


@pytest.mark.parametrize("loader", [repeating, forgetting])
def test_a_naive_loader_is_exact_while_nothing_happens(loader, directory):
    result = run_naive(loader, directory, [])
    assert not result.findings, result.findings
    assert (result.rounds, result.tally["loads"]) == (0, 3)


@pytest.mark.parametrize(("loader", "fault"), [(repeating, "duplicates"), (forgetting, "lost")])
def test_a_naive_loader_that_is_killed_is_found_out(loader, fault, directory):
    result = run_naive(loader, directory, ["kill_anytime"])
    assert result.tally["kills"] > 0
    assert getattr(result.findings, fault) > 0
    assert list(directory.glob("round_*")), "what broke is kept"


@pytest.mark.timeout(900)
def test_every_nemesis_leaves_a_load_exact(directory):
    result = run_chaos(
        directory,
        0,
        2,
        list(NEMESES),
        loader=command_line,
        preloaded="beam_etl.chaos.warm",
        records=RECORDS,
        least_rounds=len(NEMESES),
    )
    assert not result.findings, result.findings
    assert result.rounds == len(NEMESES)
    assert set(result.attacks) == NEMESES.keys() - result.skipped.keys()
    assert result.skipped.keys() <= NEED_A_DISK
    assert result.tally["kills"] >= 1
    assert result.tally["PostgreSQL crashes"] >= 1
    assert not list(directory.glob("round_*")), "what was exact is deleted"


def result_with(**findings: object) -> ChaosResult:
    result = ChaosResult(seed=1)
    result.attacks["kill_anytime"] = 1
    for name, value in findings.items():
        setattr(result.findings, name, value)
    return result


@pytest.mark.parametrize(
    ("findings", "code"),
    [({}, CLEAN), ({"duplicates": 1}, BROKEN), ({"lost": 2}, BROKEN), ({"unbalanced": ["a [sentence]"]}, BROKEN)],
)
def test_the_exit_code_tells_whether_anything_broke(findings, code, directory, monkeypatch, capsys):
    monkeypatch.setattr(chaos, "run_chaos", lambda *_, **__: result_with(**findings))
    assert chaos.main(["--directory", str(directory), "--seconds", "1"]) == code
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("duplicates", "lost", "unbalanced"))
    assert (str(directory) in printed.replace("\n", "")) == (code == BROKEN)


def test_a_machine_that_allows_no_attack_is_not_called_exact(directory, monkeypatch, capsys):
    def refuse(*arguments: str) -> None:
        raise OSError("permission denied")

    monkeypatch.setattr(chaos_disk, "_mount", refuse)
    assert cli.main(["chaos", "--directory", str(directory), "--nemesis", "full_disk", "--seconds", "0"]) == USAGE
    printed = capsys.readouterr()
    assert "full_disk was skipped: needs a disk of its own: permission denied" in printed.out
    assert "nothing was attacked" in printed.err


def test_a_directory_with_files_is_refused(directory, capsys):
    (directory / "mine").touch()
    assert cli.main(["chaos", "--directory", str(directory)]) == USAGE
    assert "holds files" in capsys.readouterr().err
    assert [path.name for path in directory.iterdir()] == ["mine"]
