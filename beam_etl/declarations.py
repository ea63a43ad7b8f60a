"""What the configuration declares of tables, in the words of the kernel."""

from __future__ import annotations

import dataclasses

from beam_etl.config import DialectConfig, EtlConfig, TableConfig
from beam_etl.postgres.limits import PostgresLimits
from beam_etl.reading.evidence import TableDeclaration
from beam_etl.schema import STRING, ColumnSchema, TableSchema
from beam_etl.sinks import SinkSettings, TableTokens
from beam_etl.sources.declared_dialect import DeclaredDialect


def table_declaration(table: TableConfig, base: TableSchema | None = None) -> TableDeclaration:
    """What is declared of a table's columns.

    Args:
      base: the schema of the table to which the load is added. Its types hold as if they were declared; how they are
        written in the files may be declared anew, as long as the same is stored.

    Raises:
      ValueError: a column is declared as another type than the table has.
    """
    key = table.key if table.mode == "upsert" else ()
    needed = (*key, *table.delete_when) if key else ()
    declared = TableDeclaration(
        _declared_columns(table),
        table.null_markers,
        on_conflict=table.on_conflict or "widen",
        lineage=table.lineage or (),
        needed_columns=needed,
    )
    if base is None:
        return declared
    # A column that says what is deleted may be left out of files once the table has it.
    missing = (*key, *(name for name in needed if name not in (*key, *base.names)))
    own = {column.name: column for column in declared.columns}
    held = [_held_column(table, column, own.get(column.name)) for column in base.columns]
    others = [column for column in declared.columns if column.name not in base.names]
    return dataclasses.replace(
        declared,
        columns=(*held, *others),
        table_columns=base.names,
        may_add_columns=table.on_new_column != "fail",
        needed_columns=missing,
    )


def _held_column(table: TableConfig, held: ColumnSchema, own: ColumnSchema | None) -> ColumnSchema:
    held = dataclasses.replace(
        held,
        declared=True,
        unseen=False,
        key_place=own.key_place if own else 0,
        delete_values=own.delete_values if own else (),
    )
    if own is None:
        return held
    if not own.declared:
        return dataclasses.replace(held, null_markers=own.null_markers)
    if own.type.arrow != held.type.arrow:
        raise ValueError(
            f"tables: column {held.name!r} of {table.name!r} is declared as {own.type}, but the table holds {held.type}; "
            "declare it as the table has it, or load with mode replace"
        )
    return own


def _declared_columns(table: TableConfig) -> tuple[ColumnSchema, ...]:
    """Those of job.yaml, and those that upsert needs besides, whose types may be inferred."""
    columns = []
    for name, column in table.columns.items():
        declared = column.column_type()
        markers = table.null_markers if column.null_markers is None else column.null_markers
        columns.append(ColumnSchema(name, declared or STRING, declared is not None, null_markers=markers))
    if table.mode != "upsert":
        return tuple(columns)
    needed = [*table.key, *(name for name in table.delete_when if name not in table.key)]
    columns += [ColumnSchema(n, STRING, null_markers=table.null_markers) for n in needed if n not in table.columns]
    return tuple(
        dataclasses.replace(
            column,
            key_place=table.key.index(column.name) + 1 if column.name in table.key else 0,
            delete_values=table.delete_when.get(column.name, ()),
        )
        for column in columns
    )


def declared_dialect(common: DialectConfig, table: TableConfig) -> DeclaredDialect:
    """What is declared of a table's files wins over what is declared of all."""
    merged = {**common.model_dump(exclude_none=True), **table.dialect.model_dump(exclude_none=True)}
    return DeclaredDialect(**merged, columns=tuple(table.columns), on_ragged=table.on_ragged or "reject")


def sink_settings(config: EtlConfig, load_id: str, tokens: tuple[TableTokens, ...] = ()) -> SinkSettings:
    return SinkSettings(
        output=config.output,
        load_id=load_id,
        parquet_codec=config.parquet_codec,
        parquet_codec_level=config.parquet_codec_level,
        postgres=config.postgres,
        postgres_schema=config.postgres_schema,
        postgres_limits=postgres_limits(config),
        tokens=tokens,
    )


def postgres_limits(config: EtlConfig) -> PostgresLimits:
    return PostgresLimits(
        connections=config.postgres_connections,
        retry_seconds=config.postgres_retry_seconds,
        lock_seconds=config.postgres_lock_seconds,
        statement_seconds=config.postgres_statement_seconds,
        idle_in_transaction_seconds=config.postgres_idle_seconds,
    )
