"""The example of docs/reading-kernel.md does what it says."""

import re
from pathlib import Path

import numpy as np
import pytest

from beam_etl.model import Dialect
from beam_etl.reading.automaton import IN_QUOTED, RECORD_START
from beam_etl.reading.boundaries import n_states, next_record_start

PAGE = Path(__file__).parent.parent / "docs/reading-kernel.md"


def test_the_example_runs():
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 1
    exec(compile(examples[0], str(PAGE), "exec"), {})
    assert examples[0].count("assert ") == 7


@pytest.mark.parametrize("silent_bytes", [0, 1, 63, 64, 65, 1000, 5000])
def test_a_record_start_behind_long_silence_in_quotes(silent_bytes):
    """What is skipped in quotes gives the same as stepping from each state."""
    text = b"a\n" * (silent_bytes // 2) + b'b",c\n"d\ne"\n'
    data = np.frombuffer(text, dtype=np.uint8)
    assert n_states(Dialect()) > IN_QUOTED
    assert next_record_start(data, Dialect(), IN_QUOTED, 0) == text.index(b'"d')
    assert next_record_start(data[:-12], Dialect(), IN_QUOTED, 0) is None
    assert next_record_start(data, Dialect(quote=""), IN_QUOTED, 0) is None
    assert next_record_start(data, Dialect(), RECORD_START, 1) == (2 if silent_bytes > 1 else text.index(b'"d'))
