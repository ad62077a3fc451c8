"""The JSON schema of a suite file, with which editors complete names and mark mistakes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline_lib.core.blocks import Block
from pipeline_lib.study.presets import PRESETS
from pipeline_lib.study.suite import FAMILIES, Suite


def suite_schema() -> dict[str, Any]:
    """The schema of a suite file, in which a `preset` may replace blocks and a label its `kind`."""
    schema = _for_editors(Suite.model_json_schema())
    properties, definitions = schema["properties"], schema["$defs"]
    properties["preset"] = {
        "description": "Starting point for the blocks that are left out",
        "enum": sorted(PRESETS),
    }
    given = {key for preset in PRESETS.values() for key in preset}
    schema["anyOf"] = [{"required": sorted(schema["required"])}, {"required": ["preset"]}]
    schema["required"] = sorted(set(schema["required"]) - given)
    for family, methods in FAMILIES.items():
        _kind_from_label(properties[family], definitions, methods.kinds())
    return schema


def schema_text() -> str:
    """The schema as it is kept in `workflow/schemas/`."""
    return json.dumps(suite_schema(), indent=2, sort_keys=True) + "\n"


def _kind_from_label(
    family: dict[str, Any], definitions: dict[str, Any], kinds: Mapping[str, type[Block]]
) -> None:
    """A label that is the name of a kind has that kind's settings; any other label must name its kind."""
    labels = {}
    for kind, block in kinds.items():
        definition = definitions[block.__name__]
        definition["required"] = [key for key in definition["required"] if key != "kind"]
        reference = {"$ref": f"#/$defs/{block.__name__}"}
        # Without required settings the label alone is enough, and YAML reads what follows as null.
        labels[kind] = reference if definition["required"] else {"anyOf": [reference, {"type": "null"}]}
    family["properties"] = labels
    family["additionalProperties"]["required"] = ["kind"]


def _for_editors(part: Any) -> Any:
    """Drop titles, which repeat the field's name, and mark labels that break the rules as wrong."""
    if isinstance(part, list):
        return [_for_editors(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    kept = {k: _for_editors(v) for k, v in part.items() if k not in ("title", "discriminator")}
    if "patternProperties" in kept:
        ((pattern, settings),) = kept.pop("patternProperties").items()
        kept |= {"propertyNames": {"pattern": pattern}, "additionalProperties": settings}
    return kept


__all__ = ["schema_text", "suite_schema"]
