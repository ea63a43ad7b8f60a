"""What the configuration declares of tables, in the words of the kernel."""

from __future__ import annotations

import dataclasses

from beam_etl.config import DialectConfig, EtlConfig, TableConfig
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
    declared = TableDeclaration(
        _declared_columns(table),
        table.null_markers,
        on_conflict=table.on_conflict or "widen",
        lineage=table.lineage or (),
    )
    if base is None:
        return declared
    own = {column.name: column for column in declared.columns}
    held = [_held_column(table, column, own.get(column.name)) for column in base.columns]
    others = [column for column in declared.columns if column.name not in base.names]
    return dataclasses.replace(
        declared,
        columns=(*held, *others),
        table_columns=base.names,
        may_add_columns=table.on_new_column != "fail",
    )


def _held_column(table: TableConfig, held: ColumnSchema, own: ColumnSchema | None) -> ColumnSchema:
    if own is None:
        return dataclasses.replace(held, declared=True, unseen=False)
    if not own.declared:
        return dataclasses.replace(held, declared=True, unseen=False, null_markers=own.null_markers)
    if own.type.arrow != held.type.arrow:
        raise ValueError(
            f"tables: column {held.name!r} of {table.name!r} is declared as {own.type}, but the table holds {held.type}; "
            "declare it as the table has it, or load with mode replace"
        )
    return own


def _declared_columns(table: TableConfig) -> tuple[ColumnSchema, ...]:
    columns = []
    for name, column in table.columns.items():
        declared = column.column_type()
        markers = table.null_markers if column.null_markers is None else column.null_markers
        columns.append(ColumnSchema(name, declared or STRING, declared is not None, null_markers=markers))
    return tuple(columns)


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
        tokens=tokens,
    )
