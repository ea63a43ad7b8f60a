"""The field index: where each field of each well-formed record of some bytes ends."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

# A field end is packed as (offset << FLAG_BITS) | flags in 32 bits, so indexed bytes are at most 1 GiB.
FLAG_BITS = 2
QUOTED = 1  # the field is wrapped in quotes: its value lies between start + 1 and end - 1
ESCAPED = 2  # the value holds an escape (doubled quote or backslash) that must be undone
MAX_INDEXED_BYTES = 1 << (32 - FLAG_BITS)


@dataclasses.dataclass(frozen=True)
class FieldIndex:
    """Records with exactly n_fields fields.

    Field f of record r has the raw bytes data[start:end], where end = field_ends[r, f] >> FLAG_BITS, and start is
    record_starts[r] for f = 0, else the end of field f - 1 plus delimiter_bytes. A raw field includes its quotes and
    excludes delimiter and line end (for CRLF also the CR).

    Attributes:
      data: uint8, (n_bytes,): the indexed bytes.
      record_starts: uint32, (n_records,): offset of each record's first byte.
      field_ends: uint32, (n_records, n_fields), C-contiguous: packed ends.
      delimiter_bytes: length of the delimiter.
    """

    data: npt.NDArray[np.uint8]
    record_starts: npt.NDArray[np.uint32]
    field_ends: npt.NDArray[np.uint32]
    delimiter_bytes: int = 1

    @property
    def n_records(self) -> int:
        return int(self.field_ends.shape[0])

    @property
    def n_fields(self) -> int:
        return int(self.field_ends.shape[1])
