"""What belongs to one run of a load."""

from __future__ import annotations

import dataclasses

from beam_etl.sinks import TableTokens


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What belongs to one run of a load and never changes what lands.

    Attributes:
      started: seconds since the epoch.
      static_lanes: threads among which the runner deals work out before it starts them, 0 where it deals as it goes.
      published_tables: tables that an earlier run of this load has published.
      tokens: of the leases that this run holds.
    """

    started: float
    static_lanes: int = 0
    published_tables: frozenset[str] = frozenset()
    tokens: tuple[TableTokens, ...] = ()
