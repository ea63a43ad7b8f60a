"""Reading behind a stray quote: what it swallowed is read again, where the bytes leave no doubt.

An opening quote that is never closed swallows the records behind it, up to where the quoting is in step again: for the
automaton all that is one malformed record. Or it really is one record, with line breaks and a bad quote in it. The two are
told apart by reading everything behind the first line again: where each record there is whole, has the right number of
fields, and no quote stands inside an unquoted field, then only the first line is at fault. In a record that really
spans lines, the quote that closes its field would stand inside an unquoted one, or open a field that never ends. In doubt
the record stays one reject, with all its bytes. Extents outside the malformed record never change, so any split of a file
still gives the same records.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from beam_etl.model import Dialect
from beam_etl.reading.automaton import MALFORMED, TOO_LONG, IndexedRecords, index_records
from beam_etl.reading.field_index import FLAG_BITS, QUOTED, FieldIndex

Bytes = npt.NDArray[np.uint8]

# Each stray quote inside what another one swallowed costs one more reading of the rest; more of them in one record
# are no longer strays, and the bound keeps the work linear.
MAX_REREADS = 8

# A quote that nothing closes may also be a text of several lines that the file's end cut off. So few lines of it are
# never taken for records, however well they fit.
MIN_RECORDS_BEHIND_UNCLOSED = 8


def read_records(data: Bytes, dialect: Dialect, n_fields: int, max_record_bytes: int) -> IndexedRecords:
    """index_records, and behind each stray quote the records that it swallowed.

    Args:
      data: uint8, (n_bytes,), contiguous, whose first byte starts a record.

    Raises:
      ValueError: as index_records.
    """
    return _read(data, dialect, n_fields, max_record_bytes, MAX_REREADS)


def _read(data: Bytes, dialect: Dialect, n_fields: int, max_record_bytes: int, rereads: int) -> IndexedRecords:
    records = index_records(data, dialect, n_fields, max_record_bytes)
    suspects = np.flatnonzero((records.broken_codes == MALFORMED) | (records.broken_codes == TOO_LONG))
    # Of one column any line has the right number of fields, so there the bytes always leave a doubt.
    if not dialect.quote or n_fields < 2 or not rereads or not len(suspects):
        return records
    swallowed = {}
    for broken in suspects.tolist():
        start, end = int(records.broken_starts[broken]), int(records.broken_ends[broken])
        line_end = _first_line_end(data[start:end], dialect)
        if line_end is None:
            continue
        rest = _read(data[start + line_end + 1 : end], dialect, n_fields, max_record_bytes, rereads - 1)
        unclosed = end == data.size
        if _beyond_doubt(rest, dialect) and rest.n_records >= (MIN_RECORDS_BEHIND_UNCLOSED if unclosed else 1):
            swallowed[broken] = (start + line_end, rest)
    return _spliced(data, records, swallowed) if swallowed else records


def _first_line_end(record: Bytes, dialect: Dialect) -> int | None:
    """Offset of the byte that ends the record's first line; None where it has one line only."""
    ends = {"lf": (b"\n",), "cr": (b"\r",), "any": (b"\n", b"\r")}[dialect.line_end]
    text = record.tobytes()
    found = [position for position in map(text.find, ends) if position >= 0]
    return min(found, default=None)


def _beyond_doubt(rest: IndexedRecords, dialect: Dialect) -> bool:
    """Whether every record behind the first line is whole; of those that are not, one stray quote each is allowed."""
    index = rest.index
    if not index.n_records or len(rest.broken_starts) * 10 > index.n_records:
        return False
    quotes = np.flatnonzero(index.data == ord(dialect.quote))
    broken = np.searchsorted(rest.broken_starts, quotes, side="right") - 1
    in_broken = (broken >= 0) & (quotes < np.append(rest.broken_ends, 0)[broken])
    quotes = quotes[~in_broken]
    packed = index.field_ends.ravel()
    field = np.searchsorted(packed >> FLAG_BITS, quotes, side="right")
    return bool((packed[np.minimum(field, packed.size - 1)] & QUOTED).all())


def _spliced(data: Bytes, records: IndexedRecords, swallowed: dict[int, tuple[int, IndexedRecords]]) -> IndexedRecords:
    """The records with what was swallowed put in its place.

    Args:
      swallowed: position among the broken -> (where its first line ends, the records behind it).
    """
    index = records.index
    starts, ends = [index.record_starts], [index.field_ends]
    broken = np.column_stack([records.broken_starts, records.broken_ends, records.broken_codes, records.broken_fields])
    broken_parts: list[npt.NDArray[np.int64]] = [broken]
    skipped = records.skipped_lines
    for position, (line_end, rest) in swallowed.items():
        base = line_end + 1
        broken[position, 1] = line_end - int(data[line_end - 1] == ord("\r"))
        broken[position, 2] = MALFORMED
        starts.append((rest.index.record_starts + np.uint32(base)).astype(np.uint32))
        ends.append((rest.index.field_ends + np.uint32(base << FLAG_BITS)).astype(np.uint32))
        places = (rest.broken_starts + base, rest.broken_ends + base)
        broken_parts.append(np.column_stack([*places, rest.broken_codes, rest.broken_fields]))
        skipped += rest.skipped_lines
    all_starts, all_ends = np.concatenate(starts), np.concatenate(ends)
    order = np.argsort(all_starts, kind="stable")
    all_broken = np.concatenate(broken_parts)
    all_broken = all_broken[np.argsort(all_broken[:, 0], kind="stable")]
    good_starts = all_starts[order]
    # A broken record comes after the good ones that start before it, and the broken ones before it.
    ordinals = np.searchsorted(good_starts, all_broken[:, 0]) + np.arange(len(all_broken))
    return IndexedRecords(
        FieldIndex(index.data, good_starts, np.ascontiguousarray(all_ends[order]), index.delimiter_bytes),
        all_broken[:, 0].copy(),
        all_broken[:, 1].copy(),
        all_broken[:, 2].astype(np.uint8),
        all_broken[:, 3].copy(),
        ordinals.astype(np.int64),
        len(good_starts) + len(all_broken),
        skipped,
    )
