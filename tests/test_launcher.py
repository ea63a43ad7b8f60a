import pytest

from beam_etl.launcher import _last_line

# As Beam 2.77 words them, cut in the middle.
PYTHON_ERROR = """Pipeline job-001 failed in state FAILED: bundle inst020 stage-024 failed:Traceback (most recent call last):
  File "sdk_worker.py", line 312, in _execute
    response = task()
TypeError: no such field [while running 'FirstAttempt/ConvertChunks/ConvertChunk']

"""
PRISM_PANIC = """Pipeline job-001 failed in state FAILED: panic in stage.Execute bundle processing goroutine: \
send on closed channel, stage: &{ID:stage-032 transforms:[...]},stackTrace:
goroutine 110 [running]:
runtime/debug.Stack()
\t/usr/local/go/src/runtime/debug/stack.go:26 +0x5e
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            RuntimeError(PYTHON_ERROR),
            "TypeError: no such field [while running 'FirstAttempt/ConvertChunks/ConvertChunk']",
        ),
        (
            RuntimeError(PRISM_PANIC),
            "Pipeline job-001 failed in state FAILED: panic in stage.Execute bundle processing goroutine: "
            "send on closed channel",
        ),
        (RuntimeError("one line"), "one line"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_a_failed_run_is_told_in_one_line_that_says_what_happened(error, line):
    assert _last_line(error) == line
