"""`runners` explains the places, and `completion bash` is a script that bash runs."""

import shlex
import shutil
import subprocess

import pytest

from beam_etl.commands.completion import completion_script
from beam_etl.exit_codes import DONE, USAGE
from runners.table import PLACES
from tests.landed import run


def completed(*words):
    """What bash would complete the last of the words to."""
    bash = shutil.which("bash")
    assert bash, "bash is needed to test its completion"
    line = " ".join(map(shlex.quote, words))
    script = (
        f"{completion_script()}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words) - 1}\n_beam_etl\necho ${{COMPREPLY[@]}}"
    )
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["beam-etl", "pl"], ["plan"]),
        (["beam-etl", "plan", "pl"], []),
        (["beam-etl", "--max_re"], ["--max_record_bytes", "--max_reject_ratio"]),
        (["beam-etl", "--preflight"], ["--preflight_only"]),
        (["beam-etl", "plan", "--mode", "=", "app"], ["append"]),
        (["beam-etl", "plan", "--mode", "="], ["replace", "append", "upsert", "fail_if_exists"]),
        (["beam-etl", "--output", "=", "x"], []),
    ],
)
def test_bash_completes_commands_flags_and_their_choices(words, expected):
    assert completed(*words)[: len(expected) or None] == expected


def test_completion_is_for_bash():
    done = run("completion", "bash")
    assert (done.code, done.out) == (DONE, completion_script())
    assert run("completion", "fish").code == USAGE


def test_runners_explains_each_place_and_what_is_missing():
    done = run("runners")
    assert (done.code, done.err) == (DONE, "")
    for place in PLACES:
        assert f"{place.name}: {place.summary}\n" in done.out
        for problem in place.check([]):
            assert f"  missing: {problem}\n" in done.out
    assert "DirectRunner: this machine, one thread a core (default)\n  ready\n" in done.out
    told = run("runners", "--direct_num_workers=x").out
    assert "missing: --direct_num_workers=x is not a whole number" in told
