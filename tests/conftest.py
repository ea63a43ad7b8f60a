"""A real PostgreSQL for every test process, and a fresh database for every test that asks for one."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from beam_etl.postgres import embedded_postgres

# Examples are not timed: the machine may be busy. A gate tries the same examples every time, so that what it says of a
# change is about the change; elsewhere every run tries new ones.
settings.register_profile("suite", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("suite")


@pytest.fixture(scope="session")
def postgres_dir() -> Iterator[Path]:
    """The data directory of a server of this test process alone.

    Not under pytest's own base directory: each new pytest session takes away other users' right to enter that one, and
    started as root, the server runs as another user.
    """
    parent = Path(tempfile.mkdtemp(prefix="beam_etl_pg_"))
    directory = parent / "data"
    embedded_postgres.start(directory)
    yield directory
    embedded_postgres.stop(directory)
    shutil.rmtree(parent)


@pytest.fixture(scope="session")
def postgres_dsn(postgres_dir: Path) -> str:
    return embedded_postgres.start(postgres_dir)


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[str]:
    """The DSN of an empty database, dropped after the test whoever is still connected."""
    with _new_database(postgres_dsn) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def module_database(postgres_dsn: str) -> Iterator[str]:
    """As database, one for all tests of a module."""
    with _new_database(postgres_dsn) as dsn:
        yield dsn


@contextlib.contextmanager
def _new_database(postgres_dsn: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield make_conninfo(postgres_dsn, dbname=name)
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
