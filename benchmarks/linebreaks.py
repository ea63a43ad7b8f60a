"""A proof rather than a race: a large file in which half of the records hold quoted line breaks, through a whole load.

What is landed must be what csv.reader reads, cell for cell and in order, and each reject must stand on the line where
csv.reader finds its record. The malformed records that are planted end where every reader ends them; behind a quote that is
never closed, csv.reader and the automaton go on in different ways, and neither is the truth.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq

COLUMNS = ("id", "note", "city", "remark")
_BAD_EVERY = 20_011
_BAD = "malformed"
_BATCH_RECORDS = 20_000
_CONFIG = (
    "tables:\n  - {name: breaks, files: ['*.csv'], columns: {id: string, note: string, city: string, remark: string}}\n"
)

Place = tuple[int, int]  # record and physical line, both from 1


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a reader finds: rows, a hash of all their cells in order, and where the bad records are."""

    rows: int
    digest: str
    rejects: tuple[Place, ...]


def prove(data: Path, size_bytes: int) -> tuple[Contents, Contents]:
    """What csv.reader and a load find in the same file; they must be equal. Files are deleted afterwards.

    Raises:
      subprocess.CalledProcessError: the load failed.
    """
    directory = data / "linebreaks"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        source, output, config = directory / "breaks.csv", directory / "output", directory / "config.yaml"
        write_file(source, size_bytes)
        config.write_text(_CONFIG)
        flags = [f"--input={source}", f"--output={output}", f"--config={config}", "--runner=DirectRunner"]
        subprocess.run([sys.executable, "-m", "beam_etl", *flags], check=True, stdout=sys.stderr)
        return read_by_csv(source), read_landed(output)
    finally:
        shutil.rmtree(directory)


def write_file(path: Path, size_bytes: int) -> None:
    """Records of some 200 bytes; each second one holds line breaks, and a few are ragged or malformed."""
    filler = "delimited text, split exactly, whatever stands in quotes; " * 2
    with path.open("w", encoding="utf-8", newline="") as stream:
        written = stream.write(",".join(COLUMNS) + "\n")
        number = 0
        while written < size_bytes:
            batch = "".join(_record(n, filler) for n in range(number, number + _BATCH_RECORDS))
            written += stream.write(batch)
            number += _BATCH_RECORDS


def _record(number: int, filler: str) -> str:
    if number % _BAD_EVERY == _BAD_EVERY - 1:
        return f'{number},"one\nfield too few",x\n' if number % 2 else f'{_BAD},"quoted\n"not" quite",x,{number}\n'
    if number % 2:
        return (
            f'{number},"first, {number}\nsecond ""{number % 97}""\r\nthird\n\n{filler}",São Paulo,"{number % 13}\n"\n'
        )
    return f'{number},"{filler}",city {number % 1009},\n'


def read_by_csv(path: Path) -> Contents:
    """The reference. A record is bad if its fields are not four, or if it is one that was written malformed."""
    rejects: list[Place] = []

    def good() -> Iterator[Sequence[str]]:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream)
            next(reader)
            line = reader.line_num + 1
            for record, row in enumerate(reader, start=1):
                if len(row) != len(COLUMNS) or row[0] == _BAD:
                    rejects.append((record, line))
                else:
                    yield row
                line = reader.line_num + 1

    rows, digest = _digest(good())
    return Contents(rows, digest, tuple(rejects))


def read_landed(output: Path) -> Contents:
    """What a load left: Parquet files in the order of their names, and its files of rejects."""

    def landed() -> Iterator[Sequence[str]]:
        for path in sorted(output.glob("breaks/*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(_BATCH_RECORDS, columns=list(COLUMNS)):
                yield from zip(*(column.fill_null("").to_pylist() for column in batch.columns), strict=True)

    lines = [
        json.loads(line)
        for path in output.glob("_beam_etl/rejects/*/breaks/*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    rows, digest = _digest(landed())
    return Contents(rows, digest, tuple(sorted((line["record"], line["line"]) for line in lines)))


def _digest(rows: Iterable[Sequence[str]]) -> tuple[int, str]:
    """Cells are set apart by control characters that no cell of the file holds."""
    digest = hashlib.blake2b()
    count = 0
    for row in rows:
        digest.update(("\x1f".join(row) + "\x1e").encode())
        count += 1
    return count, digest.hexdigest()
