"""The public Python API: load, and the entry points of the services that this project replaces.

Everything heavy is imported when a function is called, so that importing beam_etl costs nothing.
"""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from beam_etl.config import EtlConfig
from beam_etl.configuration.layers import load_config


def load(
    *, config: str | None = None, profile: str | None = None, beam_args: Sequence[str] = (), **settings: Any
) -> dict[str, Any]:
    """Runs one load and returns its report, as in report.json.

    Args:
      config: path of a job.yaml.
      profile: one of its profiles.
      beam_args: flags of Beam and its runner.
      **settings: fields of EtlConfig, for example input=["dump/*.zip"], output="lake"; they win over the job.yaml.

    Returns:
      load_id, published (whether every table is), seconds, and for each table records_in, rows, rejects, files, bytes,
      schema, balanced, published, reasons.

    Raises:
      ValueError: configuration or preflight; the message holds the remedy and nothing was loaded.
      beam_etl.launcher.RunFailedError: the run failed; the same call again resumes it.
    """
    from beam_etl.launcher import run_load

    return run_load(load_config(config, settings, profile), beam_args).report


@dataclasses.dataclass(frozen=True)
class ConversionResult:
    """How one table of convert_csvs_to_parquet ended."""

    success: bool
    rows_processed: int
    rejects: int
    bytes_processed: int
    error_message: str | None
    output_path: str


def convert_csvs_to_parquet(
    audit_map: Mapping[str, Mapping[str, Sequence[str]]],
    unzip_dir: str,
    output_dir: str,
    config: Mapping[str, Any] | None = None,
    delimiter: str = ";",
) -> dict[str, ConversionResult]:
    """Converts unzipped files to one Parquet dataset a table, as the former conversion service did.

    Args:
      audit_map: {table: {zip name: [names of its unzipped files]}}.
      unzip_dir: where the unzipped files are, directly or in a folder named like the zip.
      output_dir: directory of the datasets.
      config: further fields of EtlConfig, for example {"tables": [...]} with declared columns.
      delimiter: one character between fields.

    Raises:
      ValueError: a file is missing or a setting is wrong; nothing was converted.
    """
    settings = dict(config or {})
    tables = {table["name"]: dict(table) for table in settings.pop("tables", ())}
    inputs: list[str] = []
    for table, archives in audit_map.items():
        paths = [_unzipped(unzip_dir, archive, name) for archive, names in archives.items() for name in names]
        inputs += [glob.escape(str(path)) for path in paths]
        entry = tables.setdefault(table, {"name": table})
        entry["files"] = [*entry.get("files", ()), *(glob.escape(str(path)) for path in paths)]
    dialect = {"delimiter": delimiter, **settings.pop("dialect", {})}
    report = load(input=inputs, output=output_dir, tables=list(tables.values()), dialect=dialect, **settings)
    return {
        table: ConversionResult(
            success=entry["published"],
            rows_processed=entry["rows"],
            rejects=entry["rejects"],
            bytes_processed=entry["bytes"],
            error_message="; ".join(entry["reasons"]) or None,
            output_path=entry["parquet"],
        )
        for table, entry in report["tables"].items()
    }


def _unzipped(unzip_dir: str, archive: str, name: str) -> Path:
    root = Path(unzip_dir)
    places = [root / name, root / archive / name, root / Path(archive).stem / name]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(f"audit_map: {name} of {archive} is not in {unzip_dir}; unzip it there first")
    return found


def load_table(
    postgres: str, table: str, files: Sequence[str], output: str, **settings: Any
) -> tuple[bool, str | None, int]:
    """Loads files into one PostgreSQL table, as the former loader did.

    Args:
      postgres: DSN, env:NAME, file:PATH or embedded:DIR.
      output: directory of the Parquet dataset, the rejects and the books.
      **settings: further fields of EtlConfig.

    Returns:
      (whether the table is published, why not, rows in it).

    Raises:
      ValueError: configuration or preflight; nothing was loaded.
    """
    return load_multiple_tables(postgres, {table: files}, output, **settings)[table]


def load_multiple_tables(
    postgres: str, table_to_files: Mapping[str, Sequence[str]], output: str, **settings: Any
) -> dict[str, tuple[bool, str | None, int]]:
    """Loads several tables in one run; see load_table. One table's failure leaves the others alone."""
    tables = {table["name"]: dict(table) for table in settings.pop("tables", ())}
    for table, files in table_to_files.items():
        entry = tables.setdefault(table, {"name": table})
        entry["files"] = [*entry.get("files", ()), *files]
    inputs = [file for files in table_to_files.values() for file in files]
    report = load(input=inputs, output=output, postgres=postgres, tables=list(tables.values()), **settings)
    return {
        table: (entry["published"], "; ".join(entry["reasons"]) or None, entry["rows"])
        for table, entry in report["tables"].items()
    }


__all__ = [
    "ConversionResult",
    "EtlConfig",
    "convert_csvs_to_parquet",
    "load",
    "load_multiple_tables",
    "load_table",
]
