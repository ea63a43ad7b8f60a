"""Who ran a load, where and when, and how it ended: one small file a run, `loads/<load_id>/runs/<run>.json`.

A run that was killed leaves a file without an end. Whether it is still at work is told by its lease, never by this file;
and what is published is told by the sinks alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import getpass
import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any, Literal

from beam_etl.config import YAML_ONLY, EtlConfig
from beam_etl.loads.holder import Holder
from beam_etl.loads.plan import load_directory
from beam_etl.secrets import redact
from beam_etl.storage import storage_for

Outcome = Literal["", "published", "not_published", "failed"]

_SECRET_WORDS = ("password", "secret", "token", "credential", "key")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a load.

    Attributes:
      load_id, run: the key.
      started, ended: ISO times, UTC; ended is "" while it runs, and for ever after a kill.
      outcome: "published", "not_published" (some table was held back), "failed", or "" without an end.
      reason: why it failed.
      user, host, pid, boot: its process.
      version, python, runner: of the program.
      command: as it could be typed again, without secrets.
    """

    load_id: str
    run: str
    started: str
    user: str
    host: str
    pid: int
    boot: str
    version: str
    python: str
    runner: str
    command: str
    ended: str = ""
    outcome: Outcome = ""
    reason: str = ""

    @classmethod
    def begin(cls, load_id: str, holder: Holder, config: EtlConfig, beam_args: Sequence[str]) -> Run:
        return cls(
            load_id=load_id,
            run=holder.run,
            started=_now(),
            user=_user(),
            host=holder.host,
            pid=holder.pid,
            boot=holder.boot,
            version=_version(),
            python=platform.python_version(),
            runner=config.runner,
            command=command_line(config, beam_args),
        )

    def end(self, outcome: Outcome, reason: str = "") -> Run:
        return dataclasses.replace(self, ended=_now(), outcome=outcome, reason=redact(reason))

    def has_died(self) -> bool:
        """Whether it is known never to end: its process was one of this machine and is gone."""
        return not self.ended and Holder("", self.run, self.host, self.boot, self.pid).is_dead_here()


def write_run(output: str, run: Run) -> None:
    path = f"{_directory(output, run.load_id)}/{run.run}.json"
    storage_for(path).write_atomic(path, json.dumps(dataclasses.asdict(run), ensure_ascii=False, indent=1).encode())


def read_runs(output: str, load_id: str) -> list[Run]:
    """The runs of a load, in the order of their start."""
    return sorted(_read(output, load_id), key=lambda run: (run.started, run.run))


def command_line(config: EtlConfig, beam_args: Sequence[str]) -> str:
    """The settings that are not defaults, as flags; passwords are left out, and so is what only job.yaml can hold."""
    words = ["python", "-m", "beam_etl"]
    for name, value in config.model_dump(mode="json", exclude_defaults=True, exclude=set(YAML_ONLY)).items():
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}={redact(str(item))}" for item in (value if isinstance(value, list) else [value])]
    return shlex.join([*words, *(_without_secret(argument) for argument in beam_args)])


def _without_secret(argument: str) -> str:
    name, equals, _ = argument.partition("=")
    return f"{name}=***" if equals and any(word in name.lower() for word in _SECRET_WORDS) else redact(argument)


def _read(output: str, load_id: str) -> Iterator[Run]:
    storage = storage_for(output)
    for path, _ in storage.list_files(_directory(output, load_id)):
        values: Mapping[str, Any] = json.loads(storage.read_bytes(path))
        yield Run(**values)


def _directory(output: str, load_id: str) -> str:
    return f"{load_directory(output, load_id)}/runs"


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return ""


def _version() -> str:
    try:
        return metadata.version("beam_etl")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "checkout"
