"""The real DataflowRunner submits a load to a loopback service and a Cloud Storage emulator, and the recorded job is run.

Input, output, staging and temp are all gs://; the workers are a process of their own that sees only what was staged.
"""

import io
import json
import os
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from beam_etl.exit_codes import NOT_PUBLISHED
from beam_etl.storage import storage_for
from examples.generate_dump import write_dump
from tests.cluster.dataflow_front import serve_dataflow
from tests.gcs_front import BUCKET, ConditionalStorage, serve_gcs
from tests.landed import parquet_table, postgres_rows, postgres_tables, reject_lines, run
from tests.processes import REPOSITORY, Program

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

REGISTRY = f"--config={REPOSITORY / 'examples' / 'registry.yaml'}"
PACKAGES = {"beam_etl", "transforms", "runners"}
JOB_SECONDS = 300


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConditionalStorage]:
    with serve_gcs() as (host, objects):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        yield objects


@pytest.fixture
def new_dsn(postgres_dsn: str) -> Iterator[Any]:
    def make() -> str:
        name = f"dataflow_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(postgres_dsn, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return make_conninfo(postgres_dsn, dbname=name)

    yield make


def test_the_recorded_job_lands_what_the_local_runner_lands(
    tmp_path: Path, bucket: ConditionalStorage, new_dsn: Any
) -> None:
    dump = tmp_path / "dump" / "input"
    write_dump(dump.parent, scale=0.3)
    local_dsn, job_dsn = new_dsn(), new_dsn()
    lake = tmp_path / "lake"
    local = run(f"--input={dump}", f"--output={lake}", f"--postgres={local_dsn}", REGISTRY)
    assert local.code == NOT_PUBLISHED, local.err  # one table of the dump is damaged

    upload(dump, f"gs://{BUCKET}/dump")
    environment = {"STORAGE_EMULATOR_HOST": os.environ["STORAGE_EMULATOR_HOST"], "LOAD_DSN": job_dsn}
    with serve_dataflow(bucket, tmp_path / "job", environment) as dataflow:
        program = Program(command(dataflow.endpoint), {**os.environ, **environment}, tmp_path / "launcher.log")
        try:
            code = program.wait(JOB_SECONDS)
        finally:
            program.kill()
        logs = program.log.read_text() + (tmp_path / "job" / "workers.log").read_text()
        job = dataflow.job
    assert code == NOT_PUBLISHED, logs
    assert job is not None

    # What was staged: the three packages and no more, and a graph without the secret.
    with tarfile.open(fileobj=io.BytesIO(job.packages["workflow.tar.gz"])) as tar:
        tops = {Path(name).parts[1] for name in tar.getnames() if name.endswith(".py") and len(Path(name).parts) > 2}
    assert tops == PACKAGES
    password_free = [job.proto, json.dumps(job.request).encode()]
    assert not any(job_dsn.encode() in staged for staged in password_free)

    downloaded = tmp_path / "downloaded"
    download(f"gs://{BUCKET}/lake", downloaded)
    tables = postgres_tables(local_dsn)
    assert tables and postgres_tables(job_dsn) == tables
    for table in tables:
        assert sorted_rows(parquet_table(downloaded, table)) == sorted_rows(parquet_table(lake, table)), table
        assert postgres_rows(job_dsn, table) == postgres_rows(local_dsn, table), table
    assert books(downloaded) == books(lake)
    assert rejects(downloaded) == rejects(lake)


def command(endpoint: str) -> list[str]:
    place = f"gs://{BUCKET}"
    return [
        *(sys.executable, "-m", "beam_etl", "--runner=DataflowRunner", REGISTRY),
        *(f"--input={place}/dump/**", f"--output={place}/lake", "--postgres=env:LOAD_DSN"),
        *("--project=some-project", "--region=europe-west1", f"--temp_location={place}/tmp"),
        *(f"--staging_location={place}/staging", f"--setup_file={REPOSITORY / 'setup.py'}"),
        *(f"--dataflow_endpoint={endpoint}", "--no_auth"),
    ]


def upload(directory: Path, address: str) -> None:
    storage = storage_for(address)
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        storage.write_atomic(f"{address}/{path.relative_to(directory)}", path.read_bytes())


def download(address: str, directory: Path) -> None:
    storage = storage_for(address)
    for path, _ in storage.list_files(address):
        target = directory / path.removeprefix(f"{address}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(storage.read_bytes(path))


def sorted_rows(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=str)


def books(lake: Path) -> dict[str, tuple[Any, ...]]:
    [path] = lake.glob("_beam_etl/loads/*/report.json")
    told = ("records_in", "rows", "rejects", "files", "rejected_files", "balanced", "published", "schema")
    return {
        name: tuple(str(entry[key]) for key in told) for name, entry in json.loads(path.read_text())["tables"].items()
    }


def rejects(lake: Path) -> dict[str, list[tuple[Any, ...]]]:
    tables = {path.parent.name for path in lake.glob("_beam_etl/rejects/*/*/*.jsonl")}
    told = ("member", "record", "line", "byte_start", "byte_end", "column", "code")
    return {table: sorted(tuple(line[key] for key in told) for line in reject_lines(lake, table)) for table in tables}
