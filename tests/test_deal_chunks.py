"""Threads that are given their work beforehand get equal bytes, however unequal the files."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_etl import load
from beam_etl.model import Chunk, Dialect, InspectedFile, SourceFile, Span
from beam_etl.reading import csv_arrow
from runners.direct import options, switch_off_timed_flush
from transforms import convert_chunks
from transforms.deal_chunks import DealChunks

THREADS = 2
FILE_KB = (9_000, 17, 950, 3, 2_700, 260, 3_800, 90, 41, 1_610)


@pytest.mark.parametrize("one_table", [True, False])
def test_both_threads_convert_the_same_bytes_of_files_of_very_mixed_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_table: bool
) -> None:
    for number, size_kb in enumerate(FILE_KB):
        records = (f"{n},{'x' * 88}\n" for n in range(size_kb * 1000 // 96))
        (tmp_path / f"t{chr(97 + number)}.csv").write_text("id,text\n" + "".join(records))
    converted: Counter[int] = Counter()

    def counting(chunk: Chunk, *arguments: Any) -> csv_arrow.Conversion:
        converted[threading.get_ident()] += chunk.bytes
        return csv_arrow.convert_chunk(chunk, *arguments)

    monkeypatch.setattr(convert_chunks, "convert_chunk", counting)
    report = load(
        input=[str(tmp_path / "*.csv")],
        output=str(tmp_path / "lake"),
        table="all" if one_table else None,
        chunk_mb=1,
        beam_args=[f"--direct_num_workers={THREADS}"],
    )
    assert report["published"]
    assert sum(converted.values()) == sum(path.stat().st_size - 8 for path in tmp_path.glob("*.csv"))
    assert len(converted) == THREADS
    assert min(converted.values()) >= 0.9 * max(converted.values())


@pytest.mark.parametrize("lanes", [0, 1, 3])
def test_every_chunk_comes_out_once(lanes: int) -> None:
    chunks = [chunk(number, size) for number, size in enumerate((5, 1, 1, 9, 2, 2))]
    switch_off_timed_flush()
    with beam.Pipeline(argv=options([], THREADS)) as pipeline:
        dealt = pipeline | beam.Create(chunks) | DealChunks(lanes)
        assert_that(dealt, equal_to(chunks))


def test_no_chunks_are_dealt_as_none() -> None:
    with beam.Pipeline(argv=options([], THREADS)) as pipeline:
        none = pipeline | beam.Create([chunk(0, 1)]) | beam.Filter(lambda _: False)
        assert_that(none | DealChunks(2), equal_to([]))


def chunk(number: int, size_bytes: int) -> Chunk:
    source = SourceFile(number, f"{number}.csv", "", "t", size_bytes, "v")
    file = InspectedFile(source, source.uri, size_bytes, "v", Dialect(), 0, ("a",))
    return Chunk("t", f"{number:06d}-{0:014d}", (Span(file, 0, size_bytes),))
