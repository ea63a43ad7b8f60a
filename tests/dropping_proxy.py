"""A TCP relay to a PostgreSQL server that cuts lines at chosen moments, as a pooler does that restarts."""

import contextlib
import socket
import threading
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Moment = Literal["mid_copy", "before_commit", "after_commit"]

MID_COPY_BYTES = 100_000


class DroppingProxy:
    """Cuts one line for each moment in `cuts`, the first to come; `dsn` leads through it."""

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._target = f"{parts['host']}/.s.PGSQL.{parts['port']}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        self.cuts: list[Moment] = []
        self.done: list[Moment] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            silent = threading.Event()
            threading.Thread(target=self._send, args=(client, server, silent), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client, silent), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        sent = 0
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                sent += len(data)
                if b"COMMIT\0" in data and self._is_due("after_commit"):
                    silent.set()
                elif b"COMMIT\0" in data and self._is_due("before_commit"):
                    break
                if sent > MID_COPY_BYTES and self._is_due("mid_copy"):
                    break
                server.sendall(data)
        _hang_up(client, server)

    def _answer(self, server: socket.socket, client: socket.socket, silent: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if silent.is_set():
                    break  # the server has committed; its client never hears of it
                client.sendall(data)
        _hang_up(client, server)

    def _is_due(self, moment: Moment) -> bool:
        if moment not in self.cuts:
            return False
        self.cuts.remove(moment)
        self.done.append(moment)
        return True


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
