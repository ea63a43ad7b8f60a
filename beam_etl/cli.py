"""The command line: argv -> configuration -> run -> report on the terminal -> exit code.

Only what parsing needs is imported here, so that --help answers at once; Beam is imported when a load runs.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from beam_etl.commands.table import COMMANDS, commands_help, run_command
from beam_etl.config import EtlConfig
from beam_etl.configuration.layers import load_config
from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED, USAGE
from beam_etl.flags import load_parser, read_flags
from beam_etl.terminal import WithoutTracebacks, complain, log_as_json, set_up_logging

PREFLIGHT_ONLY = "--preflight_only"

_EPILOG = f"""\
Other commands (python -m beam_etl COMMAND --help):
{commands_help()}
Flags of Beam and its runner (--direct_num_workers, --flink_master, --temp_location, ...) pass through.
Exit codes: 0 all tables published; 2 usage or configuration; 3 some table not published; 4 the run failed.
"""


def run() -> NoReturn:
    """The whole process of the command line.

    Imports make half a million objects that live as long as the process; searching them for garbage again and again, and
    a last time on leaving, takes over a second.
    """
    gc.set_threshold(100_000)
    code = main()
    gc.freeze()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in COMMANDS:
        return run_command(arguments[0], arguments[1:])
    if PREFLIGHT_ONLY in arguments:
        return run_command("preflight", [argument for argument in arguments if argument != PREFLIGHT_ONLY])
    parser = build_parser()
    flags = read_flags(parser, arguments)
    set_up_logging(flags.verbose)
    try:
        if flags.quiet and flags.verbose:
            raise ValueError("--quiet and --verbose contradict each other; leave one of them out")
        config = load_config(flags.job_file, flags.settings, flags.profile)
        if config.log_format == "json":
            log_as_json()
        beam_args = flags.checked_beam_args()
        with contextlib.nullcontext() if flags.verbose else contextlib.redirect_stderr(WithoutTracebacks(sys.stderr)):
            return _load(config, beam_args, flags.quiet)
    except ValueError as error:
        complain(error)
        return USAGE
    except KeyboardInterrupt:
        complain("interrupted; run the same command again to resume")
        return FAILED
    except Exception as error:
        # Whatever it is, a person gets a sentence, and the traceback on request.
        logging.getLogger(__name__).info("the run failed", exc_info=True)
        complain(str(error) or type(error).__name__)
        complain("run the same command again to resume it; --verbose shows where it failed")
        return FAILED


def build_parser() -> argparse.ArgumentParser:
    """The parser of a load's flags."""
    parser = load_parser(
        "python -m beam_etl",
        "Lands piles of delimited text as typed Parquet and PostgreSQL, every record exactly once.",
        _EPILOG,
    )
    told = "Only look whether the load could begin, tell each remedy, and load nothing."
    parser.add_argument("--quiet", action="store_true", help="Write nothing but problems.")
    parser.add_argument(PREFLIGHT_ONLY, action="store_true", help=told)
    return parser


def _load(config: EtlConfig, beam_args: Sequence[str], quiet: bool) -> int:
    from beam_etl.console import print_result
    from beam_etl.launcher import run_load

    if quiet:
        config = config.model_copy(update={"progress": "none"})
    elif config.progress == "auto":
        drawn = _is_terminal() and config.log_format == "text"
        config = config.model_copy(update={"progress": "live" if drawn else "plain"})
    result = run_load(config, beam_args)
    if not quiet:
        print_result(result, config)
    else:
        for table, entry in result.report["tables"].items():
            for reason in entry["reasons"]:
                complain(f"{table} is not published: {reason}")
    return PUBLISHED if result.report["published"] or result.submitted else NOT_PUBLISHED


def _is_terminal() -> bool:
    """Whether lines on standard error can be drawn over."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
