"""Memory that cannot run out: how near the end it is, one budget a process, and the gate before heavy calls."""

from beam_etl.memory.budget import MemoryBudget
from beam_etl.memory.chunks import process_in_chunks
from beam_etl.memory.monitor import MemoryMonitor, MemoryPressureLevel, PerformanceMonitor

__all__ = ["MemoryBudget", "MemoryMonitor", "MemoryPressureLevel", "PerformanceMonitor", "process_in_chunks"]
