"""`alerts LOAD --output DIR`: what of a load somebody should be told, and telling a webhook."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from beam_etl.alerts.findings import Thresholds, evaluate
from beam_etl.alerts.webhook import NotSentError, send, webhook_address
from beam_etl.commands.report import LAST
from beam_etl.config import EtlConfig
from beam_etl.exit_codes import DONE, FAILED, NOT_PUBLISHED, USAGE
from beam_etl.reports.history import read_history
from beam_etl.secrets import redact
from beam_etl.terminal import complain, set_up_logging


def main(arguments: Sequence[str]) -> int:
    flags = _parser().parse_args(arguments)
    set_up_logging(verbose=False)
    try:
        thresholds = Thresholds(flags.reject_ratio, flags.slow_ratio)
        address = webhook_address(flags.webhook) if flags.webhook else ""
        history = read_history(flags.output)
        chosen = [one for one in history if flags.load in (LAST, one["load_id"])]
        if not chosen:
            raise ValueError(
                f"load {flags.load!r} has no report in {flags.output}; python -m beam_etl history lists all"
            )
    except ValueError as error:
        complain(error)
        return USAGE
    except OSError as error:
        complain(error)
        return FAILED
    report = chosen[-1]
    findings = evaluate(report, history, thresholds)
    for finding in findings:
        print(redact(f"{finding.severity} {finding.table}: {finding.message}"))
    if not findings:
        print(f"nothing to tell of load {report['load_id']}")
    elif address:
        try:
            send(address, report["load_id"], findings)
        except NotSentError as error:
            complain(error)
            return FAILED
    return NOT_PUBLISHED if any(one.severity == "critical" for one in findings) else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m beam_etl alerts",
        description="Prints what of a load somebody should be told, and sends it to a webhook. Exit codes: 0 nothing "
        "critical; 2 usage; 3 something critical; 4 the webhook did not take it.",
        allow_abbrev=False,
    )
    usual = Thresholds()
    parser.add_argument("load", metavar="LOAD", help=f"The load_id, or {LAST} for the load that was planned last.")
    parser.add_argument("--output", required=True, metavar="VALUE", help=EtlConfig.model_fields["output"].description)
    parser.add_argument("--webhook", metavar="REFERENCE", help="env:NAME or file:PATH of a Slack-compatible address.")
    parser.add_argument(
        "--reject_ratio", type=float, default=usual.reject_ratio, help="Share of rejects of a table that is critical."
    )
    parser.add_argument(
        "--slow_ratio", type=float, default=usual.slow_ratio, help="Share of a table's usual rate that is too slow."
    )
    return parser
