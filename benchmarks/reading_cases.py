"""The cases of reading.py: each makes its files, measures, and yields figures beside their bars."""

from __future__ import annotations

import dataclasses
import io
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from beam_etl.configuration.layers import load_config
from beam_etl.declarations import declared_dialect, table_declaration
from beam_etl.loads.plan import MAX_CHUNK_BYTES
from beam_etl.model import Chunk, Dialect, InspectedFile, Reject, SourceFile, Span
from beam_etl.parquet.file import write_parquet
from beam_etl.reading.boundaries import state_map
from beam_etl.reading.chunk_reader import read_span
from beam_etl.reading.chunks import pack_chunks
from beam_etl.reading.csv_arrow import convert_span
from beam_etl.reading.cuts import compose_spans, cut_ranges, summarise_range
from beam_etl.reading.evidence import TableDeclaration, infer_schema, merge_evidence, sample_evidence
from beam_etl.reading.ragged import read_file_records
from beam_etl.schema import TableSchema
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.discovery import discover
from beam_etl.sources.inspection import inspect_file
from benchmarks.data import ROOT, lineitem, registry
from transforms.infer_schemas import SAMPLE_BYTES

_MAX_RECORD_BYTES = 16 << 20
_BLOCK_BYTES = 64 << 20
_SMALL_FILE_RECORDS = 20


@dataclasses.dataclass(frozen=True)
class Figure:
    """A measured number; `most` or `least` is its bar, where it has one."""

    what: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    def __str__(self) -> str:
        if self.most is None and self.least is None:
            return f"{self.what} | {self.value:,.4g} {self.unit} | |"
        holds = self.value <= self.most if self.most is not None else self.value >= (self.least or 0)
        bar = f"<= {self.most:,.4g}" if self.most is not None else f">= {self.least:,.4g}"
        return f"{self.what} | {self.value:,.4g} {self.unit} | {bar} {self.unit} | {'holds' if holds else '**missed**'}"


def cpu_seconds(rounds: int, *contestants: Callable[[], object]) -> list[float]:
    """The median CPU time of each contestant, in turns, after a run of each that does not count."""
    for contestant in contestants:
        contestant()
    spent: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for measured, contestant in zip(spent, contestants, strict=True):
            begun = time.process_time()
            contestant()
            measured.append(time.process_time() - begun)
    return [statistics.median(measured) for measured in spent]


def boundaries(data: Path, size_bytes: int, rounds: int) -> Iterator[Figure]:
    """Spans of a file with quoted line breaks, found in the windows around its cuts."""
    path = data / "boundaries.csv"
    record = '{},"text with a\nline break, and ""quotes""",2024-01-{:02d},{}.5\n'
    block = "".join(record.format(n, n % 28 + 1, n % 997) for n in range(1_200_000)).encode()[:_BLOCK_BYTES]
    block = block[: block.rindex(b".5\n") + 3]
    free = shutil.disk_usage(data).free
    if free < size_bytes + (4 << 30):
        raise SystemExit(f"{data} has {free / 1e9:.0f} GB left; choose a smaller --boundaries_gb")
    try:
        _repeat(path, block, size_bytes)
        file = _inspect(path, DeclaredDialect(header=False))
        ranges = cut_ranges(file, MAX_CHUNK_BYTES)
        (spent,) = cpu_seconds(rounds, lambda: compose_spans(file, [summarise_range(r) for r in ranges]))
        spans = compose_spans(file, [summarise_range(r) for r in ranges])
    finally:
        path.unlink(missing_ok=True)
    yield Figure(f"boundaries of {file.path_bytes / 1e9:.3g} GB, {len(spans)} spans, windows only", spent, "s", most=1)


def _repeat(path: Path, block: bytes, size_bytes: int) -> None:
    """The block again and again, copied inside the kernel."""
    with path.open("wb") as stream:
        stream.write(block)
    with path.open("rb") as source, path.open("r+b") as target:
        at = len(block)
        while at < size_bytes:
            at += os.copy_file_range(source.fileno(), target.fileno(), min(len(block), at), 0, at)
        target.truncate(at - at % len(block))


