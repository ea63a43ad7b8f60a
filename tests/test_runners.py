"""The table of places, and what each place but DirectRunner fills in and refuses."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    StandardOptions,
)
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.runners.runner import create_runner

from runners import PLACES, place_for
from runners.dataflow import DATAFLOW
from runners.direct import DIRECT
from runners.flink import FLINK
from runners.place import filled_in, flag_value
from runners.prism import PRISM

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An executable file called prism."""
    path = tmp_path / "prism"
    path.write_text("#!/bin/sh\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def jar(tmp_path: Path) -> str:
    path = tmp_path / "job-server.jar"
    path.touch()
    return f"--flink_job_server_jar={path}"


# The table


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("DirectRunner", DIRECT),
        ("direct", DIRECT),
        ("FnApiRunner", DIRECT),
        ("apache_beam.runners.portability.fn_api_runner.FnApiRunner", DIRECT),
        ("SwitchingDirectRunner", DIRECT),
        ("PrismRunner", PRISM),
        ("FLINKRUNNER", FLINK),
        ("dataflow", DATAFLOW),
    ],
)
def test_a_name_finds_its_place_as_beam_would_accept_it(name: str, place: object) -> None:
    assert place_for(name) is place


def test_any_other_runner_of_beam_is_passed_through() -> None:
    place = place_for("SparkRunner")
    assert place.options(["--runner=SparkRunner", "--x=1"], 2) == ["--runner=SparkRunner", "--x=1"]
    assert (place.check([]), place.static_lanes([], 2)) == ([], 0)


def test_only_the_direct_runner_deals_elements_out_in_advance() -> None:
    assert [place.static_lanes([], 3) for place in PLACES] == [3, 0, 0, 0]


def test_names_are_found_without_loading_beam_or_the_rest_of_the_project() -> None:
    """So that --help and a wrong flag answer at once, and so that places stay apart from what runs there."""
    heavy = "apache_beam", "beam_etl", "transforms"
    program = f"import sys, runners; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


# Flags


@pytest.mark.parametrize(
    ("args", "value"),
    [
        ([], None),
        (["--flag=a"], "a"),
        (["--flag", "a"], "a"),
        (["--flag=a", "--flag=b=c"], "b=c"),
        (["--flag"], ""),
        (["--flag", "--other"], ""),
        (["--flags=a"], None),
        (["--other", "flag"], None),
    ],
)
def test_a_flag_is_read_as_argparse_reads_it(args: list[str], value: str | None) -> None:
    assert flag_value(args, "flag") == value


def test_the_users_runner_gives_way_in_both_spellings() -> None:
    assert filled_in(["--a", "1", "--runner", "x", "--b"], "R", {}) == ["--runner=R", "--a", "1", "--b"]
    assert filled_in(["--runner=x", "b"], "R", {"c": "2"}) == ["--runner=R", "b", "--c=2"]


# Prism


