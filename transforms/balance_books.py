"""BalanceBooks: table -> (TableBooks, TableSchema), from the plan and the durable commit records alone. Pure reading."""

import dataclasses
from collections.abc import Iterator, Mapping

import apache_beam as beam

from beam_etl.loads.books import SinkBooks, TableBooks, apply_policies, balance_table, refuse_columns
from beam_etl.loads.plan import read_plan
from beam_etl.loads.table_plan import read_table_plan
from beam_etl.parquet.store import ParquetStore
from beam_etl.postgres.store import PostgresStore
from beam_etl.reading.evidence import TableDeclaration
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings


@dataclasses.dataclass
class BalanceBooks(beam.PTransform):
    """Checks each table once all attempts are over.  table -> (TableBooks, TableSchema)

    Attributes:
      committed: one element, the number of commits reported; it only tells that all attempts are over.
      schemas: (table, TableSchema) of the first attempt.
      widened: (table, TableSchema) of the second attempt, for tables that had one.
      sinks: where the load landed.
      declarations: table -> what is declared of its columns.
      on_bad_file, max_reject_ratio: policies of publishing.
    """

    committed: beam.PCollection[int]
    schemas: beam.PCollection[tuple[str, TableSchema]]
    widened: beam.PCollection[tuple[str, TableSchema]]
    sinks: SinkSettings
    declarations: Mapping[str, TableDeclaration]
    on_bad_file: str
    max_reject_ratio: float

    def expand(self, tables: beam.PCollection[str]) -> beam.PCollection[tuple[TableBooks, TableSchema]]:
        return tables | "BalanceTable" >> beam.ParDo(
            _BalanceTableFn(self.sinks, dict(self.declarations), self.on_bad_file, self.max_reject_ratio),
            beam.pvalue.AsSingleton(self.committed),
            beam.pvalue.AsDict(self.schemas),
            beam.pvalue.AsDict(self.widened),
        )


class _BalanceTableFn(beam.DoFn):
    def __init__(
        self,
        sinks: SinkSettings,
        declarations: dict[str, TableDeclaration],
        on_bad_file: str,
        max_reject_ratio: float,
    ) -> None:
        self._sinks = sinks
        self._declarations = declarations
        self._on_bad_file = on_bad_file
        self._max_reject_ratio = max_reject_ratio
        self._parquet: ParquetStore | None = None
        self._postgres: PostgresStore | None = None

    def setup(self) -> None:
        self._parquet = self._sinks.open_parquet()
        self._postgres = self._sinks.open_postgres()

    def process(
        self,
        table: str,
        committed: int,
        schemas: Mapping[str, TableSchema],
        widened: Mapping[str, TableSchema],
    ) -> Iterator[tuple[TableBooks, TableSchema]]:
        schema = widened.get(table) or schemas.get(table) or TableSchema(())
        plan = read_plan(self._sinks.output, self._sinks.load_id)
        table_plan = read_table_plan(self._sinks.output, self._sinks.load_id, table)
        refused = refuse_columns(
            table, schema.hash, plan.files_of(table), table_plan, self._declarations.get(table, TableDeclaration())
        )
        if refused is not None:
            yield refused, schema
            return
        sinks = self._sink_books(table, schema.hash)
        books = balance_table(table, schema.hash, plan.files_of(table), table_plan, sinks)
        n_columns = sum(not column.source for column in schema.columns)
        fail_on_misfits = any(column.on_conflict == "fail" for column in schema.columns)
        yield apply_policies(books, n_columns, self._on_bad_file, self._max_reject_ratio, fail_on_misfits), schema

    def _sink_books(self, table: str, schema_hash: str) -> list[SinkBooks]:
        records = self._parquet.read_records(table, schema_hash)
        books = [SinkBooks("parquet", tuple(records), sum(self._parquet.count_rows(records).values()))]
        if self._postgres is not None:
            ledger = self._postgres.read_records(table, schema_hash)
            books.append(SinkBooks("postgres", tuple(ledger), self._postgres.count_rows(table, schema_hash)))
        return books

    def teardown(self) -> None:
        if self._postgres is not None:
            self._postgres.close()
