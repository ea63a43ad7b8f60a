"""job.yaml: its settings, the variables that they name, and its profiles."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PROFILES = "profiles"

# $${NAME} stands for the text ${NAME} itself.
_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|(?P<wrong>\$\{[^}]*\}?)")


@dataclasses.dataclass(frozen=True)
class JobFile:
    """What a job.yaml says.

    Attributes:
      settings: that always hold.
      profile: that hold besides, over those, because their profile is chosen.
    """

    settings: Mapping[str, Any]
    profile: Mapping[str, Any]


def read_job_file(path: str, profile: str | None, environment: Mapping[str, str]) -> JobFile:
    """The settings of a job.yaml, each ${NAME} and ${NAME:-default} in them replaced.

    Values are replaced after YAML was read, so whatever a variable holds stays one value. Variables of a profile that
    is not chosen need not be set.

    Raises:
      ValueError: no readable YAML of settings, a variable that is not set, no such profile.
    """
    loaded = _read_yaml(path)
    profiles = loaded.pop(PROFILES, None) or {}
    if not isinstance(profiles, dict) or not all(isinstance(p, dict | None) for p in profiles.values()):
        raise ValueError(f"{PROFILES}: expected names of profiles, and settings under each, in {path}")
    chosen = _choose(profiles, profile, path)
    if PROFILES in chosen:
        raise ValueError(f"{PROFILES}.{profile}.{PROFILES}: a profile holds settings, and no profiles of its own")
    replaced = _Replacer(path, environment)
    return JobFile(replaced(loaded, ""), replaced(chosen, f"{PROFILES}.{profile}"))


def merge_settings(below: Any, above: Any) -> Any:
    """Settings under others: mappings are joined key by key, tables by their names; anything else is replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        joined = dict(below)
        for key, value in above.items():
            joined[key] = merge_settings(below[key], value) if key in below else value
        return joined
    if _are_tables(below) and _are_tables(above):
        by_name = {table["name"]: table for table in above}
        joined_tables = [merge_settings(table, by_name.pop(table["name"], {})) for table in below]
        return [*joined_tables, *by_name.values()]
    return above


def _are_tables(value: Any) -> bool:
    """Whether it is a list of named things, each name once."""
    if not isinstance(value, list) or not all(isinstance(i, dict) and isinstance(i.get("name"), str) for i in value):
        return False
    return len({item["name"] for item in value}) == len(value)


def _choose(profiles: Mapping[str, Any], profile: str | None, path: str) -> dict[str, Any]:
    if profile is None:
        return {}
    if profile not in profiles:
        near = difflib.get_close_matches(profile, map(str, profiles), n=1)
        known = f"it has {', '.join(map(str, profiles))}" if profiles else f"it has no {PROFILES}: at all"
        remedy = f"did you mean {near[0]!r}?" if near else f"add it under {PROFILES}:"
        raise ValueError(f"--profile {profile}: {path} has no such profile ({known}); {remedy}")
    return dict(profiles[profile] or {})


class _Replacer:
    """Replaces variables in settings, and names the place of one that is not set."""

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment

    def __call__(self, value: Any, place: str) -> Any:
        if isinstance(value, dict):
            return {key: self(item, f"{place}.{key}".lstrip(".")) for key, item in value.items()}
        if isinstance(value, list):
            return [self(item, f"{place}.{position}") for position, item in enumerate(value)]
        if isinstance(value, str):
            return _VARIABLE.sub(lambda found: self._value_of(found, place), value)
        return value

    def _value_of(self, found: re.Match[str], place: str) -> str:
        if found[0] == "$${":
            return "${"
        if found["wrong"] is not None:
            raise ValueError(
                f"{place}: {found['wrong']!r} in {self._path} is no variable; write ${{NAME}} or ${{NAME:-default}}, "
                "or $${ for the text itself"
            )
        default = found["default"]
        value = self._environment.get(found["name"], "")
        if value == "" and default is None:
            raise ValueError(
                f"{place}: the environment variable {found['name']!r} that {self._path} names is unset or empty; set it, "
                f"or write ${{{found['name']}:-default}}"
            )
        return value or default[2:]


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"--config {path}: {error.strerror}; give the path of a readable job.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path}: not valid YAML: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ValueError(f"--config {path}: expected keys such as 'tables:' at the top, found {type(loaded).__name__}")
    return loaded
