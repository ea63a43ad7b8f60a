"""Books that can notice: whatever part of the engine loses an element, the table is whole or it is not published."""

import threading

import apache_beam as beam
import psycopg
import pyarrow.parquet as pq
import pytest
from apache_beam.transforms.ptransform import _NamedPTransform
from psycopg import sql

from beam_etl import load
from transforms.balance_books import _BalanceTableFn

# Every place where elements pass from one stage to another, by its label.
SHUFFLES = [
    "SpreadFiles",
    "InspectFile",
    "GroupFilesByTable",
    "UniteHeaders",
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
            result = original(self, transform, pvalueish, given_label)
            # A given label makes Beam call apply once more, with the label on the transform.
            if given_label or isinstance(transform, _NamedPTransform) or transform.label != label:
                return result
            if isinstance(result, beam.pvalue.DoOutputsTuple):
                main = result[result._main_tag]
                dropped = original(
                    self, beam.ParDo(_DropOne()).with_output_types(main.element_type), main, f"Lose{label}"
                )
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
    (directory / "things.1.csv").write_text("id,text\n" + "".join(rows) + "1.5,last\n")
    (directory / "things.2.csv").write_text("id,text\n" + "".join(rows[:1000]))
    return directory


def run(dump, output, database):
    return load(input=[str(dump)], output=str(output), postgres=database, chunk_mb=1)["tables"]["things"]


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
        files = list((tmp_path / "lake" / "things").glob("*.parquet"))
        assert sum(pq.read_metadata(file).num_rows for file in files) == 181_001
        assert [column["type"] for column in entry["schema"]] == ["decimal(18,1)", "string"]
    else:
        assert entry["reasons"]
        assert not (tmp_path / "lake" / "things").exists()


@pytest.fixture
def before_balance(monkeypatch):
    """Runs a sabotage once all chunks are committed, just before the books are balanced."""

    def arrange(sabotage):
        original = _BalanceTableFn.process

        def process(self, table, *side_inputs):
            sabotage(table)
            yield from original(self, table, *side_inputs)

        monkeypatch.setattr(_BalanceTableFn, "process", process)

    return arrange


def assert_not_published(entry, output, database, reason):
    assert not entry["published"]
    assert any(reason in given for given in entry["reasons"]), entry["reasons"]
    assert not (output / "things").exists()
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT to_regclass('public.things')").fetchone() == (None,)


def test_a_lost_staging_row_is_noticed(before_balance, dump, tmp_path, database):
    def lose_a_row(table):
        with psycopg.connect(database) as connection:
            for (name,) in connection.execute("SELECT staging_name FROM beam_etl.staging_tables").fetchall():
                place = sql.Identifier("beam_etl", name)
                deleted = sql.SQL("DELETE FROM {} WHERE ctid = (SELECT max(ctid) FROM {})").format(place, place)
                connection.execute(deleted)

    before_balance(lose_a_row)
    entry = run(dump, tmp_path / "lake", database)
    assert_not_published(
        entry, tmp_path / "lake", database, "postgres: 181001 rows were committed, but 181000 are stored"
    )


def test_a_lost_parquet_file_is_noticed(before_balance, dump, tmp_path, database):
    def lose_a_file(table):
        for schema in (tmp_path / "lake/_beam_etl/staging").glob("*/things/*"):
            max(schema.glob("*.parquet")).unlink()

    before_balance(lose_a_file)
    entry = run(dump, tmp_path / "lake", database)
    assert_not_published(entry, tmp_path / "lake", database, "was never committed")


def test_what_a_sabotaged_load_lost_is_landed_by_the_same_command_again(before_balance, dump, tmp_path, database):
    done = []

    def lose_a_file_once(table):
        if not done:
            done.append(table)
            for schema in (tmp_path / "lake/_beam_etl/staging").glob("*/things/*"):
                max(schema.glob("*.parquet")).unlink()

    before_balance(lose_a_file_once)
    assert not run(dump, tmp_path / "lake", database)["published"]
    again = run(dump, tmp_path / "lake", database)
    assert (again["published"], again["rows"]) == (True, 181_001)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (181_001,)
