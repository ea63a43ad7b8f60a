"""What is done to a load: each nemesis attacks one or two runs of the round's command, and returns when they are over.

A nemesis returns whether the load came to its end in spite of it. Chance comes from the round's seeded generator; what
the machine makes of the same moments differs from run to run.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping

import psycopg

from beam_etl.chaos.disk import SmallDisk
from beam_etl.chaos.process import KILLED, Faults, LoadProcess
from beam_etl.chaos.round import Round
from beam_etl.failpoints import FAILPOINTS, can_lose

Nemesis = Callable[[Round], bool]

TWICE_RATIO = 0.4
# A zombie may hold the row of a chunk, for which others wait: it must go on before they give up.
ZOMBIE_SECONDS = 5.0
FREE_BYTES = 256 << 10


def kill_anytime(round_: Round) -> bool:
    """kill -9 of the whole process at a random moment"""
    load = round_.start()
    round_.await_moment(load)
    round_.kill(load)
    return round_.finish(load)


def kill_at_failpoint(round_: Round) -> bool:
    """kill -9 at a failpoint"""
    name = _choose_failpoint(round_)
    load = round_.start(Faults(f"{name}=kill@{_hit(round_.rng, name)}"))
    ended = round_.finish(load)
    if load.wait(0) == KILLED:
        round_.field.tally["kills"] += 1
        round_.field.failpoints[name] += 1
    return ended


def error_at_failpoint(round_: Round) -> bool:
    """an error that nothing retries, at a failpoint"""
    name = _choose_failpoint(round_)
    load = round_.start(Faults(f"{name}=raise@{_hit(round_.rng, name)}"))
    ended = round_.finish(load)
    round_.field.tally["errors"] += not ended
    return ended


def lost_answers(round_: Round) -> bool:
    """answers of PostgreSQL and of the disk get lost after success"""
    names = [name for name in FAILPOINTS if can_lose(name)]
    chosen = [round_.rng.choice(names) for _ in range(3)]
    load = round_.start(Faults(";".join(f"{name}=lose@{_hit(round_.rng, name)}" for name in chosen)))
    round_.field.tally["lost answers"] += len(chosen)
    return round_.finish(load)


def zombie(round_: Round) -> bool:
    """SIGSTOP, another run of the same command goes on, then SIGCONT"""
    first = _stopped_load(round_)
    if not first.is_stopped():
        return round_.finish(first)
    round_.field.tally["zombies"] += 1
    second = round_.start()
    second.wait(round_.rng.choice([ZOMBIE_SECONDS, round_.rng.uniform(0, ZOMBIE_SECONDS)]))
    first.signal(signal.SIGCONT)
    if round_.rng.random() < 0.3:
        first.wait(round_.rng.uniform(0, 1))
        round_.kill(round_.rng.choice([first, second]))
    return _finish_both(round_, first, second)


def two_runs(round_: Round) -> bool:
    """two runs of the same command at once, one or both of them perhaps killed"""
    first = round_.start()
    first.wait(round_.rng.choice([0.0, round_.rng.uniform(0, 1)]))
    second = round_.start()
    kills = round_.rng.choice([0, 1, 2])
    for victim in round_.rng.sample([first, second], kills):
        round_.await_moment(victim)
        round_.kill(victim)
    return _finish_both(round_, first, second)


def chunks_twice(round_: Round) -> bool:
    """40 % of the chunks committed twice at the same time"""
    load = round_.start(Faults(twice_ratio=TWICE_RATIO, seed=round_.rng.randrange(1 << 30)))
    if round_.rng.random() < 0.5:
        round_.await_moment(load)
        round_.kill(load)
    return round_.finish(load)


def postgres_crash(round_: Round) -> bool:
    """PostgreSQL stopped by pg_ctl -m immediate and started again, once or twice"""
    load = round_.start()
    for _ in range(round_.rng.randint(1, 2)):
        round_.await_moment(load)
        round_.field.crash_postgres(round_.rng.choice([0.0, round_.rng.uniform(0, 2)]))
    if round_.rng.random() < 0.3:
        round_.kill(load)
    return round_.finish(load)


def terminated_backends(round_: Round) -> bool:
    """pg_terminate_backend of every connection of the load, several times"""
    load = round_.start()
    round_.await_write(load)
    with round_.field.connect(round_.name) as admin:
        for _ in range(round_.rng.randint(2, 8)):
            load.wait(round_.rng.uniform(0, 0.4))
            round_.field.tally["terminated backends"] += _terminate_others(admin)
    return round_.finish(load)


def changing_input(round_: Round) -> bool:
    """a file of the dump gets other contents while it is loaded"""
    load = round_.start()
    if round_.rng.random() < 0.5:
        load.wait(round_.rng.uniform(0, round_.field.seconds_to_first_write))
    else:
        round_.await_moment(load)
    round_.dump.change_a_file(round_.rng)
    round_.field.tally["changed files"] += 1
    round_.finish(load)
    return False  # whatever it loaded, there is something new to load now


def two_loads(round_: Round) -> bool:
    """another load of the same table at once, one of the two perhaps killed"""
    other = round_.another_dump()
    loads = [round_.start(), round_.start(dump=other)]
    if round_.rng.random() < 0.5:
        victim = round_.rng.choice(loads)
        round_.await_moment(victim)
        round_.kill(victim)
    _finish_both(round_, *loads)
    round_.field.tally["other loads"] += 1
    return False  # whichever came last, the round's own command must now make the table its own again


def few_connections(round_: Round) -> bool:
    """a server that allows five connections in all, the load perhaps killed"""
    _limit_connections(round_, starved=True)
    try:
        load = round_.start()
        if round_.rng.random() < 0.5:
            round_.await_moment(load)
            round_.kill(load)
        ended = round_.finish(load)
    finally:
        _limit_connections(round_, starved=False)
    round_.field.tally["starved servers"] += 1
    return ended


def full_disk(round_: Round) -> bool:
    """no space left on the output's disk"""
    disk = _disk(round_)
    try:
        load = round_.start()
        if round_.rng.random() < 0.5:
            round_.await_moment(load)
        disk.fill(free_bytes=round_.rng.randrange(FREE_BYTES))
        ended = round_.finish(load)
    finally:
        disk.make_space()
    round_.field.tally["full disks"] += not ended
    return ended


