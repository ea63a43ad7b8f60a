import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from beam_etl.cli import build_parser
from beam_etl.config import YAML_ONLY, EtlConfig
from beam_etl.configuration.layers import load_config
from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED, USAGE
from tests.landed import run

ROOT = Path(__file__).resolve().parents[1]

# A value for every flag, as typed and as the configuration holds it.
VALUES = {
    "runner": ("FlinkRunner", "FlinkRunner"),
    "input": ("a.csv,b.csv", ("a.csv", "b.csv")),
    "output": ("lake", "lake"),
    "postgres": ("env:PG", "env:PG"),
    "postgres_schema": ("landing", "landing"),
    "table": ("t", "t"),
    "mode": ("append", "append"),
    "on_new_column": ("fail", "fail"),
    "on_ragged": ("pad", "pad"),
    "on_conflict": ("rescue", "rescue"),
    "lineage": ("_file,_load_id", ("_file", "_load_id")),
    "report": ("r.json", "r.json"),
    "on_bad_file": ("publish_without", "publish_without"),
    "max_reject_ratio": ("0.5", 0.5),
    "force": (None, True),
    "keep_staging": (None, True),
    "progress": ("plain", "plain"),
    "log_format": ("json", "json"),
    "wait": ("false", False),
    "chunk_mb": ("8", 8),
    "max_record_bytes": ("4096", 4096),
    "memory_budget_mb": ("100", 100),
    "parquet_codec": ("snappy", "snappy"),
    "parquet_codec_level": ("3", 3),
}
# Flags that are no settings.
NO_SETTINGS = ("config", "profile", "verbose", "quiet", "preflight_only")
EXIT_CODES = (
    "Exit codes: 0 all tables published; 2 usage or configuration; 3 some table not published; 4 the run failed."
)


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "beam_etl", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.csv"
    path.write_text("id,text\n1,a\n2,b\n")
    return path


