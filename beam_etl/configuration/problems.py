"""What is wrong with a configuration, one line a problem, for a person."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from beam_etl.config import ColumnConfig, DialectConfig, EtlConfig, TableConfig
from beam_etl.secrets import redact

# What is written in these is never repeated.
_NEVER_SHOWN = frozenset({"postgres"})


def explain_problem(problem: Any, origins: Mapping[str, str]) -> str:
    """One line from one pydantic problem: place, what is wrong, the remedy (the nearest key for a typo), what was given.

    Args:
      origins: top-level key -> where it was written.
    """
    place = ".".join(str(part) for part in problem["loc"]) or "configuration"
    top = str(problem["loc"][0]) if problem["loc"] else ""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        message = f"is required; give --{place}" if place in EtlConfig.model_fields else "is required"
    if problem["type"] == "extra_forbidden":
        message = _unknown_key(str(problem["loc"][-1]))
    given = problem.get("input")
    told = []
    if isinstance(given, str | int | float) and top not in _NEVER_SHOWN:
        told.append(f"given: {given!r}")
    if origins.get(top, "flag") != "flag":
        told.append(f"by {origins[top]}")
    return redact(f"{place}: {message}" + (f" ({', '.join(told)})" if told else ""))


def _unknown_key(key: str) -> str:
    known = {
        *EtlConfig.model_fields,
        *TableConfig.model_fields,
        *DialectConfig.model_fields,
        *ColumnConfig.model_fields,
    }
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return "unknown key" + (f"; did you mean {near[0]!r}?" if near else "; see --help")
