import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from beam_etl.postgres import embedded_postgres

REPOSITORY = Path(__file__).parents[1]
USE_SERVER = """
import sys
from beam_etl.postgres import embedded_postgres
print(embedded_postgres.start(sys.argv[1]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="beam_etl_pg_"))
    yield parent / "data"
    embedded_postgres.stop(parent / "data")
    shutil.rmtree(parent)


def start_user(directory: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", USE_SERVER, str(directory)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end_user(user: "subprocess.Popen[str]") -> None:
    user.communicate(timeout=60)


def postmaster(directory: Path) -> psutil.Process:
    return psutil.Process(int((directory / "postmaster.pid").read_text().split()[0]))


def poll(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def query(dsn: str, statement: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def test_serves_with_durable_settings_for_loading(directory: Path) -> None:
    dsn = embedded_postgres.start(directory)
    for name, value in embedded_postgres.SETTINGS.items():
        assert query(dsn, f"SELECT current_setting('{name}')") == value
    assert query(dsn, "SELECT current_setting('fsync')") == "on"
    assert query(dsn, "SELECT current_setting('synchronous_commit')") == "on"


def test_threads_share_one_server(directory: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        dsns = set(threads.map(embedded_postgres.start, [directory] * 8))
        started = {query(dsn, "SELECT pg_postmaster_start_time()") for dsn in [*dsns] * 8}
    assert len(dsns) == 1
    assert len(started) == 1


def test_processes_share_one_server_and_the_last_stops_it(directory: Path) -> None:
    users = [start_user(directory) for _ in range(3)]
    dsns = {user.stdout.readline().strip() for user in users}
    assert len(dsns) == 1
    server = postmaster(directory)
    end_user(users[0])
    end_user(users[1])
    assert query(dsns.pop(), "SELECT 1") == 1
    end_user(users[2])
    assert not (directory / "postmaster.pid").exists()
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE


def test_killed_user_does_not_keep_the_server_alive(directory: Path) -> None:
    killed, last = start_user(directory), start_user(directory)
    killed.stdout.readline(), last.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    end_user(killed)
    assert (directory / "postmaster.pid").exists()
    end_user(last)
    assert not (directory / "postmaster.pid").exists()


def test_data_outlives_the_server(directory: Path) -> None:
    query(embedded_postgres.start(directory), "CREATE TABLE kept AS SELECT 42 AS answer")
    embedded_postgres.stop(directory)
    embedded_postgres.stop(directory)
    assert not (directory / "postmaster.pid").exists()
    assert query(embedded_postgres.start(directory), "SELECT answer FROM kept") == 42


def test_killed_server_is_started_again_with_what_was_committed(directory: Path) -> None:
    query(embedded_postgres.start(directory), "CREATE TABLE kept AS SELECT 42 AS answer")
    server = postmaster(directory)
    server.kill()
    poll(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
    assert query(embedded_postgres.start(directory), "SELECT answer FROM kept") == 42
    assert postmaster(directory).pid != server.pid


def test_crashed_server_is_started_again_with_what_was_committed(directory: Path) -> None:
    with psycopg.connect(embedded_postgres.start(directory)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        connection.commit()
        connection.execute("INSERT INTO kept VALUES (8)")
        embedded_postgres.crash(directory)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
    with psycopg.connect(embedded_postgres.start(directory)) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(7,)]


def test_psql_runs_on_the_server_and_tells_its_exit_code(directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert embedded_postgres.run_psql(directory, ["--tuples-only", "--no-align", "--command", "SELECT 6 * 7"]) == 0
    assert capfd.readouterr().out == "42\n"
    assert embedded_postgres.run_psql(directory, ["--command", "SELECT 1 / 0"]) == 1
    assert "division by zero" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_psql_command_is_complete(directory: Path) -> None:
    command = embedded_postgres.psql_command(directory)
    done = subprocess.run([*command, "-Atc", "SELECT current_user"], capture_output=True, text=True, check=True)
    assert done.stdout == "postgres\n"


def test_parent_directories_are_made(directory: Path) -> None:
    deep = directory / "a" / "b"
    try:
        assert query(embedded_postgres.start(deep), "SELECT 1") == 1
    finally:
        embedded_postgres.stop(deep)


@pytest.mark.parametrize("name", ["with space", "semi;colon", "quo'te", "dollar$", "com,ma"])
def test_directory_that_a_shell_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="use a directory named with letters"):
        embedded_postgres.start(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_directory_with_other_files_is_refused_and_left_alone(directory: Path) -> None:
    directory.mkdir()
    (directory / "precious.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match="holds other files"):
        embedded_postgres.start(directory)
    assert os.listdir(directory) == ["precious.csv"]


def test_server_that_cannot_start_shows_its_log(directory: Path) -> None:
    embedded_postgres.start(directory)
    embedded_postgres.stop(directory)
    with (directory / "postgresql.conf").open("a") as config:
        config.write("shared_buffers = 'nonsense'\n")
    with pytest.raises(RuntimeError, match=r"does not start; (.|\n)*shared_buffers"):
        embedded_postgres.start(directory)
