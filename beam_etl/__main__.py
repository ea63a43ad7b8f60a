"""`python -m beam_etl`."""

import gc
import sys

# Imports make half a million objects that live as long as the process; searching them for garbage again and again, and
# a last time on leaving, takes over a second.
gc.set_threshold(100_000)

from beam_etl.cli import main  # noqa: E402

code = main()
gc.freeze()
sys.exit(code)
