"""The whole graph on one screen."""

import apache_beam as beam

from beam_etl.config import EtlConfig
from beam_etl.declarations import declared_dialect, sink_settings, table_declaration
from beam_etl.loads.plan import LoadPlan
from beam_etl.run_settings import RunSettings
from transforms.balance_books import BalanceBooks
from transforms.collect_evidence import CollectEvidence
from transforms.discover_files import DiscoverFiles
from transforms.find_boundaries import FindBoundaries
from transforms.infer_schemas import InferSchemas
from transforms.inspect_files import InspectFiles
from transforms.land_chunks import LandChunks
from transforms.plan_chunks import PlanChunks
from transforms.prepare_staging import PrepareStaging
from transforms.publish_tables import PublishTables
from transforms.write_rejects import WriteRejects
from transforms.write_report import WriteReport


def build(pipeline: beam.Pipeline, config: EtlConfig, plan: LoadPlan, run: RunSettings) -> None:
    """Assembles the load that `plan` describes."""
    sinks = sink_settings(config, plan.load_id, run.tokens)
    bases = {name: base.schema for name, base in plan.bases.items()}
    declarations = {table.name: table_declaration(table, bases.get(table.name)) for table in plan.tables}
    dialects = {table.name: declared_dialect(config.dialect, table) for table in plan.tables}
    tables = [table.name for table in plan.tables if table.name not in run.published_tables]
    limits = {"max_record_bytes": plan.max_record_bytes}
    landing = {**limits, "sinks": sinks, "budget_mb": config.memory_budget_mb, "static_lanes": run.static_lanes}

    sources = pipeline | "DiscoverFiles" >> DiscoverFiles(config.output, plan.load_id, run.published_tables)
    files = sources | "InspectFiles" >> InspectFiles(dialects, sinks.sources_directory)
    spans = files.inspected | "FindBoundaries" >> FindBoundaries(plan.chunk_bytes)
    outcomes = (spans, files.rejected) | "JoinOutcomes" >> beam.Flatten()
    planned = outcomes | "PlanChunks" >> PlanChunks(config.output, plan.load_id, plan.chunk_bytes)

    inferred = (planned.chunks, planned.columns) | "InferSchemas" >> InferSchemas(declarations, **limits)
    schemas = inferred | "PrepareStaging" >> PrepareStaging(sinks)
    first = planned.chunks | "FirstAttempt" >> LandChunks(schemas, **landing)

    collect = CollectEvidence(first.conflicts, schemas, declarations, **limits)
    widened = planned.chunks | "CollectEvidence" >> collect | "PrepareWidenedStaging" >> PrepareStaging(sinks)
    second = planned.chunks | "SecondAttempt" >> LandChunks(widened, **landing)

    records = (first.records, second.records) | "JoinRecords" >> beam.Flatten()
    committed = records | "CountCommits" >> beam.combiners.Count.Globally()
    balance = BalanceBooks(
        committed, schemas, widened, sinks, declarations, config.on_bad_file, config.max_reject_ratio
    )
    books = pipeline | "NameTables" >> beam.Create(tables) | "BalanceBooks" >> balance
    published = books | "WriteRejects" >> WriteRejects(sinks) | "PublishTables" >> PublishTables(sinks)
    _ = published | "WriteReport" >> WriteReport(sinks, run.published_tables, run.started)
