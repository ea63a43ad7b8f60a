"""The flex template: its metadata is the configuration's, and its main.py takes parameters as Google's launcher gives them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from beam_etl.config import YAML_ONLY, EtlConfig
from beam_etl.flags import load_parser, read_flags
from beam_etl.flex_template import template_metadata

TEMPLATE = Path(__file__).resolve().parents[1] / "templates" / "dataflow"
PARAMETERS = {parameter["name"]: parameter for parameter in template_metadata()["parameters"]}


def test_the_metadata_file_is_current() -> None:
    written = json.loads((TEMPLATE / "metadata.json").read_text())
    assert written == template_metadata(), "write it again: python -m beam_etl flex-template"


def test_every_setting_is_a_parameter_but_those_of_the_launcher() -> None:
    assert set(PARAMETERS) == set(EtlConfig.model_fields) - set(YAML_ONLY) - {
        "runner",
        "wait",
        "progress",
        "log_format",
    } | {"config"}
    assert not PARAMETERS["input"]["isOptional"] and not PARAMETERS["output"]["isOptional"]


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("input", "gs://b/a*.csv,gs://b/c.zip", "local.csv"),
        ("output", "gs://b/lake", "lake"),
        ("mode", "append", "merge"),
        ("force", "true", "yes"),
        ("max_reject_ratio", "0.05", "5%"),
        ("chunk_mb", "16", "16.5"),
        ("postgres", "env:PG_DSN", "postgresql://me:secret@host/db"),
    ],
)
def test_regexes_take_what_is_right_and_nothing_else(name: str, right: str, wrong: str) -> None:
    [regex] = PARAMETERS[name]["regexes"]
    assert re.search(regex, right) and not re.search(regex, wrong)


def test_switches_are_read_as_launchers_write_them() -> None:
    parser = load_parser("beam_etl", "")

    def force(*arguments: str) -> object:
        return read_flags(parser, arguments).settings["force"]

    assert [force(), force("--force"), force("--no-force")] == [None, True, False]
    assert [force("--force=true"), force("--force=false"), force("--force", "--mode=append")] == [True, False, True]
    with pytest.raises(SystemExit):
        force("--force=perhaps")


def test_the_main_file_loads_as_the_launcher_starts_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,y\n")
    main = TEMPLATE / "main.py"
    assert len(main.read_text().splitlines()) == 3
    environment = {**os.environ, "FLEX_TEMPLATE_PYTHON_PY_FILE": str(main), "PYTHONPATH": str(TEMPLATE.parents[1])}
    command = [
        sys.executable,
        environment["FLEX_TEMPLATE_PYTHON_PY_FILE"],
        *(f"--input={tmp_path / 't.csv'}", f"--output={tmp_path / 'lake'}", "--force=true", "--runner=DirectRunner"),
    ]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "lake" / "t").glob("*.parquet"))
