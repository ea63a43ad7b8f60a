"""What the chaos suite believes: the sinks read by others' readers, and compared with the dump record by record.

Independent of the program on purpose: it uses SQL, pyarrow and the documented layout alone, never the program's stores,
books or records.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from psycopg import sql

from beam_etl.chaos.dump import SPOILED, TABLE, Dump, Expected


@dataclasses.dataclass
class Findings:
    """Broken promises: records, and books with a sentence each."""

    duplicates: int = 0
    lost: int = 0
    unbalanced: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Findings) -> None:
        self.duplicates += other.duplicates
        self.lost += other.lost
        self.unbalanced += other.unbalanced

    def __bool__(self) -> bool:
        return bool(self.duplicates or self.lost or self.unbalanced)


@dataclasses.dataclass(frozen=True)
class _Held:
    """What a sink holds of `events`: ids ascending with repetitions, sum of amounts, characters of all texts."""

    ids: npt.NDArray[np.int64]
    amount: Decimal
    characters: int


def check_visible(lake: Path, dsn: str, versions: Sequence[Expected]) -> Findings:
    """Whatever a reader sees at any time, after any crash, must be nothing or one whole version."""
    findings = Findings()
    manifest = _current_manifest(lake, TABLE)
    for sink, held in (("postgres", _in_postgres(dsn)), ("parquet", _by_manifest(lake, manifest, findings))):
        if held is not None and not any(_is_whole(held, version) for version in versions):
            findings.unbalanced.append(f"{sink} shows {len(held.ids)} rows, which are no whole version of the dump")
    return findings


def check_final(lake: Path, dsn: str, dump: Dump) -> Findings:
    """After the last run every record is once in each sink or once in the rejects, and nothing else is anywhere."""
    findings = Findings()
    manifest = _current_manifest(lake, TABLE)
    if manifest is None:
        findings.unbalanced.append("parquet: the table has no manifest")
    files = sorted((lake / TABLE).glob("*.parquet"))
    listed = {path.name for path in files}
    named = {file["name"] for file in manifest["files"]} if manifest else set()
    if manifest is not None and listed != named:
        findings.unbalanced.append(f"parquet: files and manifest differ in {sorted(listed ^ named)[:3]}")
    if manifest is not None and not (lake / TABLE / "_SUCCESS").exists():
        findings.unbalanced.append("parquet: the published table has no _SUCCESS")
    _compare("postgres", _in_postgres(dsn), dump.expected, findings)
    _compare("parquet", _read_parquet(files, findings), dump.expected, findings)
    _compare_rejects(lake, manifest, dump.expected, findings)
    if dump.spoiled and ((lake / SPOILED).exists() or _exists(dsn, SPOILED)):
        findings.unbalanced.append("the spoiled table was published")
    return findings


def fingerprint(lake: Path, dsn: str) -> dict[str, Any]:
    """Everything published, with what would show that it was written again: times, and PostgreSQL's own identities."""
    places = [lake / TABLE, lake / "_beam_etl" / "manifests", lake / "_beam_etl" / "rejects"]
    files = {
        str(path.relative_to(lake)): (path.stat().st_size, path.stat().st_mtime_ns)
        for place in places
        for path in place.rglob("*")
        # The rejects of a table that is not published are written by every run.
        if path.is_file() and SPOILED not in path.parts
    }
    with psycopg.connect(dsn) as connection:
        relation = connection.execute("SELECT to_regclass(%s)::oid", [f"public.{TABLE}"]).fetchone()
        rows = connection.execute("SELECT count(*), max(xmin::text), max(ctid) FROM events").fetchone()
    return {"files": files, "relation": relation, "rows": rows}


def _is_whole(held: _Held, version: Expected) -> bool:
    return np.array_equal(held.ids, version.ids) and (held.amount, held.characters) == (
        version.amount,
        version.characters,
    )


