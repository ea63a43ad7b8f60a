"""The layers of a configuration, lowest first: defaults, job.yaml, its profile, the environment, flags."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic

from beam_etl.config import YAML_ONLY, EtlConfig
from beam_etl.configuration.job_file import merge_settings, read_job_file
from beam_etl.configuration.problems import explain_problem

PREFIX = "BEAM_ETL_"
JOB_FILE_VARIABLE = f"{PREFIX}CONFIG"
PROFILE_VARIABLE = f"{PREFIX}PROFILE"
# Variables of that prefix that are no settings.
_OTHER_VARIABLES = frozenset({JOB_FILE_VARIABLE, PROFILE_VARIABLE, f"{PREFIX}FAILPOINTS"})

# How like a setting's name another one must be to be taken for a slip: others may have variables of that prefix.
_LIKE_A_TYPO = 0.75

DEFAULT = "default"
FLAG = "flag"


@dataclasses.dataclass(frozen=True)
class Layer:
    """Settings from one place.

    Attributes:
      origin: where they come from, for a person; of the environment, each has its variable's name instead.
      values: name -> value, as written there.
    """

    origin: str
    values: Mapping[str, Any]

    def origin_of(self, name: str) -> str:
        return variable_of(name) if self.origin == PREFIX else self.origin


@dataclasses.dataclass(frozen=True)
class Effective:
    """A valid configuration, and where each of its fields comes from."""

    config: EtlConfig
    origins: Mapping[str, str]


def load_config(job_file: str | None, flags: Mapping[str, Any], profile: str | None = None) -> EtlConfig:
    """The EtlConfig of all layers, the environment of this process among them; see effective_config."""
    return effective_config(job_file, profile, flags, os.environ).config


def effective_config(
    job_file: str | None, profile: str | None, flags: Mapping[str, Any], environment: Mapping[str, str]
) -> Effective:
    """The configuration in which each layer wins over those below it.

    Args:
      job_file: path of a job.yaml; None: the one that BEAM_ETL_CONFIG names, if any.
      profile: of job.yaml; None: the one that BEAM_ETL_PROFILE names, if any.
      flags: field -> value; None is a flag that was not given.

    Raises:
      ValueError: naming the field, what is wrong and the remedy, one line a problem.
    """
    layers = read_layers(job_file, profile, flags, environment)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for name, value in layer.values.items():
            joined = name in YAML_ONLY and name in values
            values[name] = merge_settings(values[name], value) if joined else value
            origins[name] = f"{origins[name]}, {layer.origin_of(name)}" if joined else layer.origin_of(name)
    try:
        config = EtlConfig.model_validate(values)
    except pydantic.ValidationError as error:
        raise ValueError("\n".join(explain_problem(problem, origins) for problem in error.errors())) from None
    return Effective(config, {name: origins.get(name, DEFAULT) for name in EtlConfig.model_fields})


def read_layers(
    job_file: str | None, profile: str | None, flags: Mapping[str, Any], environment: Mapping[str, str]
) -> Sequence[Layer]:
    """The layers above the defaults, lowest first; see effective_config."""
    job_file = job_file or environment.get(JOB_FILE_VARIABLE) or None
    profile = profile or environment.get(PROFILE_VARIABLE) or None
    layers = []
    if job_file is not None:
        job = read_job_file(job_file, profile, environment)
        layers += [Layer(job_file, job.settings), Layer(f"{job_file}, profile {profile}", job.profile)]
    elif profile is not None:
        raise ValueError(f"--profile {profile}: profiles are written in a job.yaml; give it by --config")
    layers.append(Layer(PREFIX, _of_environment(environment)))
    layers.append(Layer(FLAG, {name: value for name, value in flags.items() if value is not None}))
    return layers


def variable_of(name: str) -> str:
    """The environment variable that sets a field."""
    return f"{PREFIX}{name.upper()}"


def _of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that the environment holds; a variable that is set to nothing counts as unset."""
    values, problems = {}, []
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable in _OTHER_VARIABLES or not environment[variable]:
            continue
        if name in YAML_ONLY:
            problems.append(f"{variable}: {name} has structure, which only a job.yaml can hold; unset it")
        elif name in EtlConfig.model_fields:
            values[name] = environment[variable]
        else:
            near = difflib.get_close_matches(name, EtlConfig.model_fields, n=1, cutoff=_LIKE_A_TYPO)
            problems += [f"{variable}: no setting has this variable; did you mean {variable_of(n)}?" for n in near]
    if problems:
        raise ValueError("\n".join(problems))
    return values
