import dataclasses
import json
import os

import pytest

from beam_etl.config import EtlConfig
from beam_etl.loads.plan import (
    MAX_CHUNK_BYTES,
    MIN_CHUNK_BYTES,
    LoadPlan,
    Selection,
    TableBase,
    freeze_plan,
    load_directory,
    plan_chunk_bytes,
    plan_key,
    read_plan,
    read_report,
)
from beam_etl.model import SourceFile
from beam_etl.schema import ColumnSchema, ColumnType, TableSchema
from beam_etl.sources.discovery import discover

FILES = (SourceFile(0, "a.csv", "", "t", 10, "v1"), SourceFile(1, "b.zip", "m.csv", "u", 20, "v2", "zip"))


def config(**changes):
    return EtlConfig(**{"input": ("x",), "output": "lake", **changes})


@pytest.fixture
def lake(tmp_path):
    return str(tmp_path / "lake")


def freeze(lake, is_current=False, files=FILES, cores=2, may_resume=True, select=None, **changes):
    return freeze_plan(
        config(output=lake, **changes),
        files,
        cores,
        select or (lambda: Selection(tuple(files))),
        lambda plan: is_current,
        lambda plan: may_resume,
    )


def report_published(lake, load_id, published=True):
    with open(f"{load_directory(lake, load_id)}/report.json", "w") as file:
        json.dump({"published": published}, file)


# Every knob either decides which values land where, or it must not change the identity of a load.
DECISIVE = {
    "postgres": "env:PG",
    "postgres_schema": "landing",
    "max_record_bytes": 2048,
    "chunk_mb": 8,
    "parquet_codec": "snappy",
    "parquet_codec_level": 3,
    "mode": "append",
    "key": ("b",),
    "on_new_column": "fail",
    "on_ragged": "pad",
    "on_conflict": "rescue",
    "lineage": ("_file",),
    "dialect": {"delimiter": ";"},
    "tables": [{"name": "t", "columns": {"a": "bigint"}}],
}
POLICIES = {
    "runner": "FlinkRunner",
    "input": ("y",),
    "output": "elsewhere",
    "table": "other",
    "report": "r.json",
    "on_bad_file": "publish_without",
    "max_reject_ratio": 0.5,
    "force": True,
    "keep_staging": True,
    "memory_budget_mb": 512,
    "wait": False,
    "progress": "none",
    "log_format": "json",
    "postgres_connections": 2,
    "postgres_retry_seconds": 1.0,
    "postgres_lock_seconds": 1.0,
    "postgres_statement_seconds": 60.0,
    "postgres_idle_seconds": 60.0,
}


def test_every_knob_is_decisive_or_a_policy():
    assert DECISIVE.keys() | POLICIES.keys() == EtlConfig.model_fields.keys()


@pytest.mark.parametrize("name", DECISIVE)
def test_what_decides_over_values_makes_another_load(name):
    assert plan_key(config(**{name: DECISIVE[name]}), FILES) != plan_key(config(), FILES)


@pytest.mark.parametrize("name", POLICIES)
def test_policies_and_places_leave_the_load_the_same(name):
    assert plan_key(config(**{name: POLICIES[name]}), FILES) == plan_key(config(), FILES)


def test_where_postgres_is_leaves_the_load_the_same():
    keys = {plan_key(config(postgres=dsn), FILES) for dsn in ("env:A", "postgresql://u@h/d")}
    assert len(keys) == 1


def test_declarations_of_tables_without_files_leave_the_load_the_same():
    assert plan_key(config(tables=[{"name": "absent"}]), FILES) == plan_key(config(), FILES)


@pytest.mark.parametrize(
    "change", [{"version": "v9"}, {"size_bytes": 11}, {"table": "x"}, {"uri": "c.csv"}, {"member": "n"}]
)
def test_other_files_are_another_load(change):
    assert plan_key(config(), [dataclasses.replace(FILES[0], **change), FILES[1]]) != plan_key(config(), FILES)


def test_a_plan_survives_its_file_and_holds_no_secret(lake):
    tables = [
        {"name": "t", "columns": {"a": "decimal(9,2)", "b": None}, "dialect": {"quote": ""}, "null_markers": ["-"]}
    ]
    plan = freeze(lake, tables=tables, postgres="env:HUNTER2")
    assert LoadPlan.from_bytes(plan.to_bytes()) == plan == read_plan(lake, plan.load_id)
    assert plan.files == FILES
    assert [table.name for table in plan.tables] == ["t", "u"]
    assert plan.files_of("u") == [FILES[1]]
    assert b"hunter2" not in plan.to_bytes()
    assert plan.postgres