def _compare(sink: str, held: _Held | None, expected: Expected, findings: Findings) -> None:
    if held is None:
        findings.lost += len(expected.ids)
        findings.unbalanced.append(f"{sink}: the table is not published")
        return
    distinct = np.unique(held.ids)
    lost = np.setdiff1d(expected.ids, distinct, assume_unique=True)
    foreign = np.setdiff1d(distinct, expected.ids, assume_unique=True)
    findings.duplicates += len(held.ids) - len(distinct)
    findings.lost += len(lost)
    if len(foreign):
        findings.unbalanced.append(f"{sink}: {len(foreign)} rows that the dump does not hold, such as id {foreign[0]}")
    if len(held.ids) == len(expected.ids) and not len(lost) and not _is_whole(held, expected):
        findings.unbalanced.append(
            f"{sink}: every id is there once, but amounts and characters sum up to {held.amount}, {held.characters}, "
            f"not {expected.amount}, {expected.characters}"
        )


def _compare_rejects(lake: Path, manifest: Any, expected: Expected, findings: Findings) -> None:
    load = manifest["load_id"] if manifest else "no load"
    paths = sorted((lake / "_beam_etl" / "rejects" / load / TABLE).glob("*.jsonl"))
    raw = sorted(json.loads(line)["raw"] for path in paths for line in path.read_text().splitlines())
    if raw == list(expected.rejects):
        return
    repeated = len(raw) - len(set(raw))
    missing = len(set(expected.rejects) - set(raw))
    foreign = len(set(raw) - set(expected.rejects))
    findings.duplicates += repeated
    findings.lost += missing
    findings.unbalanced.append(f"rejects: {repeated} repeated, {missing} missing, {foreign} that were not planted")


def _exists(dsn: str, table: str) -> bool:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT to_regclass(%s)", [f"public.{table}"]).fetchone() != (None,)


def _in_postgres(dsn: str) -> _Held | None:
    if not _exists(dsn, TABLE):
        return None
    with psycopg.connect(dsn) as connection:
        table = sql.Identifier(TABLE)
        cursor = connection.cursor(binary=True)
        ids = cursor.execute(sql.SQL("SELECT id::bigint FROM {}").format(table)).fetchall()
        sums = sql.SQL("SELECT coalesce(sum(amount), 0), coalesce(sum(length(text)), 0) FROM {}").format(table)
        amount, characters = connection.execute(sums).fetchone() or (Decimal(0), 0)
    return _Held(np.sort(np.array([row[0] for row in ids], dtype=np.int64)), amount, int(characters))


def _current_manifest(lake: Path, table: str) -> Any:
    """The manifest with the highest sequence, as ARCHITECTURE and README describe the layout."""
    manifests = sorted((lake / "_beam_etl" / "manifests" / table).glob("*.json"))
    return json.loads(manifests[-1].read_text()) if manifests else None


def _by_manifest(lake: Path, manifest: Any, findings: Findings) -> _Held | None:
    if manifest is None:
        return None
    paths = [lake / TABLE / file["name"] for file in manifest["files"]]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        findings.unbalanced.append(f"parquet: the manifest names {missing[0]}, which is not there")
        return None
    return _read_parquet(paths, findings)


def _read_parquet(paths: Sequence[Path], findings: Findings) -> _Held | None:
    if not paths:
        return None
    ids, amount, characters = [np.empty(0, dtype=np.int64)], Decimal(0), 0
    for path in paths:
        try:
            table = pq.ParquetFile(path).read(["id", "text", "amount"])
        except pa.ArrowInvalid as error:
            findings.unbalanced.append(f"parquet: {path.name} is not readable: {error}")
            continue
        ids.append(table["id"].cast(pa.int64()).to_numpy())
        amount += Decimal(pc.sum(table["amount"]).as_py() or 0)
        characters += int(pc.sum(pc.utf8_length(table["text"])).as_py() or 0)
    return _Held(np.sort(np.concatenate(ids)), amount, characters)
