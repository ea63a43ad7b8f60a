import pytest

from beam_etl.config import EtlConfig
from beam_etl.configuration.layers import load_config
from beam_etl.schema import ColumnType

REQUIRED = {"input": "a.csv", "output": "lake"}


def refusal(tmp_path, flags, yaml_text=None):
    job = None
    if yaml_text is not None:
        job = tmp_path / "job.yaml"
        job.write_text(yaml_text)
    with pytest.raises(ValueError) as error:
        load_config(None if job is None else str(job), {**REQUIRED, **flags})
    return str(error.value)


def test_inputs_are_repeatable_and_comma_separated():
    assert load_config(None, {"input": ["a,b", "c"], "output": "o"}).input == ("a", "b", "c")


def test_flags_win_over_the_job_file_and_unset_flags_do_not(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text("max_reject_ratio: 0.5\nreport: from-yaml.json\n")
    config = load_config(str(job), {**REQUIRED, "max_reject_ratio": 0.25, "report": None})
    assert (config.max_reject_ratio, config.report) == (0.25, "from-yaml.json")


def test_columns_may_be_short_or_long(tmp_path):
    job = tmp_path / "job.yaml"
    job.write_text(
        "tables:\n- name: t\n  columns:\n    a: bigint\n    b:\n    c: {type: 'decimal(10,2)', decimal_mark: ','}\n"
    )
    columns = load_config(str(job), REQUIRED).table_config("t").columns
    assert [column.column_type() for column in columns.values()] == [
        ColumnType("bigint"),
        None,
        ColumnType("decimal", precision=10, scale=2, format=","),
    ]


@pytest.mark.parametrize(
    ("flags", "yaml_text", "expected"),
    [
        ({"max_reject_ratio": 3}, None, "max_reject_ratio: Input should be less than or equal to 1 (given: 3)"),
        ({"max_reject_ratio": "many"}, None, "max_reject_ratio: Input should be a valid number"),
        ({"on_bad_file": "ignore"}, None, "on_bad_file: Input should be 'fail_table' or 'publish_without'"),
        ({"output": ""}, None, "output: String should have at least 1 character"),
        ({"input": []}, None, "input: "),
        ({}, "tabels: []", "tabels: unknown key; did you mean 'tables'?"),
        ({}, "tables: [{name: t, colums: {}}]", "did you mean 'columns'?"),
        ({}, "tables: [{name: t, columns: {a: integr}}]", "unknown type 'integr'; use one of boolean, bigint"),
        ({}, "tables: [{name: t, columns: {a: date(MMDD)}}]", "unknown date format"),
        ({}, "tables: [{name: t}, {name: t}]", "'t' is declared twice"),
        (
            {},
            "dialect: {delimiter: ';;;;;;;;;;;;;;;;;'}",
            "dialect.delimiter: String should have at most 16 characters",
        ),
        ({}, "dialect: {encoding: latin-99}", "unknown encoding 'latin-99'"),
        ({}, "- a list", "expected keys such as 'tables:' at the top, found list"),
        ({}, "a: [", "not valid YAML"),
    ],
)
def test_every_mistake_has_a_message_that_names_it(tmp_path, flags, yaml_text, expected):
    assert expected in refusal(tmp_path, flags, yaml_text)


def test_a_missing_job_file_is_named():
    with pytest.raises(ValueError, match=r"--config nowhere.yaml: No such file or directory; give the path"):
        load_config("nowhere.yaml", REQUIRED)


def test_a_secret_in_a_wrong_setting_is_not_shown(tmp_path):
    assert "hunter2" not in refusal(tmp_path, {"postgres": 5, "max_reject_ratio": 9}) + refusal(
        tmp_path, {}, "postgres: {password: hunter2}"
    )


def test_defaults_are_what_the_help_says():
    config = EtlConfig(input=("a",), output="o")
    assert (config.runner, config.max_reject_ratio, config.on_bad_file) == ("DirectRunner", 0.01, "fail_table")
