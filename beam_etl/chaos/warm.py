"""Imports and compiles what every load needs, in the server from which the chaos suite forks loads.

A fifth of a small load's time goes into getting kernels ready, so it is done once. Nothing here may start a thread that
lives on: a fork would lose it.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import beam_etl.cli
import beam_etl.launcher
import beam_etl.pipeline  # noqa: F401
import runners.table  # noqa: F401
from beam_etl.model import InspectedFile
from beam_etl.reading.chunks import pack_chunks
from beam_etl.reading.csv_arrow import convert_chunk
from beam_etl.reading.cuts import compose_spans, cut_ranges, summarise_range
from beam_etl.reading.evidence import TableDeclaration, infer_schema, sample_evidence
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.discovery import discover
from beam_etl.sources.inspection import inspect_file

MAX_RECORD_BYTES = 1 << 20


def warm_kernels() -> None:
    """Plans and converts a small file, as a load would, without Beam."""
    with tempfile.TemporaryDirectory() as directory:
        records = (f'{i},"text, {i}\n",{i}.25,2024-01-{i % 28 + 1:02d}\n' for i in range(2000))
        (Path(directory) / "t.csv").write_text("id,text,amount,day\n" + "".join(records))
        [source] = discover([directory], (), "t")
        file = inspect_file(source, DeclaredDialect(), directory)
        if not isinstance(file, InspectedFile):
            raise RuntimeError(f"the sample is not readable: {file.reason}")
        spans = compose_spans(file, [summarise_range(range_) for range_ in cut_ranges(file, 1 << 14)])
        [chunk] = pack_chunks("t", spans, 1 << 20)
        evidence = sample_evidence(chunk, TableDeclaration(), 1 << 16, MAX_RECORD_BYTES)
        convert_chunk(chunk, infer_schema(evidence, TableDeclaration()), MAX_RECORD_BYTES, True, lambda reject: None)


warm_kernels()
gc.set_threshold(100_000)  # as cli.run does, and for the same reason
gc.freeze()
