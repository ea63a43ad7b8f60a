"""Readers of delimited text on polluted files, in one run: how much of the truth each lands, and how much it damages silently.

The files and their truth come from tests/polluted/files.py alone. The score of a file is that of Vitagliano, Hameed, Jiang,
Reisener, Wu and Naumann, "Pollock: A Data Loading Benchmark", PVLDB 16(8), 2023: ten measures, each 0 to 1: success (the
reader ended without an error), and precision, recall and F1 of the header's names, of whole records and of single cells,
as multisets; all are 0 without success. The score of a reader is the mean over all files, 10 at best.

Silent damage is a file that a reader loads without an error or a refused record although a name, a record or a cell is
wrong or missing; what beam_etl rejects with a reason is refused, not damaged. NULL and the empty text count as equal, and
so do numbers of the same value (1.50 and 1.5, but not 00501 and 501).

Each reader runs twice: with its own detection and typing, and told how the file is written (encoding, delimiter, quote,
escape, line end, header, lines to skip, comments; those that it has an option for) and, peers, to keep text as it is.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import itertools
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import clevercsv
import clevercsv.dialect
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
from rich.console import Console
from rich.table import Table

from beam_etl.model import Reject
from beam_etl.sources.declared_dialect import DeclaredDialect
from tests.polluted.files import GivenDialect, PollutedFile, polluted_files
from tests.polluted.reading import Reading, Verdict, declared_dialect, judge, read_file, table_rows, text

SECONDS_A_FILE = 20
MEASURES = 10


class RefusedError(Exception):
    """The reader said that it cannot read the file."""


def read_beam_etl(path: Path, given: GivenDialect | None) -> Reading:
    reading = read_file(path, declared_dialect(given) if given else DeclaredDialect())
    if isinstance(reading, Reject):
        raise RefusedError(reading.reason)
    return reading


def read_duckdb(path: Path, given: GivenDialect | None) -> Reading:
    options: dict[str, Any] = {}
    if given:
        options = {
            "delim": given.delimiter,
            "quote": given.quote,
            "escape": "\\" if given.escape == "backslash" else given.quote,
            "header": given.header_lines > 0,
            "skip": given.skip_lines,
            "all_varchar": True,
            "store_rejects": True,
        }
        if not given.encoding.startswith("utf-8"):
            options["encoding"] = {"iso-8859-1": "latin-1"}.get(given.encoding, given.encoding)
        if given.comment:
            options["comment"] = given.comment
    arguments = "".join(f", {name} = ${name}" for name in options)
    with duckdb.connect() as connection:
        found = connection.execute(f"FROM read_csv($path{arguments})", {"path": str(path), **options})
        names, rows = [column[0] for column in found.description], found.fetchall()
        refused = "SELECT count(DISTINCT line) FROM reject_errors"
        rejects = connection.execute(refused).fetchall()[0][0] if given else 0
    return dataclasses.replace(_of_rows(names, rows), rejects=rejects)


def read_polars(path: Path, given: GivenDialect | None) -> Reading:
    if given is None:
        return _of_arrow(pl.read_csv(path).to_arrow())
    frame = pl.read_csv(
        path,
        separator=given.delimiter,
        quote_char=given.quote or None,
        has_header=given.header_lines > 0,
        skip_lines=given.skip_lines,
        comment_prefix=given.comment or None,
        eol_char="\r" if given.line_end == "cr" else "\n",
        encoding="utf8" if given.encoding.startswith("utf-8") else given.encoding,
        infer_schema=False,
    )
    return _of_arrow(frame.to_arrow())


def read_pyarrow(path: Path, given: GivenDialect | None) -> Reading:
    if given is None:
        return _of_arrow(pyarrow.csv.read_csv(path))
    read = pyarrow.csv.ReadOptions(
        encoding=given.encoding.removesuffix("-sig"),
        skip_rows=given.skip_lines,
        autogenerate_column_names=given.header_lines == 0,
    )
    parse = pyarrow.csv.ParseOptions(
        delimiter=given.delimiter,
        quote_char=given.quote or False,
        double_quote=given.escape == "doubled",
        escape_char="\\" if given.escape == "backslash" else False,
        newlines_in_values=True,
    )
    names = pyarrow.csv.read_csv(path, read, parse).column_names
    convert = pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False)
    return _of_arrow(pyarrow.csv.read_csv(path, read, parse, convert))


def read_pandas(path: Path, given: GivenDialect | None) -> Reading:
    if given is None:
        frame = pd.read_csv(path, sep=None, engine="python")
    else:
        frame = pd.read_csv(
            path,
            sep=given.delimiter,
            quotechar=given.quote or '"',
            quoting=csv.QUOTE_MINIMAL if given.quote else csv.QUOTE_NONE,
            doublequote=given.escape == "doubled",
            escapechar="\\" if given.escape == "backslash" else None,
            header=None
            if given.header_lines == 0
            else list(range(given.header_lines))
            if given.header_lines > 1
            else 0,
            skiprows=given.skip_lines,
            skipfooter=given.footer_lines,
            comment=given.comment or None,
            encoding=given.encoding,
            dtype=str,
            keep_default_na=False,
            engine="python" if given.footer_lines else "c",
        )
    names = [" ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame.columns]
    return _of_rows(names, frame.itertuples(index=False, name=None))


def read_clevercsv(path: Path, given: GivenDialect | None) -> Reading:
    if given is None:
        rows = clevercsv.read_table(str(path))
        sample = path.read_bytes().decode("utf-8", "replace")
        has_header = bool(rows) and clevercsv.Sniffer().has_header(sample)
    else:
        dialect = clevercsv.dialect.SimpleDialect(
            given.delimiter, given.quote, "\\" if given.escape == "backslash" else ""
        )
        lines = path.read_bytes().decode(given.encoding).splitlines(keepends=True)[given.skip_lines :]
        stream = io.StringIO("".join(lines), newline="")
        rows, has_header = list(clevercsv.reader(stream, dialect=dialect)), given.header_lines > 0
    rows = [row for row in rows if row]
    return _of_rows(rows[0] if has_header and rows else (), rows[1:] if has_header else rows)


READERS: dict[str, Callable[[Path, GivenDialect | None], Reading]] = {
    "beam_etl": read_beam_etl,
    "duckdb": read_duckdb,
    "polars": read_polars,
    "pyarrow": read_pyarrow,
    "pandas": read_pandas,
    "clevercsv": read_clevercsv,
}


def _of_arrow(table: pa.Table) -> Reading:
    return Reading(tuple(table.column_names), tuple(table_rows(table)))


def _of_rows(names: Iterable[str], rows: Iterable[Iterable[object]]) -> Reading:
    return Reading(tuple(names), tuple(tuple(text(value) for value in row) for row in rows))


@dataclasses.dataclass
class Tally:
    """A reader's results over all files."""

    scores: list[float] = dataclasses.field(default_factory=list)
    records: list[float] = dataclasses.field(default_factory=list)
    cells: list[float] = dataclasses.field(default_factory=list)
    exact: int = 0
    failed: int = 0
    silent: list[str] = dataclasses.field(default_factory=list)

    def add(self, file: PollutedFile, verdict: Verdict | None) -> None:
        if verdict is None:
            self.failed += 1
        self.scores.append(_score(verdict))
        self.records.append(verdict.records.f1 if verdict else 0.0)
        self.cells.append(verdict.cells.f1 if verdict else 0.0)
        self.exact += verdict is not None and verdict.exact
        if verdict is not None and verdict.silent_damage:
            self.silent.append(file.name)

    @property
    def score(self) -> float:
        return sum(self.scores) / len(self.scores)


