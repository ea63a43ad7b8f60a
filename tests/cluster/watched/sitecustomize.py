"""Writes down what a worker process does to tables, and may end it at a chosen point.

Python imports this module when it starts with this folder on PYTHONPATH. `BEAM_ETL_WATCH` names the file that gets a line
`<process id> <event> <what>` for each event: "watching" at the start, "encode" when a table is encoded, and "parquet" or
"postgres" when that sink has committed a chunk. `BEAM_ETL_DIE_AFTER=<event> <n>` kills the process that writes the n-th
line of that event, with SIGKILL, before anyone can learn of the event.
"""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beam_etl.parquet.store import ParquetStore
from beam_etl.postgres.store import PostgresStore
from transforms.arrow_coder import ArrowTableCoder

WATCH = Path(os.environ["BEAM_ETL_WATCH"])
DEADLY_EVENT, _, DEADLY_COUNT = os.environ.get("BEAM_ETL_DIE_AFTER", "").partition(" ")
LOCK = threading.Lock()


def note(event: str, what: str) -> None:
    with LOCK:
        with WATCH.open("a") as watch:
            watch.write(f"{os.getpid()} {event} {what}\n")
        noted = [line.split()[1] for line in WATCH.read_text().splitlines()]
        if event == DEADLY_EVENT and noted.count(event) == int(DEADLY_COUNT):
            os.kill(os.getpid(), signal.SIGKILL)


def watch_commits(store: type, event: str) -> None:
    commit: Callable[..., Any] = store.commit_chunk

    def commit_chunk(self: Any, converted: Any, table: Any) -> Any:
        committed = commit(self, converted, table)
        note(event, f"{converted.schema_hash}/{converted.chunk.table}/{converted.chunk.chunk_id}")
        return committed

    store.commit_chunk = commit_chunk


def watch_encodes() -> None:
    encode = ArrowTableCoder.encode

    def encode_and_note(self: ArrowTableCoder, value: Any) -> bytes:
        note("encode", str(value.num_rows))
        return encode(self, value)

    ArrowTableCoder.encode = encode_and_note


watch_commits(ParquetStore, "parquet")
watch_commits(PostgresStore, "postgres")
watch_encodes()
note("watching", "-")
