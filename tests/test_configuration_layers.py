"""Settings come from five places, each wins over those below it, and every mistake is named with its remedy."""

import pytest

from beam_etl.config import EtlConfig
from beam_etl.configuration.layers import effective_config, variable_of

JOB = """
input: ${IN:-a.csv}
output: ${LAKE}
max_reject_ratio: ${RATIO:-0.5}
report: $${LAKE}
dialect: {delimiter: ";", quote: ""}
tables:
- {name: t, files: ["t*"], columns: {a: bigint}}
- {name: u}
profiles:
  dev:
    output: dev
    dialect: {quote: "'"}
    tables:
    - {name: t, columns: {b: date}}
    - {name: v}
  prod:
    output: ${UNSET_ELSEWHERE}
  same:
"""


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return str(path)


def refusal(job, profile=None, flags=None, environment=None):
    with pytest.raises(ValueError) as error:
        effective_config(job, profile, flags or {}, environment or {})
    return str(error.value)


def test_each_layer_wins_over_those_below_it(job):
    environment = {"LAKE": "lake", "BEAM_ETL_MAX_REJECT_RATIO": "0.25", "BEAM_ETL_TABLE": "from_environment"}
    flags = {"table": "from_flag", "force": None}
    effective = effective_config(job, "dev", flags, environment)
    config, origins = effective.config, effective.origins
    assert (config.input, config.output, config.max_reject_ratio, config.table) == (
        ("a.csv",),
        "dev",
        0.25,
        "from_flag",
    )
    assert (origins["input"], origins["output"]) == (job, f"{job}, profile dev")
    assert (origins["max_reject_ratio"], origins["table"]) == ("BEAM_ETL_MAX_REJECT_RATIO", "flag")
    assert (origins["force"], origins["tables"]) == ("default", f"{job}, {job}, profile dev")
    assert set(origins) == set(EtlConfig.model_fields)


def test_a_profile_joins_what_has_structure(job):
    config = effective_config(job, "dev", {}, {"LAKE": "x"}).config
    assert (config.dialect.delimiter, config.dialect.quote) == (";", "'")
    assert [table.name for table in config.tables] == ["t", "u", "v"]
    assert config.tables[0].files == ("t*",)
    assert list(config.tables[0].columns) == ["a", "b"]


def test_variables_are_replaced_and_stay_one_value(job):
    config = effective_config(job, "same", {}, {"LAKE": "x: [y]", "RATIO": "", "IN": "b,c"}).config
    assert (config.output, config.max_reject_ratio, config.input) == ("x: [y]", 0.5, ("b", "c"))
    assert config.report == "${LAKE}"


def test_the_environment_may_name_file_and_profile_and_what_is_empty_is_unset(job):
    environment = {"BEAM_ETL_CONFIG": job, "BEAM_ETL_PROFILE": "dev", "BEAM_ETL_OUTPUT": "", "LAKE": "x"}
    assert effective_config(None, None, {}, environment).config.output == "dev"


@pytest.mark.parametrize(
    ("profile", "environment", "told"),
    [
        ("dve", {"LAKE": "x"}, "--profile dve: {job} has no such profile (it has dev, prod, same); did you mean 'dev'?"),
        (None, {}, "output: the environment variable 'LAKE' that {job} names is unset or empty; set it, or write "
                   "${{LAKE:-default}}"),
        ("prod", {"LAKE": "x"}, "profiles.prod.output: the environment variable 'UNSET_ELSEWHERE' that {job} names is"),
        (None, {"LAKE": "x", "BEAM_ETL_OUPUT": "y"}, "BEAM_ETL_OUPUT: no setting has this variable; did you mean "
                                                     "BEAM_ETL_OUTPUT?"),
        (None, {"LAKE": "x", "BEAM_ETL_TABLES": "y"}, "BEAM_ETL_TABLES: tables has structure, which only a job.yaml"),
        (None, {"LAKE": "x", "RATIO": "2"}, "less than or equal to 1 (given: '2', by {job})"),
        (None, {"LAKE": "x", "BEAM_ETL_CHUNK_MB": "many"}, "chunk_mb: Input should be a valid integer, unable to parse "
         "string as an integer (given: 'many', by BEAM_ETL_CHUNK_MB)"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_remedy(job, profile, environment, told):
    assert told.format(job=job) in refusal(job, profile, environment=environment)


def test_a_profile_needs_a_job_file():
    assert refusal(None, "dev") == "--profile dev: profiles are written in a job.yaml; give it by --config"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("profiles: [dev]", "profiles: expected names of profiles, and settings under each"),
        ("profiles: {dev: 3}", "profiles: expected names of profiles, and settings under each"),
        ("profiles: {dev: {profiles: {}}}", "profiles.dev.profiles: a profile holds settings, and no profiles"),
        ("profiles: {dev: {ouput: x}}", "ouput: unknown key; did you mean 'output'?"),
        ("output: ${LAKE", "output: '${LAKE' in "),
        ("output: ${A-B}", "is no variable; write ${NAME} or ${NAME:-default}, or $${ for the text itself"),
    ],
)
def test_a_wrong_job_file_is_named(tmp_path, text, told):
    (tmp_path / "job.yaml").write_text(text)
    assert told in refusal(str(tmp_path / "job.yaml"), "dev" if "dev" in text else None)


def test_a_password_in_the_open_is_refused_wherever_it_is_written_and_never_shown(tmp_path):
    (tmp_path / "job.yaml").write_text("{input: a, output: b, postgres: '${DSN}'}")
    job, dsn = str(tmp_path / "job.yaml"), "postgresql://u:hunter2@h/d"
    for told in (
        refusal(job, environment={"DSN": dsn}),
        refusal(None, environment={"BEAM_ETL_POSTGRES": dsn}),
        refusal(None, flags={"postgres": "host=h password='hunter2'"}),
    ):
        assert "postgres: holds a password in the open" in told
        assert "hunter2" not in told


def test_other_variables_of_the_prefix_are_none_of_our_business():
    values = {"input": "a", "output": "b"}
    environment = {"BEAM_ETL_IMAGE_BUILT": "yesterday", "BEAM_ETL_FAILPOINTS": ""}
    assert effective_config(None, None, values, environment).config.output == "b"
    assert variable_of("chunk_mb") == "BEAM_ETL_CHUNK_MB"
