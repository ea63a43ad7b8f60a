"""Leases in a lake and in PostgreSQL: one load at a time, higher tokens later, and nobody waits for the dead."""

import concurrent.futures
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from beam_etl.loads import lease_keeper
from beam_etl.loads.holder import Holder
from beam_etl.loads.lease_keeper import hold_leases
from beam_etl.loads.leases import LakeLeases, LeaseTaken
from beam_etl.loads.table_state import LeaseLostError, PublishTerms
from beam_etl.postgres.errors import PostgresConfigurationError
from beam_etl.postgres.leases import PostgresLeases
from beam_etl.postgres.store import PostgresStore
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema
from beam_etl.sinks import SinkSettings
from tests.processes import poll

Leases = LakeLeases | PostgresLeases
Open = Callable[[Holder], Leases]


@pytest.fixture
def store(database: str) -> Iterator[PostgresStore]:
    made = PostgresStore(database, "")
    made.open()
    made.prepare()
    yield made
    made.close()


@pytest.fixture(params=["lake", "postgres"])
def leases(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "lake":
        return lambda holder: LakeLeases(str(tmp_path), holder)
    store = request.getfixturevalue("store")
    return lambda holder: PostgresLeases(store, holder)


def far(owner: str, run: str = "") -> Holder:
    """A run on another machine, of which nobody can tell whether it lives."""
    return Holder(owner, run or owner, "elsewhere", "", 1)


def test_a_lease_is_claimed_by_one_load_at_a_time(leases: Open) -> None:
    first, second = leases(far("a")), leases(far("b"))
    token = first.claim("t", 30.0)
    assert isinstance(token, int) and token > 0
    refused = second.claim("t", 30.0)
    assert isinstance(refused, LeaseTaken)
    assert refused.holder == far("a")
    assert time.time() < refused.expires <= time.time() + 30
    assert isinstance(second.claim("other", 30.0), int)
    first.release("t", token)
    later = second.claim("t", 30.0)
    assert isinstance(later, int) and later > token
    first.release("t", token)
    assert isinstance(first.claim("t", 30.0), LeaseTaken), "giving up twice does not take another's lease away"


def test_runs_of_one_load_share_a_lease_until_the_last_gives_it_up(leases: Open) -> None:
    runs = [leases(far("a", run)) for run in ("one", "two")]
    token = runs[0].claim("t", 30.0)
    assert isinstance(token, int)
    assert not runs[0].is_shared("t", token)
    assert runs[1].claim("t", 30.0) == token
    assert runs[0].is_shared("t", token) and runs[1].is_shared("t", token)
    for run in runs:
        assert isinstance(leases(far("b")).claim("t", 30.0), LeaseTaken)
        run.release("t", token)
    assert isinstance(leases(far("b")).claim("t", 30.0), int)


def test_a_lease_that_is_not_renewed_runs_out(leases: Open) -> None:
    first, second = leases(far("a")), leases(far("b"))
    token = first.claim("t", 0.2)
    assert isinstance(token, int)
    first.renew("t", token, 0.4)
    poll("the lease to run out", lambda: isinstance(second.claim("t", 30.0), int), 30)
    with pytest.raises(LeaseLostError, match=r"table 't'.*run the same command again"):
        first.renew("t", token, 30.0)
    assert isinstance(first.claim("t", 30.0), LeaseTaken)


def test_a_late_renewal_counts_where_nobody_else_has_claimed(leases: Open) -> None:
    first = leases(far("a"))
    token = first.claim("t", 0.01)
    assert isinstance(token, int)
    poll("the clock", lambda clock=time.monotonic() + 0.1: time.monotonic() > clock, 5)
    first.renew("t", token, 30.0)
    assert isinstance(leases(far("b")).claim("t", 30.0), LeaseTaken)


def test_a_process_of_this_machine_that_is_gone_holds_nothing(leases: Open) -> None:
    code = (
        "from beam_etl.loads.holder import Holder; import json; print(json.dumps(Holder.this_process('a').to_json()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    dead = Holder.from_json(json.loads(told.stdout))
    assert dead.is_dead_here()
    assert not Holder.this_process("a").is_dead_here()
    assert not far("a").is_dead_here()
    assert not dataclasses.replace(dead, boot="another start of the machine").is_dead_here()
    token = leases(dead).claim("t", 30.0)
    later = leases(far("b")).claim("t", 30.0)
    assert isinstance(token, int) and isinstance(later, int) and later > token


def test_of_many_at_once_one_has_the_lease(leases: Open) -> None:
    holders = [far(f"load {number}") for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        claims = list(threads.map(lambda holder: leases(holder).claim("t", 30.0), holders))
    assert sorted(isinstance(claim, int) for claim in claims) == [False] * 7 + [True]


def test_a_publish_in_postgres_needs_the_lease(store: PostgresStore) -> None:
    schema = TableSchema((ColumnSchema("n", ColumnType("bigint")),))
    load = PostgresStore(store.dsn_reference, "load-1")
    load.open()
    load.prepare()
    load.create_staging("t", schema)
    first = PostgresLeases(store, far("a"))
    token = first.claim("t", 30.0)
    assert isinstance(token, int)
    first.release("t", token)
    later = PostgresLeases(store, far("b")).claim("t", 30.0)
    assert isinstance(later, int)
    with pytest.raises(LeaseLostError, match=rf"has taken the lease in PostgreSQL .this run had token {token}"):
        load.publish("t", schema.hash, 0, 0, terms=PublishTerms(token=token))
    assert not load.target_exists("t")
    assert load.publish("t", schema.hash, 0, 0, terms=PublishTerms(token=later))
    load.close()


# --- keeping them


@pytest.fixture
def sinks(tmp_path: Path, database: str) -> SinkSettings:
    store = PostgresStore(database, "")
    store.open()
    store.prepare()
    store.close()
    return SinkSettings(str(tmp_path / "lake"), "", postgres=database)


def test_a_second_load_is_told_who_has_the_table_and_until_when(sinks: SinkSettings) -> None:
    with (
        hold_leases("a", ["t", "u"], sinks) as held,
        pytest.raises(ValueError, match=rf"'u' is being loaded by process {os.getpid()} on .*load a.*until 20\d\d-"),
        hold_leases("b", ["s", "u"], sinks, wait_seconds=0.0),
    ):
        raise AssertionError("it was let in")
    assert [(own.table, own.lake > 0, own.postgres > 0) for own in held.tokens] == [
        ("t", True, True),
        ("u", True, True),
    ]
    with hold_leases("b", ["s", "u"], sinks, wait_seconds=0.0) as later:
        assert all(own.lake > first.lake for own in later.tokens for first in held.tokens if own.table == first.table)


def test_a_second_load_waits_a_while(sinks: SinkSettings) -> None:
    first = hold_leases("a", ["t"], sinks)
    first.__enter__()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:

        def second() -> int:
            with hold_leases("b", ["t"], sinks, wait_seconds=60.0) as held:
                return held.tokens[0].lake

        waiting = threads.submit(second)
        assert not waiting.done()
        first.__exit__(None, None, None)
        assert waiting.result(timeout=60) == 2


def test_leases_are_renewed_while_they_are_held(sinks: SinkSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_keeper, "LEASE_SECONDS", 0.6)
    with hold_leases("a", ["t"], sinks):
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            assert isinstance(LakeLeases(sinks.output, far("b")).claim("t", 1.0), LeaseTaken)
            time.sleep(0.05)
        with psycopg.connect(str(sinks.postgres)) as connection:
            assert connection.execute("SELECT expires_at > now() FROM beam_etl.leases").fetchone() == (True,)


def test_a_database_without_books_is_told_to_the_caller(tmp_path: Path, database: str) -> None:
    sinks = SinkSettings(str(tmp_path / "lake"), "", postgres=database)
    with pytest.raises(PostgresConfigurationError), hold_leases("a", ["t"], sinks):
        raise AssertionError("it was let in")
