"""How a pa.Table is encoded where it must leave a process: as an Arrow IPC stream. Registered on import.

Tables are meant to stay inside fused stages, so encodes are counted, and the estimate of a size never encodes.
"""

import threading

import apache_beam as beam
import pyarrow as pa


class ArrowTableCoder(beam.coders.Coder):
    """pa.Table <-> bytes of an Arrow IPC stream. A slice is written without the rest of its parent's buffers.

    Schema, metadata, chunks of columns and NULLs are kept. Not deterministic: equal tables may differ in their chunks
    and in what stands under their NULLs.
    """

    def encode(self, value: pa.Table) -> bytes:
        _count_encode()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.Table:
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_all()

    def estimate_size(self, value: pa.Table) -> int:
        """Bytes of the slices that the table refers to. Beam samples sizes of elements that it never encodes."""
        return value.nbytes

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type[pa.Table]:
        return pa.Table


_encoded_tables = 0
_encoded_tables_lock = threading.Lock()


def encoded_tables() -> int:
    """Tables encoded by this process so far; zero where every stage that handles tables is fused."""
    with _encoded_tables_lock:
        return _encoded_tables


def _count_encode() -> None:
    global _encoded_tables
    with _encoded_tables_lock:
        _encoded_tables += 1


beam.coders.registry.register_coder(pa.Table, ArrowTableCoder)
