"""The chaos suite: `python -m beam_etl chaos`. Loads are attacked for some minutes; an oracle looks for broken promises.

Each round makes a dump, an empty lake and an empty database, and attacks one command by several nemeses one after the
other. Then the command is repeated undisturbed until it has done all it can, and the oracle compares both sinks and the
rejects with the dump, record by record; one more run must change nothing. It runs in a directory and on a PostgreSQL
server of its own, and touches nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from psycopg import sql
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from beam_etl.chaos.disk import SmallDisk
from beam_etl.chaos.nemeses import NEED_A_DISK, NEMESES, VOLLEY
from beam_etl.chaos.oracle import Findings
from beam_etl.chaos.process import Loader, LoadRunner
from beam_etl.chaos.round import Battlefield, Round
from beam_etl.failpoints import FAILPOINTS
from beam_etl.postgres import embedded_postgres

SECONDS = 300
RECORDS = 120_000
LONGEST_VOLLEY = 12

CLEAN, BROKEN = 0, 1


@dataclasses.dataclass
class ChaosResult:
    """What a run of the suite did and found.

    Attributes:
      seed: of all chance in it.
      seconds: how long it took.
      rounds: loads that were attacked and brought to their end.
      attacks: by nemesis.
      tally: kills, crashes, ... by name.
      failpoints: kills by failpoint.
      skipped: nemeses that this machine does not allow, and why.
      findings: broken promises.
    """

    seed: int
    seconds: float = 0.0
    rounds: int = 0
    attacks: Counter[str] = dataclasses.field(default_factory=Counter)
    tally: Counter[str] = dataclasses.field(default_factory=Counter)
    failpoints: Counter[str] = dataclasses.field(default_factory=Counter)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    findings: Findings = dataclasses.field(default_factory=Findings)


def main(arguments: Sequence[str]) -> int:
    """The subcommand; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_etl chaos",
        description="Kills, stops, doubles and starves loads, and counts what that breaks. Exit code 1: something broke.",
        allow_abbrev=False,
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="No attack begins later (default: %(default)s).")
    parser.add_argument("--seed", type=int, help="Of all chance; the same moments differ a little all the same.")
    parser.add_argument("--directory", help="Where to work; a temporary one, deleted if nothing broke, by default.")
    parser.add_argument("--nemesis", action="append", choices=list(NEMESES), help="Only these; repeatable.")
    options = parser.parse_args(arguments)
    console = Console()
    parent = Path(options.directory or tempfile.mkdtemp(prefix="beam_etl_chaos_")).absolute()
    if parent.exists() and any(parent.iterdir()):
        raise ValueError(f"--directory {parent}: holds files; name a new or an empty directory")
    seed = random.randrange(1 << 30) if options.seed is None else options.seed
    nemeses = options.nemesis or list(NEMESES)
    result = run_chaos(
        parent, options.seconds, seed, nemeses, loader=command_line, preloaded="beam_etl.chaos.warm", console=console
    )
    print_result(result, console)
    if not result.attacks:
        raise ValueError("--nemesis: nothing was attacked, because this machine allows none of those; choose others")
    if result.findings:
        console.print(f"Everything is kept in {parent}", soft_wrap=True)
        return BROKEN
    if options.directory is None:
        shutil.rmtree(parent)
    return CLEAN


def run_chaos(
    directory: Path,
    seconds: float,
    seed: int,
    nemeses: Sequence[str],
    *,
    loader: Loader,
    preloaded: str,
    records: int = RECORDS,
    least_rounds: int = 1,
    console: Console | None = None,
) -> ChaosResult:
    """Attacks loads for `seconds`, and for at least `least_rounds` rounds; a round begun is brought to its end.

    Args:
      directory: where to work; made where needed.
      nemeses: names of those that attack.
      loader: what is attacked.
      preloaded: module with what it imports.
      records: of a dump.
      console: shows each round.
    """
    begun = time.monotonic()
    result = ChaosResult(seed)
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(LoadRunner(loader, directory / "logs", preloaded))
        disk = _open_disk(directory / "disk", nemeses, result.skipped, stack)
        postgres = directory / "postgres"
        embedded_postgres.start(postgres)
        stack.callback(embedded_postgres.stop, postgres)
        field = Battlefield(directory, postgres, runner, disk, random.Random(seed), records)
        result.tally, result.failpoints = field.tally, field.failpoints
        usable = [name for name in nemeses if name not in result.skipped]
        _run_undisturbed(field, result, console)
        deadline = time.monotonic() + seconds
        deck: list[str] = []
        while usable and (result.rounds < least_rounds or time.monotonic() < deadline):
            if not deck:
                deck = field.rng.sample(usable, len(usable))
            result.rounds += 1
            _attack(field, result, deck.pop(), usable, deadline, console)
    result.seconds = time.monotonic() - begun
    return result


