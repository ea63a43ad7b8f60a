"""Publishing one balanced table to every sink, PostgreSQL first, so that Parquet can always be rolled forward to it.

What is published is written down before: books, schema and terms, in one JSON file of the load. So whoever comes after a
crash can complete the publish, or report it, without the graph and, once Parquet has it, without any staging.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import Any

from beam_etl import failpoints
from beam_etl.loads.books import TableBooks
from beam_etl.loads.chunk_facts import write_chunk_facts
from beam_etl.loads.plan import load_directory, read_plan
from beam_etl.loads.table_plan import read_table_plan
from beam_etl.loads.table_state import LeaseLostError, PublishTerms
from beam_etl.parquet.staging import safe_name, to_json
from beam_etl.postgres.errors import PublishRefusedError
from beam_etl.postgres.store import PostgresStore
from beam_etl.schema import TableSchema
from beam_etl.sinks import SinkSettings
from beam_etl.storage import storage_for

logger = logging.getLogger(__name__)

_REFUSALS = (PublishRefusedError, LeaseLostError, ValueError, FileNotFoundError)


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
        sinks.open_parquet().check_target(books.table)  # before PostgreSQL shows a table that Parquet then refuses
        _write_chunk_facts(books, sinks)
        _write_intent(books, schema, sinks)
        if postgres is not None:
            rows = books.sink_rows["postgres"]
            terms = publish_terms(sinks, books.table, sinks.tokens_of(books.table).postgres)
            failpoints.hit("publish.before_postgres")
            postgres.publish(books.table, books.schema_hash, rows, books.records_in - rows, terms=terms)
        failpoints.hit("publish.between_sinks")
        manifest = _publish_parquet(books, schema, sinks, postgres)
        return PublishedTable(books, schema, True, manifest=manifest)
    except _REFUSALS as error:
        return PublishedTable(books, schema, False, (str(error),))
    finally:
        if postgres is not None:
            postgres.close()


def roll_forward(table: str, sinks: SinkSettings) -> None:
    """Brings Parquet to where PostgreSQL is, load by load, in PostgreSQL's order.

    A load that another lake has brought into the table, or whose staging is gone, ends it there: the sinks then differ,
    which only a load that replaces the table can mend.

    Args:
      sinks: those of the run that holds the table's lease; of any load.
    """
    postgres = sinks.open_postgres()
    if postgres is None:
        return
    try:
        followed = sinks.open_parquet().state(table).loads
        for load in postgres.loads_of(table):
            of_load = dataclasses.replace(sinks, load_id=load.load_id)
            published = read_published(table, of_load) if load.load_id not in followed else None
            if published is not None and not published.manifest:
                logger.info("table %s: load %s is in PostgreSQL, and follows in Parquet", table, load.load_id)
                own = of_load.open_postgres()
                try:
                    _publish_parquet(published.books, published.schema, of_load, own)
                finally:
                    if own is not None:
                        own.close()
    except _REFUSALS as error:
        logger.warning("table %s cannot follow PostgreSQL in Parquet: %s", table, error)
    finally:
        postgres.close()


def read_published(table: str, sinks: SinkSettings) -> PublishedTable | None:
    """What the load has published, or was about to publish, of a table; None before it came to that.

    Its manifest is "" where Parquet has not got it.
    """
    path = _intent_path(table, sinks)
    storage = storage_for(path)
    if storage.stat(path) is None:
        return None
    values: dict[str, Any] = json.loads(storage.read_bytes(path))
    books = {**values["books"], "problems": tuple(values["books"]["problems"]), "refusals": ()}
    manifest = sinks.open_parquet().published_manifest(table)
    return PublishedTable(TableBooks(**books), TableSchema.from_json(values["schema"]), bool(manifest), (), manifest)


def publish_terms(sinks: SinkSettings, table: str, token: int) -> PublishTerms:
    """The terms of a load's publish: from its plan, and from what planning found."""
    plan = read_plan(sinks.output, sinks.load_id)
    table_plan = read_table_plan(sinks.output, sinks.load_id, table)
    rejected = table_plan.rejected if table_plan else {}
    base = plan.bases.get(table)
    return PublishTerms(
        mode=plan.mode_of(table),
        base=base.load_id if base else "",
        # A file that could not be read is not in the table: once it is mended, the next load takes it.
        sources=tuple(file for file in plan.files_of(table) if file.file_id not in rejected),
        token=token,
    )


def _publish_parquet(
    books: TableBooks, schema: TableSchema, sinks: SinkSettings, postgres: PostgresStore | None
) -> str:
    parquet = sinks.open_parquet()
    manifest = parquet.published_manifest(books.table)
    records = [] if manifest else parquet.read_records(books.table, books.schema_hash)
    rows = sum(record.rows for record in records)
    if not manifest and rows != books.rows:
        raise FileNotFoundError(f"table {books.table!r}: {rows} of {books.rows} rows are still staged for Parquet")
    terms = publish_terms(sinks, books.table, sinks.tokens_of(books.table).lake)
    later = postgres.loads_after(books.table) if postgres is not None else ()
    return parquet.publish(books.table, schema, records, dataclasses.asdict(books), terms, later)


def _write_intent(books: TableBooks, schema: TableSchema, sinks: SinkSettings) -> None:
    path = _intent_path(books.table, sinks)
    storage_for(path).write_atomic(path, to_json({"books": dataclasses.asdict(books), "schema": schema.to_json()}))


def _write_chunk_facts(books: TableBooks, sinks: SinkSettings) -> None:
    """Before anything is published, and only while all its commit records are there: what is published has its facts."""
    records = sinks.open_parquet().read_records(books.table, books.schema_hash)
    if sum(record.rows for record in records) == books.rows:
        write_chunk_facts(sinks.output, sinks.load_id, books.table, records)


def _intent_path(table: str, sinks: SinkSettings) -> str:
    return f"{load_directory(sinks.output, sinks.load_id)}/publications/{safe_name(table)}.json"