@pytest.mark.parametrize("statement", ["import beam_etl", "from beam_etl.cli import main; main(['--help'])"])
def test_neither_import_nor_help_loads_anything_heavy(statement):
    code = f"""
import sys
try:
    {statement}
except SystemExit as leaving:
    assert leaving.code == 0
heavy = {{"apache_beam", "pyarrow", "numba", "numpy", "psycopg", "google.cloud.storage"}} & set(sys.modules)
print("HEAVY", sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stdout + done.stderr


def test_help_shows_every_field_its_meaning_and_the_exit_codes():
    text = " ".join(build_parser().format_help().split())
    for name, field in EtlConfig.model_fields.items():
        assert (f"--{name}" in text) == (name not in YAML_ONLY), name
        assert (" ".join(field.description.split()) in text) == (name not in YAML_ONLY), name
    assert EXIT_CODES in text


def test_the_flags_are_the_fields_of_the_configuration():
    options = {option for action in build_parser()._actions for option in action.option_strings}
    fields = {f"--{name}" for name in EtlConfig.model_fields if name not in YAML_ONLY}
    assert options == fields | {
        "-h",
        "--help",
        "--config",
        "--profile",
        "--verbose",
        "--quiet",
        "--preflight_only",
        "--no-force",
        "--no-keep_staging",
        "--no-wait",
    }
    assert fields == {f"--{name}" for name in VALUES}


def test_every_flag_reaches_its_field():
    arguments = [f"--{name}" if typed is None else f"--{name}={typed}" for name, (typed, _) in VALUES.items()]
    flags = {k: v for k, v in vars(build_parser().parse_args(arguments)).items() if k not in NO_SETTINGS}
    config = load_config(None, flags)
    assert {name: getattr(config, name) for name in VALUES} == {name: value for name, (_, value) in VALUES.items()}


def test_a_flag_can_take_back_what_the_job_file_says(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("input: a.csv\noutput: lake\nforce: true\n")
    flags = {k: v for k, v in vars(build_parser().parse_args(["--no-force"])).items() if k not in NO_SETTINGS}
    assert load_config(str(job), flags).force is False


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("--max_reject_ration=1", "--max_reject_ration: unknown flag; did you mean --max_reject_ratio?"),
        ("--ouput=x", "--ouput: unknown flag; did you mean --output?"),
        ("--direct_num_wrokers=1", "--direct_num_wrokers: unknown flag; did you mean --direct_num_workers?"),
        ("--direct_num_work=1", "--direct_num_work: unknown flag; did you mean --direct_num_workers?"),
        ("--zzzzzzzz", "--zzzzzzzz: unknown flag; see --help"),
        ("-v", "-v: unknown flag; see --help"),
        ("--direct_num_workers=x", "argument --direct_num_workers: invalid int value: 'x'"),
        ("--direct_num_workers", "argument --direct_num_workers: expected one argument"),
        ("other.csv", "other.csv: not the value of any flag; repeat --input for each file, or quote its glob"),
    ],
)
def test_what_nobody_knows_is_refused_in_one_line_before_anything_is_written(small, tmp_path, argument, complaint):
    lake = tmp_path / "lake"
    done = run(f"--input={small}", f"--output={lake}", argument)
    assert (done.code, done.err, done.out) == (USAGE, f"beam_etl: {complaint}\n", "")
    assert not lake.exists()


def test_a_glob_that_the_shell_expanded_is_never_loaded_in_part(tmp_path):
    names = [tmp_path / f"part.{number}.csv" for number in range(3)]
    for name in names:
        name.write_text("id\n1\n")
    done = run(f"--output={tmp_path / 'lake'}", "--input", *names)
    assert done.code == USAGE
    assert [line.split(":")[1].strip() for line in done.err.splitlines()] == [str(name) for name in names[1:]]


@pytest.mark.parametrize("arguments", [["--on_bad_file=x"], ["--input"], ["--max_reject_ratio"]])
def test_a_wrong_value_of_an_own_flag_is_a_usage_error(small, tmp_path, arguments):
    done = run(f"--input={small}", f"--output={tmp_path / 'lake'}", *arguments)
    assert done.code == USAGE
    assert f"error: argument {arguments[0].split('=')[0]}: " in done.err


def test_missing_settings_are_named_all_at_once():
    done = run()
    assert (done.code, done.err) == (
        USAGE,
        "beam_etl: input: is required; give --input\nbeam_etl: output: is required; give --output\n",
    )


def test_a_place_that_does_not_exist_is_a_usage_error(small, tmp_path):
    done = run(f"--input={small}", f"--output={tmp_path / 'lake'}", "--runner=NowhereRunner")
    assert done.code == USAGE
    assert "NowhereRunner" in done.err
    assert "Traceback" not in done.err


def test_a_verbose_run_with_flags_of_beam_publishes_and_logs(small, tmp_path):
    done = program(
        *(f"--input={small}", f"--output={tmp_path / 'lake'}", "--verbose"),
        *("--direct_num_workers", "1", "--direct_running_mode=in_memory", f"--report={tmp_path / 'r.json'}"),
    )
    assert done.returncode == PUBLISHED, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert f"INFO beam_etl.launcher: load {report['load_id']}: 1 files, 1 tables" in done.stderr
    assert report["tables"]["small"]["rows"] == 2
    assert "│ small │     1 │          2 │    2 │       0 │ yes       │" in done.stdout


def test_a_failed_run_says_why_in_two_lines_and_resumes(small, tmp_path):
    lake = tmp_path / "lake"
    (lake / "_beam_etl").mkdir(parents=True)
    in_the_way = lake / "_beam_etl" / "staging"
    in_the_way.write_text("a file where a directory must be")
    arguments = [f"--input={small}", f"--output={lake}"]
    done = program(*arguments)
    assert (done.returncode, done.stdout) == (FAILED, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("beam_etl: load ")
    assert "File exists" in first or "Not a directory" in first
    assert second == "beam_etl: run the same command again to resume it; --verbose shows where it failed"
    assert "Traceback" in run(*arguments, "--verbose").err
    in_the_way.unlink()
    assert run(*arguments).code == PUBLISHED


def test_the_exit_code_tells_an_unpublished_table(tmp_path):
    (tmp_path / "t.csv").write_text("id,text\n1,a\n2\n")
    done = run(f"--input={tmp_path / 't.csv'}", f"--output={tmp_path / 'lake'}")
    assert (done.code, done.err) == (NOT_PUBLISHED, "")
    assert "t is not published: 1 of 2 records were rejected (50.00%)" in done.out


@pytest.mark.parametrize("arguments", [[], ["nowhere"], ["embedded:"], ["embedded:/dev/null"]])
def test_psql_wants_an_embedded_database(arguments):
    done = run("psql", *arguments)
    assert done.code == USAGE
    assert done.err.startswith("beam_etl: ")
    assert "Traceback" not in done.err


def test_a_log_for_machines_holds_an_entry_for_each_chunk_and_nothing_else(small, tmp_path):
    done = program(f"--input={small}", f"--output={tmp_path / 'lake'}", "--log_format=json")
    assert done.returncode == PUBLISHED, done.stderr
    entries = [json.loads(line) for line in done.stderr.splitlines()]
    [chunk] = [entry for entry in entries if entry.get("step") == "WriteParquet"]
    assert (chunk["table"], chunk["chunk"], chunk["rows"], chunk["level"]) == (
        "small",
        "000000-00000000000008",
        2,
        "INFO",
    )
    assert chunk["load_id"].endswith("-000") and chunk["seconds"] >= 0


def test_a_quiet_load_writes_nothing_but_problems(small, tmp_path):
    arguments = (f"--input={small}", f"--output={tmp_path / 'lake'}", "--quiet")
    done = program(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (PUBLISHED, "", "")
    done = program(*arguments, "--verbose", "--log_format=json")
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert "--quiet and --verbose contradict each other" in done.stderr
    small.write_text("id,text\n1,a\n2\n")
    done = program(*arguments, "--log_format=json")
    assert (done.returncode, done.stdout) == (NOT_PUBLISHED, "")
    assert "small is not published" in json.loads(done.stderr.splitlines()[-1])["message"]