def command_line(arguments: Sequence[str]) -> int:
    """What is attacked: the main function of `python -m beam_etl`."""
    from beam_etl.cli import main as cli_main

    return cli_main(arguments)


def _open_disk(
    path: Path, nemeses: Sequence[str], skipped: dict[str, str], stack: contextlib.ExitStack
) -> SmallDisk | None:
    need = [name for name in nemeses if name in NEED_A_DISK]
    if not need:
        return None
    try:
        return stack.enter_context(SmallDisk(path))
    except OSError as error:
        skipped.update(dict.fromkeys(need, f"needs a disk of its own: {error}"))
        return None


def _run_undisturbed(field: Battlefield, result: ChaosResult, console: Console | None) -> None:
    """An undisturbed round: it measures how soon a load writes, and the oracle must find it exact."""
    calm = Round(field, 0)
    load = calm.start()
    begun = time.monotonic()
    calm.await_write(load)
    field.seconds_to_first_write = time.monotonic() - begun
    calm.finish(load)
    calm.end_calmly()
    _close_round(field, result, calm, ["nothing"], console)


def _attack(
    field: Battlefield, result: ChaosResult, name: str, usable: Sequence[str], deadline: float, console: Console | None
) -> None:
    """One round: mostly a volley of kills and crashes while there is time, then a nemesis, then a calm end."""
    round_ = Round(field, result.rounds)
    shots = [shot for shot in VOLLEY if shot in usable]
    length = field.rng.randint(0, LONGEST_VOLLEY)
    volley = field.rng.choices(shots, [VOLLEY[shot] for shot in shots], k=length) if shots else []
    attacks: list[str] = []
    while volley and not round_.findings and time.monotonic() < deadline:
        attacks.append(volley.pop())
        if _strike(round_, attacks[-1]):
            # It came through: there must be something to load for whatever comes next, and a table to replace.
            round_.dump.change_a_file(field.rng)
    if not round_.findings:
        attacks.append(name)
        _strike(round_, name)
    round_.end_calmly()
    result.attacks.update(attacks)
    _close_round(field, result, round_, attacks, console)


def _strike(round_: Round, name: str) -> bool:
    """One nemesis, and a look at what readers see then. Whether the load came through."""
    came_through = NEMESES[name](round_)
    round_.check_visible()
    return came_through


def _close_round(
    field: Battlefield, result: ChaosResult, round_: Round, attacks: Sequence[str], console: Console | None
) -> None:
    result.findings.add(round_.findings)
    if console is not None:
        verdict = "[red]broken[/]" if round_.findings else "[green]exact[/]"
        console.print(f"{round_.name}: {verdict} after {', '.join(attacks)}", highlight=False, soft_wrap=True)
        for problem in round_.findings.unbalanced:
            console.print(f"  [red]{escape(problem)}[/]", highlight=False, soft_wrap=True)
    if round_.findings:
        if field.disk is not None and round_.lake.exists():  # which is gone at the end
            shutil.copytree(round_.lake, round_.directory / "lake")
        return
    with field.connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(round_.name)))
    for directory in (round_.directory, round_.lake):
        shutil.rmtree(directory)


def print_result(result: ChaosResult, console: Console) -> None:
    """Prints what was done, by nemesis and in all, and what was broken."""
    attacks = Table(title=f"Chaos, seed {result.seed}", title_justify="left")
    attacks.add_column("nemesis")
    attacks.add_column("attacks", justify="right")
    attacks.add_column("what it does")
    for name, nemesis in NEMESES.items():
        if result.attacks[name]:
            attacks.add_row(name, str(result.attacks[name]), nemesis.__doc__)
    console.print(attacks)
    for name, reason in result.skipped.items():
        console.print(f"[yellow]{name} was skipped[/]: {escape(reason)}", soft_wrap=True)
    totals = Table(title="In all", title_justify="left")
    totals.add_column("")
    totals.add_column("count", justify="right")
    totals.add_row("seconds", f"{result.seconds:.0f}")
    totals.add_row("rounds", str(result.rounds))
    for name, count in sorted(result.tally.items()):
        totals.add_row(name, str(count))
    totals.add_row("kills a minute", f"{60 * result.tally['kills'] / max(result.seconds, 1):.0f}")
    totals.add_row("failpoints that killed", f"{len(+result.failpoints)} of {len(FAILPOINTS)}")
    findings = result.findings
    for name, count in (
        ("duplicates", findings.duplicates),
        ("lost", findings.lost),
        ("unbalanced", len(findings.unbalanced)),
    ):
        totals.add_row(name, f"[red]{count}[/]" if count else "[green]0[/]")
    console.print(totals)
