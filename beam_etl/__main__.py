"""`python -m beam_etl`."""

import sys

from beam_etl.cli import main

sys.exit(main())