def read_only_output(round_: Round) -> bool:
    """the output becomes read-only"""
    disk = _disk(round_)
    load = round_.start()
    round_.await_moment(load)
    if not disk.make_read_only(seconds=1.0):
        return round_.finish(load)
    try:
        ended = round_.finish(load)
    finally:
        disk.make_writable()
    round_.field.tally["read-only outputs"] += 1
    return ended


NEMESES: Mapping[str, Nemesis] = {
    nemesis.__name__: nemesis
    for nemesis in (
        kill_anytime,
        kill_at_failpoint,
        error_at_failpoint,
        lost_answers,
        zombie,
        two_runs,
        chunks_twice,
        postgres_crash,
        terminated_backends,
        changing_input,
        two_loads,
        few_connections,
        full_disk,
        read_only_output,
    )
}
# What opens most rounds, by weight: the quickest, and those after which there is most to resume.
VOLLEY = {"kill_anytime": 5, "kill_at_failpoint": 5, "postgres_crash": 2}
NEED_A_DISK = frozenset({"full_disk", "read_only_output"})


def _choose_failpoint(round_: Round) -> str:
    """One of those where fewest loads have died so far."""
    killed = round_.field.failpoints
    fewest = min(killed[name] for name in FAILPOINTS)
    return round_.rng.choice([name for name in FAILPOINTS if killed[name] <= fewest + 1])


def _hit(rng: random.Random, name: str) -> int:
    """At which hit: a resumed load passes fewer, so low numbers are likelier."""
    return min(rng.randint(1, FAILPOINTS[name]), rng.randint(1, FAILPOINTS[name]))


def _stopped_load(round_: Round) -> LoadProcess:
    """A load that is stopped at a failpoint or a random moment; or that was over before."""
    if round_.rng.random() < 0.6:
        name = round_.rng.choice(list(FAILPOINTS))
        # An early hit: a resumed load passes few, and one that is never stopped makes no zombie.
        load = round_.start(Faults(f"{name}=stop@{min(_hit(round_.rng, name), round_.rng.randint(1, 3))}"))
    else:
        load = round_.start()
        round_.await_moment(load)
        load.signal(signal.SIGSTOP)
    round_.await_stop(load)
    return load


def _finish_both(round_: Round, first: LoadProcess, second: LoadProcess) -> bool:
    ends = [round_.finish(load) for load in (first, second)]
    return any(ends)


def _terminate_others(admin: psycopg.Connection[tuple[object, ...]]) -> int:
    found = admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    return found.rowcount


def _limit_connections(round_: Round, starved: bool) -> None:
    with round_.field.connect() as admin:
        admin.execute("ALTER SYSTEM SET max_connections = 5" if starved else "ALTER SYSTEM RESET max_connections")
    round_.field.crash_postgres(0.0)  # the setting takes effect when the server starts


def _disk(round_: Round) -> SmallDisk:
    if round_.field.disk is None:
        raise RuntimeError("this nemesis needs a disk of its own; it must be left out where there is none")
    return round_.field.disk
