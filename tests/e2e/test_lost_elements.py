"""Books that can notice: whatever part of the engine loses an element, the table is whole or it is not published."""

import threading

import apache_beam as beam
import pyarrow.parquet as pq
import pytest

from beam_etl import load

# Every place where elements pass from one stage to another, by its label.
SHUFFLES = [
    "SpreadFiles",
    "InspectFile",
    "SpreadRanges",
    "GroupByFile",
    "JoinFiles",
    "GroupByTable",
    "PlanTable",
    "SpreadSamples",
    "MergeEvidence",
    "ChooseTypes",
    "SpreadSchemas",
    "GatherChunks",
    "GroupByLane",
    "EmitLane",
    "SpreadChunks",
    "JoinColumns",
    "ConvertChunk",
    "NameTables",
    "SpreadTables",
    "SpreadBooks",
]


class _DropOne(beam.DoFn):
    """Loses the first element that any thread sees."""

    lock = threading.Lock()
    dropped = 0

    def process(self, element):
        with _DropOne.lock:
            if _DropOne.dropped == 0:
                _DropOne.dropped += 1
                return
        yield element


@pytest.fixture
def losing(monkeypatch):
    """Makes the transform with a given label lose one element of its main output."""

    def lose(label):
        _DropOne.dropped = 0
        original = beam.Pipeline.apply

        def apply(self, transform, pvalueish=None, given_label=None):
            name = given_label or getattr(transform, "label", "")
            result = original(self, transform, pvalueish, given_label)
            if name != label:
                return result
            if isinstance(result, beam.pvalue.DoOutputsTuple):
                main = result[result._main_tag]
                dropped = original(self, beam.ParDo(_DropOne()).with_output_types(main.element_type), main, f"Lose{label}")
                result._pcolls[result._main_tag] = dropped
                return result
            hinted = beam.ParDo(_DropOne()).with_output_types(result.element_type)
            return original(self, hinted, result, f"Lose{label}")

        monkeypatch.setattr(beam.Pipeline, "apply", apply)

    return lose


@pytest.fixture
def dump(tmp_path):
    """Two files of one table, cut into several chunks, whose last value makes a second attempt necessary."""
    directory = tmp_path / "dump"
    directory.mkdir()
    rows = [f"{i},text {i % 7}\n" for i in range(180_000)]
    (directory / "t.1.csv").write_text("id,text\n" + "".join(rows))
    (directory / "t.2.csv").write_text("id,text\n" + "".join(rows[:1000]) + "1.5,last\n")
    return directory


def run(dump, output, database):
    return load(input=[str(dump)], output=str(output), postgres=database, chunk_mb=1)["tables"]["t"]


def test_without_a_loss_the_table_is_published(dump, tmp_path, database):
    entry = run(dump, tmp_path / "lake", database)
    assert (entry["published"], entry["rows"], entry["balanced"]) == (True, 181_001, True)
    assert [column["type"] for column in entry["schema"]] == ["decimal(18,1)", "string"]


@pytest.mark.parametrize("label", SHUFFLES)
def test_a_lost_element_is_noticed_or_harmless(label, losing, dump, tmp_path, database):
    losing(label)
    entry = run(dump, tmp_path / "lake", database)
    assert _DropOne.dropped == 1, f"no element passed {label}"
    if entry["published"]:
        files = list((tmp_path / "lake" / "t").glob("*.parquet"))
        assert sum(pq.read_metadata(file).num_rows for file in files) == 181_001
        assert [column["type"] for column in entry["schema"]] == ["decimal(18,1)", "string"]
    else:
        assert entry["reasons"]
        assert not (tmp_path / "lake" / "t").exists()
