"""Publishing one balanced table to every sink, PostgreSQL first, so that Parquet can always be rolled forward to it."""

from __future__ import annotations

import dataclasses

from beam_etl import failpoints
from beam_etl.books import TableBooks
from beam_etl.postgres_errors import PublishRefusedError
from beam_etl.postgres_store import PostgresStore
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings


@dataclasses.dataclass(frozen=True)
class PublishedTable:
    """How a table ended.

    Attributes:
      books: its books.
      schema: its final schema.
      published: whether it is now visible in every sink.
      reasons: why it is not.
      manifest: path of the Parquet manifest, "" where there is none.
    """

    books: TableBooks
    schema: TableSchema
    published: bool
    reasons: tuple[str, ...] = ()
    manifest: str = ""


def publish_table(books: TableBooks, schema: TableSchema, sinks: SinkSettings) -> PublishedTable:
    """Publishes a table whose books balance and whose policies allow it.

    At least once; exactly once in effect: both stores recognise a publish of this load that was already made, in whole or
    in part.
    """
    if not books.publishable:
        return PublishedTable(books, schema, False, books.problems + books.refusals)
    postgres = sinks.open_postgres()
    try:
        return _publish(books, schema, sinks, postgres)
    except (PublishRefusedError, ValueError, FileNotFoundError) as error:
        return PublishedTable(books, schema, False, (str(error),))
    finally:
        if postgres is not None:
            postgres.close()


def _publish(
    books: TableBooks, schema: TableSchema, sinks: SinkSettings, postgres: PostgresStore | None
) -> PublishedTable:
    parquet = sinks.open_parquet()
    parquet.check_target(books.table)  # before PostgreSQL shows a table that Parquet then refuses
    records = parquet.read_records(books.table, books.schema_hash)
    if postgres is not None:
        rows = books.sink_rows["postgres"]
        failpoints.hit("publish.before_postgres")
        postgres.publish(books.table, books.schema_hash, rows, books.records_in - rows)
    failpoints.hit("publish.between_sinks")
    manifest = parquet.publish(books.table, schema, records, dataclasses.asdict(books))
    return PublishedTable(books, schema, True, manifest=manifest)
