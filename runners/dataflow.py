"""Google Cloud Dataflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runners.place import Place, filled_in, flag_value

# Each flag Dataflow cannot start without: what it is, and an example.
_REQUIRED = {
    "project": ("the Google Cloud project that runs and pays for the job", "my-project"),
    "region": ("the region whose machines run the job", "europe-west1"),
    "temp_location": ("a folder in Cloud Storage for staged and temporary files", "gs://my-bucket/tmp"),
}
_FOLDERS = ("temp_location", "staging_location")


def options(args: Sequence[str], cores: int) -> list[str]:
    """No defaults but the runner's name: what a job on Dataflow costs is for the user to say."""
    return filled_in(args, "DataflowRunner", {})


def check(args: Sequence[str]) -> list[str]:
    """Missing project, region or temp_location; folders outside gs://; and code that the workers would not have."""
    problems = [
        f"DataflowRunner needs --{flag}, {meaning}: add for example --{flag}={example}."
        for flag, (meaning, example) in _REQUIRED.items()
        if not flag_value(args, flag)
    ]
    for flag in _FOLDERS:
        folder = flag_value(args, flag)
        if folder and not folder.startswith("gs://"):
            problems.append(f"--{flag}={folder} is not in Cloud Storage: give a folder such as gs://my-bucket/tmp.")
    return problems + _worker_code_problems(args)


def _worker_code_problems(args: Sequence[str]) -> list[str]:
    setup_file = flag_value(args, "setup_file")
    if setup_file is not None:
        missing = [] if Path(setup_file).is_file() else [setup_file]
        return [f"--setup_file={path} is not a file: give the path of this project's setup.py." for path in missing]
    if (
        flag_value(args, "sdk_container_image")
        or flag_value(args, "extra_package")
        or flag_value(args, "extra_packages")
    ):
        return []
    return [
        "DataflowRunner's workers would lack this project's packages: build the image of templates/dataflow and give "
        "--sdk_container_image=IMAGE (fast start), or give --setup_file=./setup.py (installed on every start)."
    ]


DATAFLOW = Place(
    name="DataflowRunner",
    summary="Google Cloud Dataflow",
    options=options,
    check=check,
)
