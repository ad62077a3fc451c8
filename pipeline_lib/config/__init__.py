"""The suite file: read, checked and resolved before any job starts. Never imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline_lib.config.base import suggestion
from pipeline_lib.config.presets import apply_preset
from pipeline_lib.config.suite import Run, Suite
from pipeline_lib.errors import UserError


def parse_suite(raw: Any) -> Suite:
    """Check a suite; raises one `UserError` with a line for each fault: field, found, allowed."""
    if not isinstance(raw, dict):
        raise UserError(f"a suite is a mapping of blocks, found {type(raw).__name__}")
    try:
        return Suite.model_validate(apply_preset(raw))
    except ValidationError as error:
        lines = [_line(fault, raw) for fault in error.errors()]
        raise UserError("the suite has errors:\n" + "\n".join(f"  {line}" for line in lines)) from None


def load_suite(path: Path | str) -> Suite:
    """Read and check a suite file."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({error})") from None
    return parse_suite(raw)


def dump_suite(suite: Suite) -> str:
    """The resolved suite as YAML: every default spelled out, readable by `load_suite`."""
    return yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _line(fault: Any, raw: dict[str, Any]) -> str:
    """One readable line for a fault: path of the field, what was found, what is allowed."""
    path = _path(fault["loc"], raw)
    prefix = f"{path}: " if path else ""
    context = fault.get("ctx", {})
    match fault["type"]:
        case "missing":
            return f"{prefix}is missing and has no default"
        case "union_tag_invalid":
            allowed = [tag.strip().strip("'") for tag in context["expected_tags"].split(",")]
            key = context["discriminator"].strip("'")
            return f"{prefix}{key}: found {context['tag']!r}; {suggestion(context['tag'], allowed)}"
        case "union_tag_not_found":
            return f"{prefix}needs the key {context['discriminator']}"
        case "unknown_key" | "kind" | "unknown_name" | "seeds" | "label" | "runs":
            return f"{prefix}{fault['msg']}"
    found = repr(fault["input"])
    found = found if len(found) <= 80 else found[:77] + "..."
    return f"{prefix}found {found}; {fault['msg'].removeprefix('Value error, ')}"


def _path(location: tuple[Any, ...], raw: Any) -> str:
    """Dotted path without the union tags that pydantic puts between the keys of the file."""
    parts: list[str] = []
    for position, key in enumerate(location):
        last = position == len(location) - 1
        inside_list = isinstance(raw, list) and isinstance(key, int) and key < len(raw)
        if inside_list or (isinstance(raw, dict) and key in raw):
            raw = raw[key]
        elif key == "[key]" or not last:
            continue
        parts.append(str(key))
    return ".".join(parts)


__all__ = ["Run", "Suite", "dump_suite", "load_suite", "parse_suite"]
