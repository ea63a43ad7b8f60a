"""`python -m beam_etl`."""

from beam_etl.cli import run

run()
