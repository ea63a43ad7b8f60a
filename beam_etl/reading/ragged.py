"""Records with too few or too many fields, made as wide as their table where the policy `pad` allows it.

Missing trailing fields are NULL; trailing fields too many are left out if nothing at all stands in them. Whether a record
is padded depends on its own bytes alone, so any split of a file pads the same ones.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from beam_etl.model import Dialect, InspectedFile
from beam_etl.reading.automaton import RAGGED, IndexedRecords, index_records
from beam_etl.reading.field_index import FLAG_BITS, MAX_INDEXED_BYTES, FieldIndex
from beam_etl.reading.resync import read_records

Bytes = npt.NDArray[np.uint8]

# A field that is padded costs as much memory as one that is there, so a record may grow by so many fields for each of its
# bytes, and by so many at least: a file of nothing but stumps cannot exhaust the memory that its size has reserved.
PADDED_FIELDS_PER_BYTE = 2
LEAST_PADDED_FIELDS = 16


@dataclasses.dataclass(frozen=True)
class PaddedRecords(IndexedRecords):
    """Records of which some were padded: those lie in the index's data behind the bytes that were read.

    Attributes:
      starts, ends: int64, (index.n_records,): where each good record lies in the bytes that were read.
      padded: bool, (index.n_records,): which of them were padded.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    padded: npt.NDArray[np.bool_]

    def record_extents(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return self.starts, self.ends


def read_file_records(data: Bytes, file: InspectedFile, max_record_bytes: int) -> IndexedRecords:
    """The records of some bytes of a file, read as its policy for ragged ones says.

    Args:
      data: uint8, (n_bytes,), contiguous, whose first byte starts a record.
    """
    n_fields = len(file.columns)
    records = read_records(data, file.dialect, n_fields, max_record_bytes)
    return _pad_ragged(records, data, file.dialect, n_fields) if file.on_ragged == "pad" else records


def padded_of(records: IndexedRecords) -> npt.NDArray[np.bool_]:
    """Which of the good records were padded: bool, (index.n_records,)."""
    return records.padded if isinstance(records, PaddedRecords) else np.zeros(records.index.n_records, np.bool_)


def _pad_ragged(records: IndexedRecords, data: Bytes, dialect: Dialect, n_fields: int) -> IndexedRecords:
    ragged = np.flatnonzero(records.broken_codes == RAGGED)
    texts: list[bytes] = []
    tried: list[int] = []
    for position in ragged.tolist():
        start, end = int(records.broken_starts[position]), int(records.broken_ends[position])
        text = _as_wide(data[start:end].tobytes(), int(records.broken_fields[position]), n_fields, dialect)
        if text is not None:
            tried.append(position)
            texts.append(text)
    line_end = b"\r" if dialect.line_end == "cr" else b"\n"
    padding = np.frombuffer(b"".join(text + line_end for text in texts), dtype=np.uint8)
    if not texts or data.size + padding.size >= MAX_INDEXED_BYTES:
        return records
    # Read again, so that nothing is taken on trust: a cut behind a backslash, say, is no whole record.
    again = index_records(padding, dialect, n_fields, MAX_INDEXED_BYTES)
    starts = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])])
    whole = np.isin(starts, again.index.record_starts)
    return _spliced(records, data, padding, np.array(tried)[whole], again.index) if whole.any() else records


def _as_wide(text: bytes, n_found: int, n_fields: int, dialect: Dialect) -> bytes | None:
    """The text of a record with n_fields fields, None where that would lose something or cost too much."""
    missing, delimiter = n_fields - n_found, dialect.separator
    before = text
    while before.endswith(delimiter):
        before = before.removesuffix(delimiter)
    if any(before.endswith(delimiter[:length]) for length in range(1, len(delimiter))):
        return None  # part of a delimiter, with which another one would begin too early
    if missing > 0:
        allowed = PADDED_FIELDS_PER_BYTE * len(text) + LEAST_PADDED_FIELDS
        return text + missing * delimiter if missing <= allowed else None
    kept = text.removesuffix(-missing * delimiter)
    # An escaped delimiter is no empty field, and a bare backslash would take the line end with it.
    escaped = dialect.escape == "backslash" and (len(kept) - len(kept.rstrip(b"\\"))) % 2
    return None if kept == text or escaped else kept


def _spliced(
    records: IndexedRecords, data: Bytes, padding: Bytes, positions: npt.NDArray[np.int64], padded: FieldIndex
) -> PaddedRecords:
    """The records with those at `positions` among the broken ones in their places, as `padded` has them, in its order."""
    base = np.uint32(data.size)
    index = records.index
    ordinals = np.concatenate([records.ordinals(), records.broken_ordinals[positions]])
    order = np.argsort(ordinals, kind="stable")
    record_starts = np.concatenate([index.record_starts, padded.record_starts + base])[order]
    field_ends = np.concatenate([index.field_ends, padded.field_ends + (base << np.uint32(FLAG_BITS))])[order]
    starts, ends = records.record_extents()
    kept = np.ones(len(records.broken_codes), np.bool_)
    kept[positions] = False
    return PaddedRecords(
        index=FieldIndex(
            np.concatenate([data, padding]), record_starts, np.ascontiguousarray(field_ends), index.delimiter_bytes
        ),
        broken_starts=records.broken_starts[kept],
        broken_ends=records.broken_ends[kept],
        broken_codes=records.broken_codes[kept],
        broken_fields=records.broken_fields[kept],
        broken_ordinals=records.broken_ordinals[kept],
        n_records=records.n_records,
        skipped_lines=records.skipped_lines,
        starts=np.concatenate([starts, records.broken_starts[positions]])[order],
        ends=np.concatenate([ends, records.broken_ends[positions]])[order],
        padded=(np.arange(len(ordinals)) >= index.n_records)[order],
    )
