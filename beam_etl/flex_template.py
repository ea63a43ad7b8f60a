"""metadata.json of the Dataflow flex template, from the fields of EtlConfig.

The format: https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates#metadata
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic.fields import FieldInfo

from beam_etl.config import YAML_ONLY, EtlConfig

# Settings that a template's launcher decides: the runner, that it does not wait, and so shows nothing.
_OF_THE_LAUNCHER = ("runner", "wait", "progress", "log_format")
_GCS = r"^gs:\/\/[^\n\r]+$"
_REGEXES = {
    "input": r"^gs:\/\/[^\n\r,]+(,gs:\/\/[^\n\r,]+)*$",
    "output": _GCS,
    "report": _GCS,
    "postgres": r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|gcp-secret:.+)$",
}
_CONFIG = {
    "name": "config",
    "label": "Config",
    "helpText": "job.yaml with any of these settings, and tables: what is declared. A path inside the launcher's image.",
    "isOptional": True,
    "regexes": [r"^\/[^\n\r]+$"],
}


def template_metadata() -> dict[str, Any]:
    """The template's parameters: one for each flag, in the order of the configuration."""
    fields = {
        name: field
        for name, field in EtlConfig.model_fields.items()
        if name not in YAML_ONLY and name not in _OF_THE_LAUNCHER
    }
    return {
        "name": "beam_etl",
        "description": "Lands delimited text as typed Parquet and PostgreSQL, every record exactly once.",
        "parameters": [*(_parameter(name, field) for name, field in fields.items()), _CONFIG],
    }


def _parameter(name: str, field: FieldInfo) -> dict[str, Any]:
    default = "" if field.default is None or field.is_required() else f" Default: {_text(field.default)}."
    parameter: dict[str, Any] = {
        "name": name,
        "label": name.replace("_", " ").capitalize(),
        "helpText": f"{field.description}{default}",
        "isOptional": not field.is_required(),
    }
    regex = _REGEXES.get(name) or _regex(field)
    return {**parameter, "regexes": [regex]} if regex else parameter


def _regex(field: FieldInfo) -> str | None:
    if field.annotation is bool:
        return "^(true|false)$"
    kinds = get_args(field.annotation) or (field.annotation,)
    choices = [choice for choice in kinds if isinstance(choice, str)]
    if choices:
        return f"^({'|'.join(choices)})$"
    if float in kinds:
        return r"^[0-9]+(\.[0-9]+)?$"
    return "^[0-9]+$" if int in kinds else None


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
