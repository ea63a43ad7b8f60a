"""What the tables of a load hold in every sink, and what follows from it for the load."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from beam_etl.config import EtlConfig
from beam_etl.declarations import table_declaration
from beam_etl.loads.plan import LoadPlan, Selection, TableBase
from beam_etl.loads.table_state import ADDING, TableState, file_key
from beam_etl.model import SourceFile
from beam_etl.postgres.names import postgres_column
from beam_etl.sinks import SinkSettings

REPLACE_REMEDY = "load all its files with mode replace"


@dataclasses.dataclass(frozen=True)
class Holdings:
    """What tables hold, by table: one state a sink, that of Parquet first."""

    tables: Mapping[str, Sequence[TableState]]

    def holds(self, plan: LoadPlan, table: str) -> bool:
        """Whether a table is, in every sink, what this load has made it: in append, whether the load is part of it."""
        appended = plan.mode_of(table) in ADDING
        return all(
            state.whole
            and state.finished
            and (plan.load_id in state.loads if appended else state.loads == (plan.load_id,))
            for state in self.tables[table]
        )

    def is_current(self, plan: LoadPlan) -> bool:
        """Whether the tables hold all that the load was to bring into them, in every sink."""
        skipped = all(
            state.whole and state.files.get(file_key(file)) == file.version
            for file in plan.skipped
            for state in self.tables[file.table]
        )
        return skipped and all(self.holds(plan, table.name) for table in plan.tables)

    def may_resume(self, plan: LoadPlan, ever_published: Callable[[str, str], Sequence[bool]]) -> bool:
        """Whether an unfinished load can go on: what it has published is still there, the rest as it was planned on.

        Args:
          ever_published: (load_id, table) -> for each sink whether the load was ever published there.
        """
        for table in (table.name for table in plan.tables):
            base = plan.bases.get(table)
            appended = plan.mode_of(table) in ADDING
            for state, published in zip(self.tables[table], ever_published(plan.load_id, table), strict=True):
                as_planned = base is None or state.last_load == base.load_id
                as_published = plan.load_id in state.loads if appended else state.loads == (plan.load_id,)
                if not (as_published if published else as_planned):
                    return False
        return True


def read_holdings(tables: Sequence[str], sinks: SinkSettings) -> Holdings:
    parquet, postgres = sinks.open_parquet(), sinks.open_postgres()
    if postgres is None:
        return Holdings({table: (parquet.state(table),) for table in tables})
    try:
        return Holdings({table: (parquet.state(table), postgres.state(table)) for table in tables})
    finally:
        postgres.close()


def ever_published(sinks: SinkSettings, load_id: str, table: str) -> list[bool]:
    """For each sink, whether the load was ever published there."""
    of_load = dataclasses.replace(sinks, load_id=load_id)
    found = [bool(of_load.open_parquet().published_manifest(table))]
    postgres = of_load.open_postgres()
    if postgres is not None:
        found.append(postgres.has_published(table))
        postgres.close()
    return found


def select_files(config: EtlConfig, files: Sequence[SourceFile], holdings: Holdings) -> Selection:
    """What a new load of these files has to do, by the mode of each table.

    Raises:
      ValueError: a table is there and must not be, its sinks differ, or files changed that it holds; with the remedy.
    """
    selected: list[SourceFile] = []
    skipped: list[SourceFile] = []
    bases: dict[str, TableBase] = {}
    for table in sorted({file.table for file in files}):
        own = [file for file in files if file.table == table]
        states = holdings.tables[table]
        mode = config.table_config(table).mode
        if mode == "fail_if_exists":
            _refuse_existing(table, states)
        if mode in ADDING:
            _check_appendable(table, states)
            held = states[0].files
            known = [file for file in own if file_key(file) in held]
            _refuse_changed(table, [file for file in known if held[file_key(file)] != file.version])
            skipped += known
            own = [file for file in own if file_key(file) not in held]
        if own and mode != "replace":
            bases[table] = TableBase(states[0].last_load, states[0].schema)
            table_declaration(config.table_config(table), states[0].schema)  # refuses other types than the table has
        selected += own
    selected.sort(key=lambda file: file.file_id)
    numbered = tuple(dataclasses.replace(file, file_id=place) for place, file in enumerate(selected))
    return Selection(numbered, tuple(skipped), bases)


def _refuse_existing(table: str, states: Sequence[TableState]) -> None:
    places = [place for place, state in zip(("Parquet", "PostgreSQL"), states, strict=False) if state.exists]
    if places:
        raise ValueError(
            f"table {table!r} exists in {' and '.join(places)}, and mode fail_if_exists was asked for; drop it, choose "
            "another table name, or load with mode replace or append"
        )


def _check_appendable(table: str, states: Sequence[TableState]) -> None:
    """Both sinks must hold the same whole table, or none."""
    parquet = states[0]
    for place, state in zip(("Parquet", "PostgreSQL"), states, strict=False):
        if state.exists and not state.loads:
            raise ValueError(
                f"table {table!r}: what stands in {place} was not made by beam_etl, so nothing can be added to it; move it "
                "away, or choose another table name"
            )
        if not state.whole:
            raise ValueError(
                f"table {table!r}: files of it are missing or damaged in {place}; restore them, or {REPLACE_REMEDY}"
            )
        if (state.loads, state.files) != (parquet.loads, parquet.files):
            raise ValueError(
                f"table {table!r}: Parquet and PostgreSQL hold different loads, so nothing can be added to it; "
                f"{REPLACE_REMEDY}"
            )
        for column in parquet.schema.columns if parquet.schema and state.columns else ():
            name = postgres_column(column.name)
            if state.columns.get(name) != column.type.postgres:
                raise ValueError(
                    f"table {table!r}: column {name!r} was loaded as {column.type.postgres}, but in PostgreSQL it is now "
                    f"{state.columns.get(name, 'gone')}; change it back, or {REPLACE_REMEDY}"
                )


def _refuse_changed(table: str, changed: Sequence[SourceFile]) -> None:
    if changed:
        first = changed[0]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise ValueError(
            f"table {table!r}: {first.uri}{'!' + first.member if first.member else ''}{more} changed since the table took it "
            f"in; give what is new a name of its own, or {REPLACE_REMEDY}"
        )
