"""The JSON schema of job.yaml, with which editors complete and check it."""

from __future__ import annotations

from typing import Any

from beam_etl.config import EtlConfig
from beam_etl.configuration.job_file import PROFILES

_WITH_VARIABLE = {"type": "string", "pattern": r"\$\{"}


def job_schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) of job.yaml.

    Nothing is required, because flags and the environment may give it; any number or choice may be a ${VARIABLE}.
    """
    schema = EtlConfig.model_json_schema()
    schema.pop("required", None)
    definitions = schema.pop("$defs")
    inputs = schema["properties"]["input"]
    schema["properties"]["input"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        "description": inputs["description"],
    }
    for model in (schema, *definitions.values()):
        model["properties"] = {name: _or_variable(field) for name, field in model["properties"].items()}
    columns = definitions["TableConfig"]["properties"]["columns"]
    columns["additionalProperties"] = {
        "anyOf": [{"$ref": "#/$defs/ColumnConfig"}, {"type": "string"}, {"type": "null"}],
    }
    settings = {"type": "object", "additionalProperties": False, "properties": schema["properties"]}
    profiles = {
        "type": "object",
        "description": "Settings by profile, which win over those above when --profile chooses them.",
        "additionalProperties": {"anyOf": [{"$ref": "#/$defs/Settings"}, {"type": "null"}]},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "beam_etl job.yaml",
        "type": "object",
        "additionalProperties": False,
        "properties": {**schema["properties"], PROFILES: profiles},
        "$defs": {**definitions, "Settings": settings},
    }


def _or_variable(field: dict[str, Any]) -> dict[str, Any]:
    if field.get("type") in ("integer", "number", "boolean") or "enum" in field:
        told: dict[str, Any] = {key: field[key] for key in ("description", "default") if key in field}
        return {"anyOf": [{k: v for k, v in field.items() if k not in told}, _WITH_VARIABLE], **told}
    if "anyOf" in field and not any(
        option.get("type") == "string" and "enum" not in option for option in field["anyOf"]
    ):
        return {**field, "anyOf": [*field["anyOf"], _WITH_VARIABLE]}
    return field
