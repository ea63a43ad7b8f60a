"""Counts the records of a load's sources again, by the same reader that loaded them."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence

from beam_etl.model import ChunkRecord, InspectedFile, Span, SpanCount
from beam_etl.reading.chunk_reader import LARGEST_SPAN_BYTES, ChangedFileError, read_span
from beam_etl.reading.ragged import read_file_records
from beam_etl.sources.archives import ArchiveError, SourceReadError
from beam_etl.sources.staging import SourceChangedError, check_version, stage_plain
from beam_etl.storage import place_of, storage_for


@dataclasses.dataclass(frozen=True)
class SourceCount:
    """What a source holds now.

    Attributes:
      name: uri, and !member of an archive.
      loaded: records that the load has found in it.
      found: records that are in it now, None where they could not be counted.
      reason: why they could not.
      damaged: it is the version that was loaded, and yet cannot be unpacked any more.
    """

    name: str
    loaded: int
    found: int | None = None
    reason: str = ""
    damaged: bool = False


def count_sources(
    inspected: Mapping[int, InspectedFile], records: Sequence[ChunkRecord], max_record_bytes: int
) -> list[SourceCount]:
    """One count a file. Memory: that of one span and its index. A packed file is unpacked to a temporary directory.

    Args:
      inspected: file_id -> how the file was written.
      records: the commit records of the files' table.
    """
    spans: dict[int, list[SpanCount]] = {file_id: [] for file_id in inspected}
    for span in (span for record in records for span in record.spans):
        spans.setdefault(span.file_id, []).append(span)
    return [_count_source(file, spans[file_id], max_record_bytes) for file_id, file in sorted(inspected.items())]


def _count_source(file: InspectedFile, spans: Sequence[SpanCount], max_record_bytes: int) -> SourceCount:
    source = file.source
    name = f"{source.uri}{'!' + source.member if source.member else ''}"
    count = SourceCount(name, sum(span.records for span in spans))
    if storage_for(source.uri).stat(source.uri) is None:
        return dataclasses.replace(count, reason="is gone")
    try:
        check_version(source)
        if place_of(file.path) == place_of(source.uri):
            return dataclasses.replace(count, found=_count_records(file, spans, max_record_bytes))
        with tempfile.TemporaryDirectory(prefix="beam_etl_verify_") as directory:
            plain = stage_plain(source, directory).path
            stat = storage_for(plain).stat(plain)
            if source.container == "none" or stat is None or stat.size_bytes != file.path_bytes:
                return dataclasses.replace(count, reason="was rewritten from another encoding")
            unpacked = dataclasses.replace(file, path=plain, path_version=stat.version)
            return dataclasses.replace(count, found=_count_records(unpacked, spans, max_record_bytes))
    except (SourceChangedError, ChangedFileError):
        return dataclasses.replace(count, reason="changed since it was loaded")
    except SourceReadError as error:
        return dataclasses.replace(count, reason=f"cannot be read: {error}")
    except ArchiveError as error:
        return dataclasses.replace(count, reason=f"cannot be unpacked any more: {error}", damaged=True)


def _count_records(file: InspectedFile, spans: Sequence[SpanCount], max_record_bytes: int) -> int:
    records = 0
    for counted in spans:
        span = Span(file, counted.start, counted.end)
        if span.bytes > LARGEST_SPAN_BYTES:  # one record without end, as it was for the load
            records += 1
        else:
            records += read_file_records(read_span(span), file, max_record_bytes).n_records
    return records
