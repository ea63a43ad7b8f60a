"""What a sink's table holds, and on what terms a load is published into it: the same words for every sink."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from beam_etl.model import SourceFile
from beam_etl.schema import TableSchema
from beam_etl.storage import place_of

PublishMode = Literal["replace", "append", "upsert", "fail_if_exists"]

# Modes that add to what a table holds: each file is taken once.
ADDING: tuple[PublishMode, ...] = ("append", "upsert")


class LeaseLostError(Exception):
    """Another load has taken the table's lease meanwhile; what this one had begun must not become visible any more."""


class TableChangedError(ValueError):
    """The table is no longer what the load was planned on; nothing was changed."""


@dataclasses.dataclass(frozen=True)
class TableState:
    """What one sink's table holds.

    Attributes:
      loads: the loads that it consists of, oldest first; () where there is no table, or none that a load made.
      files: file_key -> version, of every source file in it.
      exists: something stands where the table would be.
      whole: nothing of the table is missing.
      finished: no publish is under way or was cut off.
      schema: as the last load published it; None where the sink does not keep it.
      columns: name -> type in the sink's own words; empty where the sink does not keep them apart from the schema.
    """

    loads: tuple[str, ...] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    exists: bool = False
    whole: bool = True
    finished: bool = True
    schema: TableSchema | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def last_load(self) -> str:
        return self.loads[-1] if self.loads else ""


@dataclasses.dataclass(frozen=True)
class PublishTerms:
    """How a load is published into a table.

    Attributes:
      mode: replace: the table becomes this load. append: it is added. upsert: it is added, one row a key.
        fail_if_exists: there must be no table.
      base: unless in replace, the load that the table must have last, "" where there must be no table: it is what the
        load was planned on, so whoever publishes in between is noticed.
      sources: the files that the load brings into the table.
      token: of the table's lease; 0 where nobody guards the table.
      key: in upsert, the columns that name a row.
    """

    mode: PublishMode = "replace"
    base: str = ""
    sources: tuple[SourceFile, ...] = ()
    token: int = 0
    key: tuple[str, ...] = ()

    def check_base(self, table: str, last_load: str, exists: bool) -> None:
        """Raises TableChangedError where the table is not what the load was planned on."""
        if self.mode == "replace" or (last_load == self.base and exists == bool(self.base)):
            return
        found = f"the table of load {last_load}" if last_load else "a table that no load made" if exists else "no table"
        expected = f"the table of load {self.base}" if self.base else "no table"
        raise TableChangedError(
            f"table {table!r}: mode {self.mode} was planned on {expected}, but now there is {found}; "
            "run the same command again"
        )


def file_key(file: SourceFile) -> str:
    """Names a source file whatever its version and however its path was written; short enough for any index."""
    return hashlib.sha256(repr((place_of(file.uri), file.member)).encode(errors="surrogateescape")).hexdigest()[:32]


def source_entry(file: SourceFile, load_id: str) -> dict[str, Any]:
    """A source file as manifests name it."""
    return {"uri": file.uri, "member": file.member, "version": file.version, "key": file_key(file), "load_id": load_id}