def test_prism_is_found_on_path(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    options = PipelineOptions(PRISM.options([], 2))
    assert type(create_runner(options.view_as(StandardOptions).runner)) is PrismRunner
    assert options.view_as(PrismRunnerOptions).prism_location == str(program)
    assert PRISM.check([]) == []


def test_prism_is_never_downloaded_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (problem,) = PRISM.check([])
    assert "go install" in problem


def test_a_named_prism_must_exist(tmp_path: Path, program: Path) -> None:
    assert PRISM.check([f"--prism_location={program}"]) == []
    assert PRISM.check(["--prism_location=https://example.org/prism.zip"]) == []
    (problem,) = PRISM.check([f"--prism_location={tmp_path}"])
    assert problem.startswith(f"--prism_location={tmp_path} is not a file: build it")


# Flink


@pytest.mark.parametrize(
    "master", [[], ["--flink_master=[local]"], ["--flink_master=http://127.0.0.1:8081/"], ["--flink_master", "[::1]:1"]]
)
def test_flink_on_this_machine_uses_this_process_and_every_core(master: list[str], jar: str) -> None:
    options = PipelineOptions(FLINK.options([jar, *master], 5))
    assert type(create_runner(options.view_as(StandardOptions).runner)) is FlinkRunner
    assert options.view_as(PortableOptions).environment_type == "LOOPBACK"
    assert options.view_as(FlinkRunnerOptions).parallelism == 5
    assert FLINK.check([jar, *master]) == []


def test_a_flink_cluster_gets_no_guesses(jar: str) -> None:
    args = ["--flink_master=flink:8081", jar]
    assert FLINK.options(args, 2) == ["--runner=FlinkRunner", *args]
    workers, parallelism = FLINK.check(args)
    assert "--environment_type=EXTERNAL --environment_config=localhost:50000" in workers
    assert "give the number of task slots" in parallelism


@pytest.mark.parametrize(
    "environment",
    [
        ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"],
        ["--environment_type=PROCESS", "--environment_options=process_command=/opt/boot"],
        ["--environment_type=PROCESS", '--environment_config={"command": "/opt/boot"}'],
        ["--environment_type=DOCKER"],
    ],
)
def test_a_flink_cluster_that_is_told_everything_is_fit(environment: list[str]) -> None:
    assert (
        FLINK.check(["--flink_master=flink:8081", "--job_endpoint=flink:8099", "--parallelism=4", *environment]) == []
    )


@pytest.mark.parametrize(
    ("environment", "remedy"),
    [
        (["--environment_type=LOOPBACK"], "cannot be reached from other machines"),
        (["--environment_type=EXTERNAL"], "--environment_config=localhost:50000"),
        (
            ["--environment_type=EXTERNAL", "--environment_options=external_service_address=localhost:50000"],
            "--environment_config=localhost:50000",
        ),
        (["--environment_type=PROCESS"], "--environment_options=process_command="),
        (["--environment_type=THREAD"], "give one of LOOPBACK, EXTERNAL, PROCESS, DOCKER"),
    ],
)
def test_a_flink_cluster_without_workers_is_refused(environment: list[str], remedy: str) -> None:
    fit = ["--flink_master=flink:8081", "--job_endpoint=flink:8099", "--parallelism=4"]
    (problem,) = FLINK.check([*fit, *environment])
    assert remedy in problem


def test_beam_itself_cannot_take_a_worker_pools_address_from_environment_options() -> None:
    """Why EXTERNAL insists on --environment_config; once this fails, either flag will do."""
    flags = ["--environment_type=EXTERNAL", "--environment_options=external_service_address=localhost:50000"]
    with pytest.raises(TypeError):
        FlinkRunner().default_environment(PipelineOptions(flags))


def test_flinks_job_server_is_never_downloaded_unasked(tmp_path: Path) -> None:
    (missing,) = FLINK.check([])
    assert "--job_endpoint=HOST:PORT" in missing and "mvn dependency:get" in missing
    (not_a_file,) = FLINK.check([f"--flink_job_server_jar={tmp_path}"])
    assert "is not a file" in not_a_file


@pytest.mark.parametrize("value", ["0", "all"])
def test_flinks_parallelism_is_a_number_of_slots(value: str, jar: str) -> None:
    (problem,) = FLINK.check([jar, f"--parallelism={value}"])
    assert problem.startswith(f"--parallelism={value} is not a whole number of at least 1")


# Dataflow

FIT_FOR_DATAFLOW = ["--project=p", "--region=europe-west1", "--temp_location=gs://b/tmp", "--sdk_container_image=i"]


def test_dataflow_gets_the_runner_and_nothing_else() -> None:
    options = PipelineOptions(DATAFLOW.options(FIT_FOR_DATAFLOW, 2))
    assert options.view_as(StandardOptions).runner == "DataflowRunner"
    assert options.view_as(GoogleCloudOptions).temp_location == "gs://b/tmp"
    assert DATAFLOW.options([], 2) == ["--runner=DataflowRunner"]
    assert DATAFLOW.check(FIT_FOR_DATAFLOW) == []


@pytest.mark.parametrize("flag", ["project", "region", "temp_location"])
def test_dataflow_names_each_missing_flag(flag: str) -> None:
    args = [argument for argument in FIT_FOR_DATAFLOW if not argument.startswith(f"--{flag}=")]
    (problem,) = DATAFLOW.check(args)
    assert problem.startswith(f"DataflowRunner needs --{flag}, ") and f"--{flag}=" in problem


@pytest.mark.parametrize("flag", ["temp_location", "staging_location"])
def test_dataflows_folders_are_in_cloud_storage(flag: str) -> None:
    (problem,) = DATAFLOW.check([*FIT_FOR_DATAFLOW, f"--{flag}=/tmp/x"])
    assert problem.startswith(f"--{flag}=/tmp/x is not in Cloud Storage")


def test_dataflows_workers_need_this_projects_packages(tmp_path: Path) -> None:
    setup = tmp_path / "setup.py"
    setup.touch()
    without_code = FIT_FOR_DATAFLOW[:3]
    (problem,) = DATAFLOW.check(without_code)
    assert "--sdk_container_image=IMAGE" in problem and "--setup_file=./setup.py" in problem
    assert DATAFLOW.check([*without_code, f"--setup_file={setup}"]) == []
    assert DATAFLOW.check([*without_code, "--extra_packages=beam_etl.tar.gz"]) == []
    (missing,) = DATAFLOW.check([*without_code, f"--setup_file={tmp_path}/absent.py"])
    assert "absent.py is not a file" in missing