def test_an_unfinished_load_is_found_again_with_the_sizes_it_was_planned_with(lake):
    files = [dataclasses.replace(FILES[0], size_bytes=1 << 30)]
    first = freeze(lake, files=files, cores=1)
    second = freeze(lake, files=files, cores=64)
    assert second == first
    assert first.chunk_bytes == -(-(1 << 30) // 43), "the fewest chunks of up to 24 MiB"


def test_a_load_that_was_held_back_is_found_again(lake):
    first = freeze(lake)
    report_published(lake, first.load_id, published=False)
    assert freeze(lake, max_reject_ratio=1.0) == first


def test_a_finished_load_is_found_again_while_it_is_current_and_has_a_new_generation_after_that(lake):
    first = freeze(lake)
    report_published(lake, first.load_id)
    assert freeze(lake, is_current=True) == first
    second = freeze(lake)
    assert (first.load_id, second.load_id) == (f"{first.plan_key}-000", f"{first.plan_key}-001")
    assert freeze(lake) == second, "which is not finished, so it is resumed"


def test_a_load_whose_tables_changed_since_it_was_planned_has_a_new_generation(lake):
    first = freeze(lake)
    assert freeze(lake, may_resume=False).load_id == first.load_id.replace("-000", "-001")


def test_what_tables_hold_already_is_planned_out_of_a_load_but_not_out_of_its_key(lake):
    schema = TableSchema((ColumnSchema("a", ColumnType("bigint"), unseen=True),))
    selection = Selection((dataclasses.replace(FILES[1], file_id=0),), FILES[:1], {"u": TableBase("x-000", schema)})
    plan = freeze(lake, select=lambda: selection, mode="append")
    assert (plan.files, plan.skipped, plan.bases) == (selection.files, selection.skipped, selection.bases)
    assert [(table.name, table.mode) for table in plan.tables] == [("u", "append")]
    assert plan.plan_key == plan_key(config(mode="append"), FILES)
    assert LoadPlan.from_bytes(plan.to_bytes()) == plan


def test_nothing_is_planned_where_the_tables_do_not_allow_it(lake):
    def refuse():
        raise ValueError("the table is there")

    with pytest.raises(ValueError, match="the table is there"):
        freeze(lake, select=refuse)
    assert not os.path.exists(f"{lake}/_beam_etl")


def test_force_is_always_a_new_generation(lake):
    ids = [freeze(lake, is_current=True, force=True).load_id for _ in range(3)]
    assert [load_id[-3:] for load_id in ids] == ["000", "001", "002"]


def test_who_freezes_second_takes_the_plan_of_the_first(lake):
    first = freeze(lake)
    other = dataclasses.replace(first, created="another moment")
    path = f"{load_directory(lake, first.load_id)}/plan.json"
    with open(path, "wb") as file:
        file.write(other.to_bytes())
    assert freeze(lake) == other


@pytest.mark.parametrize(
    ("total_bytes", "cores", "expected"),
    [
        (0, 2, MIN_CHUNK_BYTES),
        (80 << 20, 2, 10 << 20),
        (80 << 20, 40, MIN_CHUNK_BYTES),
        (1000 * MAX_CHUNK_BYTES, 2, MAX_CHUNK_BYTES),
        (11 * MAX_CHUNK_BYTES, 2, 11 * MAX_CHUNK_BYTES // 12),  # not 11 chunks, which two cores cannot share
    ],
)
def test_chunks_are_planned_from_size_and_cores(total_bytes, cores, expected):
    files = [dataclasses.replace(FILES[0], size_bytes=total_bytes)]
    assert plan_chunk_bytes(config(), files, cores) == expected
    assert plan_chunk_bytes(config(chunk_mb=3), files, cores) == 3 << 20


def test_no_report_is_none(lake):
    assert read_report(lake, "nothing-000") is None


def test_the_same_inputs_named_otherwise_are_the_same_load(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("id\n1\n")
    named = [
        [str(tmp_path / "*.csv")],
        [str(tmp_path)],
        [str(tmp_path / "b.csv"), str(tmp_path / "a.csv"), str(tmp_path / "a.csv")],
    ]
    assert len({plan_key(config(), discover(inputs, (), None)) for inputs in named}) == 1
