"""`gc --output DIR`: takes away what loads have staged that are over or were given up."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from beam_etl.config import EtlConfig
from beam_etl.exit_codes import FAILED, PUBLISHED, USAGE
from beam_etl.loads.collection import collect_garbage
from beam_etl.postgres.errors import PostgresError
from beam_etl.sinks import SinkSettings
from beam_etl.terminal import complain, set_up_logging


def main(arguments: Sequence[str]) -> int:
    flags = _parser().parse_args(arguments)
    set_up_logging(verbose=False)
    sinks = SinkSettings(flags.output, "", postgres=flags.postgres, postgres_schema=flags.postgres_schema)
    try:
        staged = False
        for load in collect_garbage(sinks, flags.keep_days):
            staged = True
            print(f"{load.load_id}: {'collected' if load.collected else 'kept'}: {load.reason}")
        if not staged:
            print("nothing is staged")
    except ValueError as error:
        complain(error)
        return USAGE
    except (OSError, PostgresError, RuntimeError) as error:
        complain(error)
        return FAILED
    return PUBLISHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_etl gc",
        description="Takes away what loads have staged that are over, or were given up.",
        allow_abbrev=False,
    )
    fields = EtlConfig.model_fields
    parser.add_argument("--output", required=True, metavar="VALUE", help=fields["output"].description)
    for name in ("postgres", "postgres_schema"):
        parser.add_argument(f"--{name}", default=fields[name].default, metavar="VALUE", help=fields[name].description)
    parser.add_argument(
        "--keep_days", type=float, default=7.0, help="Age in days from which an unfinished load counts as given up."
    )
    return parser
