"""What the configuration declares of tables, in the words of the kernel."""

from __future__ import annotations

from beam_etl.config import DialectConfig, EtlConfig, TableConfig
from beam_etl.declared_dialect import DeclaredDialect
from beam_etl.evidence import TableDeclaration
from beam_etl.plan import LoadPlan
from beam_etl.schema import STRING, ColumnSchema
from beam_etl.sinks import SinkSettings


def table_declaration(table: TableConfig) -> TableDeclaration:
    columns = []
    for name, column in table.columns.items():
        declared = column.column_type()
        markers = table.null_markers if column.null_markers is None else column.null_markers
        columns.append(ColumnSchema(name, declared or STRING, declared is not None, null_markers=markers))
    return TableDeclaration(tuple(columns), table.null_markers)


def declared_dialect(common: DialectConfig, table: TableConfig) -> DeclaredDialect:
    """What is declared of a table's files wins over what is declared of all."""
    merged = {**common.model_dump(exclude_none=True), **table.dialect.model_dump(exclude_none=True)}
    return DeclaredDialect(**merged, columns=tuple(table.columns))


def sink_settings(config: EtlConfig, plan: LoadPlan) -> SinkSettings:
    return SinkSettings(
        output=config.output,
        load_id=plan.load_id,
        parquet_codec=config.parquet_codec,
        parquet_codec_level=config.parquet_codec_level,
        postgres=config.postgres,
        postgres_schema=config.postgres_schema,
    )