def _score(verdict: Verdict | None) -> float:
    """The ten measures of one file, added."""
    if verdict is None:
        return 0.0
    matches = (verdict.header, verdict.records, verdict.cells)
    return 1.0 + sum(match.precision + match.recall + match.f1 for match in matches)


def _try(
    read: Callable[[Path, GivenDialect | None], Reading], path: Path, given: GivenDialect | None
) -> Reading | None:
    """The reading, or None where the reader fails or needs too long."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS_A_FILE)
    try:
        return read(path, given)
    except BaseException as error:  # polars panics are no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return None
    finally:
        signal.alarm(0)


def measure(seeds: int) -> dict[tuple[str, str], Tally]:
    tallies = {(name, mode): Tally() for mode in ("detected", "told") for name in READERS}
    files = itertools.chain.from_iterable(map(polluted_files, range(1, seeds + 1)))
    with tempfile.TemporaryDirectory() as directory:
        for number, file in enumerate(files):
            path = Path(directory) / f"{number}.csv"
            path.write_bytes(file.data)
            for (name, mode), tally in tallies.items():
                reading = _try(READERS[name], path, file.given if mode == "told" else None)
                tally.add(file, judge(file, reading) if reading else None)
    return tallies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="how many files of each kind")
    parser.add_argument("--list", metavar="READER", help="list the files that this reader damages silently")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    tallies = measure(options.seeds)
    table = Table(title=f"{len(tallies['beam_etl', 'detected'].scores)} polluted files", title_justify="left")
    for name in ("dialect", "reader"):
        table.add_column(name)
    for name in (f"score of {MEASURES}", "record F1", "cell F1", "exact files", "failed files", "silently damaged"):
        table.add_column(name, justify="right")
    for (name, mode), tally in sorted(tallies.items(), key=lambda item: (item[0][1], -item[1].score)):
        n = len(tally.scores)
        means = [f"{tally.score:.3f}", f"{sum(tally.records) / n:.3f}", f"{sum(tally.cells) / n:.3f}"]
        table.add_row(mode, name, *means, f"{tally.exact}", f"{tally.failed}", f"{len(tally.silent)}")
    console = Console(width=110)
    console.print(table)
    for (name, mode), tally in tallies.items():
        if name == options.list:
            console.print(f"{name}, {mode}:", *tally.silent, sep="\n  ")
    own = [tallies["beam_etl", mode] for mode in ("detected", "told")]
    best = all(
        tallies["beam_etl", mode].score > tally.score for (name, mode), tally in tallies.items() if name != "beam_etl"
    )
    return 0 if best and not any(tally.silent for tally in own) else 1


if __name__ == "__main__":
    sys.exit(main())
