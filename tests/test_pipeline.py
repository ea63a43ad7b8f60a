"""The graph's labels are stable, its steps are checked by Beam, and nothing secret is in it."""

import apache_beam as beam
import pytest
from apache_beam.pipeline import PipelineVisitor
from apache_beam.typehints.decorators import TypeCheckError

from beam_etl.config import EtlConfig, TableConfig
from beam_etl.loads.plan import LoadPlan
from beam_etl.model import SourceFile
from beam_etl.pipeline import RunSettings, build
from beam_etl.sinks import SinkSettings
from transforms.balance_books import BalanceBooks
from transforms.deal_chunks import DealChunks
from transforms.find_boundaries import FindBoundaries
from transforms.inspect_files import InspectFiles
from transforms.plan_chunks import PlanChunks
from transforms.publish_tables import PublishTables
from transforms.write_parquet import WriteParquet
from transforms.write_rejects import WriteRejects

# Runners show these names and keep metrics by them, so renaming one is a change that users see.
LABELS = """
    BalanceBooks BalanceBooks/BalanceTable
    CollectEvidence CollectEvidence/JoinColumns CollectEvidence/MergeEvidence CollectEvidence/ReadConflictingColumns
    CollectEvidence/SpreadChunks CollectEvidence/WidenSchema
    CountCommits
    DiscoverFiles DiscoverFiles/NameLoad DiscoverFiles/ReadPlan DiscoverFiles/SpreadFiles
    FindBoundaries FindBoundaries/ComposeSpans FindBoundaries/CutFile FindBoundaries/GroupByFile
    FindBoundaries/JoinFiles FindBoundaries/SpreadRanges FindBoundaries/SummariseRange
    FirstAttempt FirstAttempt/ConvertChunks FirstAttempt/CopyToPostgres FirstAttempt/DealChunks FirstAttempt/JoinSinks
    FirstAttempt/KeepTables FirstAttempt/WriteParquet
    InferSchemas InferSchemas/ChooseTypes InferSchemas/JoinEvidence InferSchemas/MergeEvidence InferSchemas/SampleChunk
    InferSchemas/SpreadSamples
    InspectFiles InspectFiles/GroupFilesByTable InspectFiles/InspectFile InspectFiles/KeyFileByTable
    InspectFiles/UniteHeaders
    JoinOutcomes JoinRecords NameTables
    PlanChunks PlanChunks/GroupByTable PlanChunks/KeyByTable PlanChunks/PlanTable
    PrepareStaging PrepareStaging/CreateStaging PrepareStaging/SpreadSchemas
    PrepareWidenedStaging PrepareWidenedStaging/CreateStaging PrepareWidenedStaging/SpreadSchemas
    PublishTables PublishTables/PublishTable PublishTables/SpreadBooks
    SecondAttempt SecondAttempt/ConvertChunks SecondAttempt/CopyToPostgres SecondAttempt/DealChunks
    SecondAttempt/JoinSinks SecondAttempt/KeepTables SecondAttempt/WriteParquet
    WriteRejects WriteRejects/SpreadTables WriteRejects/WriteTableRejects
    WriteReport WriteReport/NameReport WriteReport/WriteReportFile
""".split()


class _Labels(PipelineVisitor):
    def __init__(self):
        self.labels = set()

    def enter_composite_transform(self, node):
        self.visit_transform(node)

    def visit_transform(self, node):
        # The steps inside Beam's own transforms are Beam's to name.
        if (
            node.full_label
            and node.full_label.count("/") <= 1
            and not node.full_label.startswith(("CountCommits/", "NameTables/"))
        ):
            self.labels.add(node.full_label)


def graph(**settings):
    config = EtlConfig(input=("x",), output="lake", postgres="env:PG_DSN", **settings)
    file = SourceFile(0, "f.csv", "", "t", 1, "v")
    plan = LoadPlan("key-000", "key", "now", 1 << 20, 1 << 20, True, (file,), (TableConfig(name="t"),))
    pipeline = beam.Pipeline()
    build(pipeline, config, plan, RunSettings(0.0, static_lanes=2))
    return pipeline


def test_labels_are_the_published_ones():
    visitor = _Labels()
    graph().visit(visitor)
    assert sorted(visitor.labels) == sorted(LABELS)


def test_credentials_travel_as_references_only(monkeypatch):
    monkeypatch.setenv("PG_DSN", "postgresql://loader:hunter2@db/prod")
    proto = str(graph().to_runner_api())
    assert "hunter2" not in proto


@pytest.mark.parametrize(
    "step",
    [
        InspectFiles({}, "staging"),
        FindBoundaries(1 << 20),
        PlanChunks("lake", "key-000", 1 << 20),
        DealChunks(2),
        DealChunks(0),
        WriteParquet(SinkSettings("lake", "key-000")),
        WriteRejects(SinkSettings("lake", "key-000")),
        PublishTables(SinkSettings("lake", "key-000")),
    ],
    ids=lambda step: type(step).__name__,
)
def test_beam_refuses_elements_of_another_type_when_the_graph_is_built(step):
    numbers = beam.Pipeline() | beam.Create([1.5])
    with pytest.raises(TypeCheckError):
        _ = numbers | step


def test_beam_refuses_tables_that_are_no_names():
    pipeline = beam.Pipeline()
    numbers = pipeline | beam.Create([1.5])
    none = pipeline | "None" >> beam.Create([])
    with pytest.raises(TypeCheckError):
        _ = numbers | BalanceBooks(numbers, none, none, SinkSettings("lake", "l"), {}, "fail_table", 0.01)
