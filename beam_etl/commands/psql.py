"""`psql embedded:DIR [psql arguments]`: PostgreSQL's own shell on an embedded database, started for as long."""

from __future__ import annotations

from collections.abc import Sequence

from beam_etl.exit_codes import USAGE
from beam_etl.postgres.embedded_postgres import run_psql
from beam_etl.terminal import complain


def main(arguments: Sequence[str]) -> int:
    if not arguments or not arguments[0].startswith("embedded:"):
        complain("usage: python -m beam_etl psql embedded:DIR [psql arguments]")
        return USAGE
    try:
        return run_psql(arguments[0].removeprefix("embedded:"), arguments[1:])
    except (OSError, RuntimeError, ValueError) as error:
        complain(error)
        return USAGE
