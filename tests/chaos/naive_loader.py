"""Loaders as one would write them in an afternoon: COPY and Parquet, batch by batch; after a crash, run them again.

They take the command line's arguments as far as the chaos suite gives them, and are exact as long as nothing happens.
They exist to show that the suite finds what is wrong with them.
"""

import argparse
import csv
import json
import uuid
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

BATCH = 500


def repeating(arguments):
    """Begins an unfinished file anew: what was committed before the crash is there twice."""
    return _load(arguments, mark_first=False)


def forgetting(arguments):
    """Marks a file as done, then loads it: what was not committed before the crash is lost."""
    return _load(arguments, mark_first=True)


def _load(arguments, mark_first):
    parser = argparse.ArgumentParser()
    for name in ("input", "output", "postgres"):
        parser.add_argument(f"--{name}")
    options, _ = parser.parse_known_args(arguments)
    lake, files = Path(options.output), sorted(Path(options.input).glob("events*.csv"))
    (lake / "events").mkdir(parents=True, exist_ok=True)
    if (lake / "events" / "_SUCCESS").exists():
        return 0
    with psycopg.connect(options.postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS events (id bigint, text text, amount numeric)")
        for path in files:
            done = lake / f"{path.name}.done"
            if done.exists():
                continue
            if mark_first:
                done.touch()
            good = [row for row in _rows(path) if _is_good(row)]
            for start in range(0, len(good), BATCH):
                _land(connection, lake, good[start : start + BATCH])
            done.touch()
    _tell(lake, files)
    return 0


def _land(connection, lake, batch):
    ids, texts, amounts, _ = zip(*batch, strict=True)
    table = pa.table({"id": pa.array(map(int, ids)), "text": texts, "amount": pa.array(map(Decimal, amounts))})
    pq.write_table(table, lake / "events" / f"{uuid.uuid4()}.parquet")
    with connection.cursor() as cursor, cursor.copy("COPY events FROM STDIN") as copy:
        for row in zip(ids, texts, amounts, strict=True):
            copy.write_row(row)


def _tell(lake, files):
    """Writes the rejects, the manifest and _SUCCESS where readers look for them."""
    rejects = lake / "_beam_etl" / "rejects" / "naive" / "events"
    manifests = lake / "_beam_etl" / "manifests" / "events"
    for directory in (rejects, manifests):
        directory.mkdir(parents=True, exist_ok=True)
    bad = [{"raw": _raw(row)} for path in files for row in _rows(path) if not _is_good(row)]
    (rejects / "all.jsonl").write_text("".join(json.dumps(reject) + "\n" for reject in bad))
    named = [{"name": path.name} for path in (lake / "events").glob("*.parquet")]
    (manifests / "0000000001-naive.json").write_text(json.dumps({"load_id": "naive", "files": named}))
    (lake / "events" / "_SUCCESS").touch()


def _rows(path):
    with path.open(newline="") as file:
        yield from list(csv.reader(file))[1:]


def _is_good(row):
    return len(row) == 4 and row[3] != "2024-02-31"


def _raw(row):
    """A bad record as it is written in the dump: quoted where it holds quotes."""
    cells = ['"' + cell.replace('"', '""') + '"' if '"' in cell else cell for cell in row]
    return ",".join(cells)
