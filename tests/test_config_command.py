"""`config`: looks at settings without loading anything; its generated pages are current."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from beam_etl.configuration.json_schema import job_schema
from beam_etl.configuration.reference import COMMAND, configuration_reference
from beam_etl.exit_codes import DONE, USAGE
from tests.landed import run

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_all_settings_is_current():
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page.rstrip() == configuration_reference().rstrip(), f"run {COMMAND}"


def test_docs_and_schema_can_be_written(tmp_path):
    assert run("config", "docs", "--output", tmp_path / "c.md").code == DONE
    assert (tmp_path / "c.md").read_text().startswith("# Configuration")
    assert json.loads(run("config", "schema").out) == job_schema()
    done = run("config", "schema", "--output", tmp_path / "no" / "s.json")
    assert (done.code, done.err) == (
        USAGE,
        f"beam_etl: --output {tmp_path}/no/s.json: No such file or directory; give a file in a directory that exists\n",
    )


def test_show_tells_values_and_where_they_come_from(tmp_path, monkeypatch):
    monkeypatch.setenv("BEAM_ETL_OUTPUT", "lake")
    (tmp_path / "job.yaml").write_text("tables: [{name: t, columns: {a: bigint}}]\npostgres: env:PG\n")
    done = run("config", "show", "--input=a.csv", f"--config={tmp_path / 'job.yaml'}")
    assert (done.code, done.err) == (DONE, "")
    shown = [" ".join(line.split()) for line in done.out.splitlines()]
    for line in ("input a.csv flag", "output lake BEAM_ETL_OUTPUT", "force false default"):
        assert line in shown
    assert f"postgres env:PG {tmp_path / 'job.yaml'}" in shown
    assert "tables:\n- name: t\n  columns:\n    a:\n      type: bigint\n" in done.out
    assert not Path("lake").exists()


def test_check_says_only_whether_all_is_well(tmp_path):
    assert run("config", "check", "--input=a", "--output=b") == run("config", "check", "--input=c", "--output=d")
    done = run("config", "check", "--input=a", "--output=b", "--chunk_mb=0")
    assert done.code == USAGE
    assert done.err == "beam_etl: chunk_mb: Input should be greater than or equal to 1 (given: '0')\n"
    done = run("config", "check", "--input=a", "--output=b", "--ouput=x")
    assert (done.code, done.err) == (USAGE, "beam_etl: --ouput: unknown flag; did you mean --output?\n")
    done = run("config", "check", "--input=a", "--output=b", "--postgres=postgresql://u:hunter2@h/d")
    assert done.code == USAGE
    assert "hunter2" not in done.err + done.out


@pytest.mark.parametrize("text", [(ROOT / "examples" / "registry.yaml").read_text(), "max_reject_ratio: ${RATIO}\n"
                                  "profiles: {dev: {force: '${FORCE}', chunk_mb: 3}, prod: }", "input: a.csv"])  # fmt: skip
def test_the_schema_takes_what_is_right(text):
    jsonschema.validate(yaml.safe_load(text), job_schema())


@pytest.mark.parametrize("text", ["tabels: []", "max_reject_ratio: 2", "tables: [{name: t, columns: {a: {typ: x}}}]",
                                  "profiles: {dev: {ouput: x}}", "mode: upside_down", "input: []"])  # fmt: skip
def test_the_schema_refuses_what_is_wrong(text):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), job_schema())