def silent(data: Path, rounds: int) -> Iterator[Figure]:
    """A range without any quote, in which nothing can tell text from the inside of a quoted field: all of it is looked at."""
    record = b"123456,some text without quotes,2024-01-31,99.5\n"
    block = np.frombuffer(record * (_BLOCK_BYTES // len(record)), dtype=np.uint8)
    (spent,) = cpu_seconds(max(rounds, 9), lambda: state_map(block, Dialect()))
    yield Figure("map of states of bytes without a quote, in memory", block.size / spent / 1e9, "GB/s", least=5)
    path = data / "silent.csv"
    try:
        _repeat(path, block.tobytes(), 16 * block.size)
        file = _inspect(path, DeclaredDialect(quote='"', header=False))
        ranges = cut_ranges(file, MAX_CHUNK_BYTES)
        (spent,) = cpu_seconds(rounds, lambda: compose_spans(file, [summarise_range(r) for r in ranges]))
    finally:
        path.unlink(missing_ok=True)
    yield Figure(
        f"the same with reading, a file of {file.path_bytes / 1e9:.2g} GB", file.path_bytes / spent / 1e9, "GB/s"
    )


def columns(data: Path, scale_factor: float, rounds: int) -> Iterator[Figure]:
    """lineitem to typed Arrow columns, strictly, beside pyarrow.csv with the same types."""
    file = _inspect(lineitem(data, scale_factor, 1)[0], DeclaredDialect())
    schema = _inferred(file, TableDeclaration())
    parse = pa_csv.ParseOptions(newlines_in_values=True)
    convert = pa_csv.ConvertOptions(column_types=schema.arrow)
    yield from _beside_pyarrow(
        "lineitem", file, schema, pa_csv.ReadOptions(use_threads=False), parse, convert, rounds, 330
    )


def registry_columns(data: Path, rounds: int) -> Iterator[Figure]:
    """The registry's widest file: its good records, repeated, since pyarrow.csv gives up at a bad one."""
    source = registry(data, 1.0)
    config = load_config(str(ROOT / "examples/registry.yaml"), {"input": [str(source)], "output": str(data / "none")})
    table = config.table_config("estabelecimento")
    declared = declared_dialect(config.dialect, table)
    work = data / "registry-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        archives = [str(path) for path in sorted(source.rglob("*stabelec*.zip"))]
        planned = discover(archives, [], "estabelecimento")[0]
        packed = _inspected(inspect_file(planned, declared, str(work / "staging")))
        declaration = table_declaration(table)
        good = _good_records(packed, infer_schema(_evidence(packed, declaration), declaration))
        path = work / "good.csv"
        _repeat(path, good, 200_000_000)
        file = _inspect(path, dataclasses.replace(declared, encoding=packed.dialect.encoding))
        schema = infer_schema(_evidence(file, declaration), declaration)
        read = pa_csv.ReadOptions(use_threads=False, column_names=list(file.columns), encoding=file.dialect.encoding)
        parse = pa_csv.ParseOptions(delimiter=";", newlines_in_values=True)
        # pyarrow.csv has no layouts of dates, but of timestamps.
        dates = {field.name: pa.timestamp("s") for field in schema.arrow if pa.types.is_date(field.type)}
        types = {field.name: dates.get(field.name, field.type) for field in schema.arrow}
        convert = pa_csv.ConvertOptions(
            column_types=types,
            timestamp_parsers=["%Y%m%d"],
            null_values=["", "0", "00000000"],
        )
        yield from _beside_pyarrow(f"registry ({file.dialect.encoding})", file, schema, read, parse, convert, rounds)
    finally:
        shutil.rmtree(work)


def _good_records(file: InspectedFile, schema: TableSchema) -> bytes:
    """The bytes of the records that convert."""
    span = Span(file, file.body_start, file.body_end)
    bad: list[Reject] = []
    data = read_span(span).copy()
    convert_span(data, span, schema, _MAX_RECORD_BYTES, True, bad.append)
    rejected = {reject.byte_start - span.start for reject in bad}
    starts, ends = read_file_records(data, file, _MAX_RECORD_BYTES).record_extents()
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return b"".join(data[start:end].tobytes() + b"\n" for start, end in pairs if start not in rejected)


def _beside_pyarrow(
    what: str,
    file: InspectedFile,
    schema: TableSchema,
    read: pa_csv.ReadOptions,
    parse: pa_csv.ParseOptions,
    convert: pa_csv.ConvertOptions,
    rounds: int,
    least: float | None = None,
) -> Iterator[Figure]:
    """Both read the same bytes from memory and must find as many rows."""
    spans = [(span, read_span(span).copy()) for span in _spans(file)]
    whole = pa.py_buffer(Path(file.path).read_bytes())
    rows = {"ours": 0, "pyarrow": 0}

    def ours() -> None:
        rows["ours"] = sum(
            convert_span(data, span, schema, _MAX_RECORD_BYTES, True, _refuse).table.num_rows for span, data in spans
        )

    def pyarrow() -> None:
        rows["pyarrow"] = pa_csv.read_csv(pa.BufferReader(whole), read, parse, convert).num_rows

    our_spent, their_spent = cpu_seconds(rounds, ours, pyarrow)
    assert rows["ours"] == rows["pyarrow"], rows
    speeds = [file.path_bytes / spent / 1e6 for spent in (our_spent, their_spent)]
    yield Figure(f"{what}, index and typed columns", speeds[0], "MB/s a core", least=least)
    yield Figure(f"{what}, pyarrow.csv with the same types", speeds[1], "MB/s a core")
    yield Figure(f"{what}, times pyarrow.csv's speed", speeds[0] / speeds[1], "x", least=1)


def _refuse(reject: Reject) -> None:
    raise AssertionError(f"a record that was to be good is rejected: {reject}")


def detection(data: Path, scale_factor: float, rounds: int) -> Iterator[Figure]:
    """What finding out about a file costs, beside the conversion of a gigabyte."""
    path = lineitem(data, scale_factor, 1)[0]
    file = _inspect(path, DeclaredDialect())
    chunks = pack_chunks("t", _spans(file), MAX_CHUNK_BYTES)
    schema = _inferred(file, TableDeclaration())

    def infer() -> None:
        parts = (sample_evidence(chunk, TableDeclaration(), SAMPLE_BYTES, _MAX_RECORD_BYTES) for chunk in chunks)
        infer_schema(merge_evidence(parts), TableDeclaration())

    def convert(parquet: bool) -> None:
        for span in _spans(file):
            table = convert_span(read_span(span), span, schema, _MAX_RECORD_BYTES, True, _refuse).table
            if parquet:
                write_parquet(table, io.BytesIO(), "zstd", 1)

    detected, inferred, to_arrow, to_parquet = cpu_seconds(
        rounds, lambda: _inspect(path, DeclaredDialect()), infer, lambda: convert(False), lambda: convert(True)
    )
    yield Figure("detection of one file", detected * 1e3, "ms", most=50)
    yield Figure(f"inference from samples of {len(chunks)} chunks", inferred * 1e3, "ms")
    scale = 1e9 / file.path_bytes  # a file is detected once, whatever its size
    for what, spent, most in (("Arrow only", to_arrow, None), ("Parquet", to_parquet, 5)):
        share = (detected + inferred * scale) / (spent * scale)
        yield Figure(f"detection and inference, of the conversion of 1 GB to {what}", 100 * share, "%", most=most)


def small_files(data: Path, count: int, whole_load: bool) -> Iterator[Figure]:
    """Many small files of one table: everything before the first byte is converted."""
    directory = data / "small"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    try:
        for number in range(count):
            rows = (
                f"{number * 100 + n},name {n},2024-01-{n % 28 + 1:02d},{n}.25\n" for n in range(_SMALL_FILE_RECORDS)
            )
            (directory / f"part-{number:06d}.csv").write_text("id,name,day,amount\n" + "".join(rows))

        def plan() -> list[Chunk]:
            files = [_inspected(inspect_file(s, DeclaredDialect(), "")) for s in discover([str(directory)], [], "t")]
            spans = [span for file in files for span in _spans(file)]
            return pack_chunks("t", spans, MAX_CHUNK_BYTES)

        (spent,) = cpu_seconds(1, plan)
        yield Figure(f"planning of {count} small files, a file", spent * 1e3 / count, "ms", most=3)
        if whole_load:
            yield from _load_small_files(directory, data / "small-output", count)
    finally:
        shutil.rmtree(directory)


def _load_small_files(directory: Path, output: Path, count: int) -> Iterator[Figure]:
    command = [sys.executable, "-m", "beam_etl", f"--input={directory}", f"--output={output}", "--table=t"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    try:
        subprocess.run(command, check=True, stdout=sys.stderr, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        yield Figure(f"whole load of {count} small files, CPU", spent, "s")
        yield Figure(f"whole load of {count} small files, wall", time.perf_counter() - begun, "s")
    except subprocess.TimeoutExpired:
        yield Figure(f"whole load of {count} small files was stopped after, wall", 120, "s")
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _inspect(path: Path, declared: DeclaredDialect) -> InspectedFile:
    return _inspected(inspect_file(_source(path), declared, ""))


def _source(path: Path) -> SourceFile:
    return discover([str(path)], [], "t")[0]


def _inspected(outcome: InspectedFile | Reject) -> InspectedFile:
    assert isinstance(outcome, InspectedFile), outcome
    return outcome


def _spans(file: InspectedFile) -> tuple[Span, ...]:
    return compose_spans(file, [summarise_range(range_) for range_ in cut_ranges(file, MAX_CHUNK_BYTES)])


def _inferred(file: InspectedFile, declaration: TableDeclaration) -> TableSchema:
    return infer_schema(_evidence(file, declaration), declaration)


def _evidence(file: InspectedFile, declaration: TableDeclaration):  # type: ignore[no-untyped-def]
    chunks = pack_chunks("t", _spans(file), MAX_CHUNK_BYTES)
    return merge_evidence(sample_evidence(c, declaration, SAMPLE_BYTES, _MAX_RECORD_BYTES) for c in chunks)
