"""PrepareStaging: (table, TableSchema) -> the same, once its PostgreSQL staging table exists.

At least once; exactly once in effect, because the staging table's name follows from load, table and schema, and making
it again is no change. Consumers that read the schema as a side input thus know that staging is made.
"""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam

from beam_etl.postgres.store import PostgresStore
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings


@dataclasses.dataclass
class PrepareStaging(beam.PTransform):
    """Makes the staging tables of schemas.  (table, TableSchema) -> (table, TableSchema)"""

    sinks: SinkSettings

    def expand(self, schemas: beam.PCollection[tuple[str, TableSchema]]) -> beam.PCollection[tuple[str, TableSchema]]:
        return (
            schemas | "SpreadSchemas" >> beam.Reshuffle() | "CreateStaging" >> beam.ParDo(_CreateStagingFn(self.sinks))
        )


class _CreateStagingFn(beam.DoFn):
    def __init__(self, sinks: SinkSettings) -> None:
        self._sinks = sinks
        self._postgres: PostgresStore | None = None

    def setup(self) -> None:
        self._postgres = self._sinks.open_postgres()

    def process(self, element: tuple[str, TableSchema]) -> Iterator[tuple[str, TableSchema]]:
        if self._postgres is not None:
            self._postgres.create_staging(*element)
        yield element

    def teardown(self) -> None:
        if self._postgres is not None:
            self._postgres.close()
