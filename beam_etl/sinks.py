"""Where a load lands: the settings from which workers open the stores."""

from __future__ import annotations

import dataclasses

from beam_etl.parquet.staging import safe_name
from beam_etl.parquet.store import ParquetStore
from beam_etl.postgres.store import PostgresStore


@dataclasses.dataclass(frozen=True)
class TableTokens:
    """The tokens of the leases that a run holds of one table: of the lake, and of the database, 0 without one."""

    table: str
    lake: int = 0
    postgres: int = 0


@dataclasses.dataclass(frozen=True)
class SinkSettings:
    """Plain values that travel to workers; credentials only as references.

    Attributes:
      output: directory or gs:// prefix.
      load_id: the load.
      parquet_codec, parquet_codec_level: compression of the Parquet files.
      postgres: reference to the DSN (env:NAME, file:PATH, embedded:DIR or a DSN), None where PostgreSQL is no sink.
      postgres_schema: schema of the published tables.
      tokens: of the tables' leases; a table that is not among them is guarded by nobody.
    """

    output: str
    load_id: str
    parquet_codec: str = "zstd"
    parquet_codec_level: int = 1
    postgres: str | None = None
    postgres_schema: str = "public"
    tokens: tuple[TableTokens, ...] = ()

    def tokens_of(self, table: str) -> TableTokens:
        return next((tokens for tokens in self.tokens if tokens.table == table), TableTokens(table))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sinks, as commit records name them."""
        return ("parquet",) if self.postgres is None else ("parquet", "postgres")

    @property
    def sources_directory(self) -> str:
        """Where unpacked and transcoded copies of the load's files go."""
        return f"{self.output.rstrip('/')}/_beam_etl/staging/{self.load_id}/_sources"

    def rejects_directory(self, table: str) -> str:
        """Where attempts stage the rejects of a table."""
        return f"{self.output.rstrip('/')}/_beam_etl/staging/{self.load_id}/_rejects/{safe_name(table)}"

    def open_parquet(self) -> ParquetStore:
        return ParquetStore(self.output, self.load_id, self.parquet_codec, self.parquet_codec_level)

    def open_postgres(self) -> PostgresStore | None:
        """An opened store, to be closed by the caller; None where PostgreSQL is no sink."""
        if self.postgres is None:
            return None
        store = PostgresStore(self.postgres, self.load_id, self.postgres_schema)
        store.open()
        return store
