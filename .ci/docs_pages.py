"""Pages of the site that are made when it is built: the keys of a suite, and the library's rooms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = "workflow/schemas/suite.schema.json"
ROOMS = {  # page -> its head, what is said first, the modules that mkdocstrings reads
    "removal": (
        "Removal requests",
        "`from pipeline_lib import Request, forget`",
        ["removal.request", "removal.run"],
    ),
    "objectives": (
        "Objectives",
        "What is minimised; [methods](../methods.md) compares them.",
        ["objectives"],
    ),
    "optimizers": (
        "Optimisers",
        "How a step is taken; [optimizers](../optimizers.md) compares them.",
        ["optimizers"],
    ),
    "metrics": ("Metrics", "What is measured; [metrics](../metrics.md) lists them.", ["metrics"]),
    "attacks": (
        "Attacks",
        "What tries to bring the forgotten back; [attacks](../attacks.md) explains them.",
        ["study.attacks", "stages"],
    ),
}
FAR = 1e15  # limits beyond it keep floats finite and tell a reader nothing
NAMED = {"removal.request": ["Request"], "removal.run": ["Outcome", "forget", "ready"]}


def library_pages(root: Path) -> dict[str, str]:
    """A page a room; mkdocstrings reads the sources and runs none of them."""
    pages = {}
    for room, (head, first, modules) in ROOMS.items():
        text = [f"# {head}", "", first, ""]
        for name in modules:
            for module in _modules(root, name):
                text += _block(module, NAMED.get(name))
        pages[f"api/{room}.md"] = "\n".join(text)
    return pages


def _modules(root: Path, name: str) -> Iterator[str]:
    """`objectives` -> every module of the room, in its folders too."""
    place = root / "pipeline_lib" / Path(*name.split("."))
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] != "__init__" and path.stat().st_size:
            yield ".".join(parts)


def _block(module: str, members: list[str] | None) -> list[str]:
    lines = [f"::: {module}", "    options:"]
    if members:
        lines += ["      members:", *(f"        - {name}" for name in members)]
    return [*lines, "      heading_level: 2", ""]


# --- the keys of a suite --------------------------------------------------------------------------------


def suite_keys(root: Path) -> dict[str, str]:
    """The JSON schema that editors read, as a page."""
    schema = json.loads((root / SCHEMA).read_text(encoding="utf-8"))
    text = [
        "# The keys of a suite",
        "",
        "Every key that a suite file may have, with its type and default: what `unlearning schema` writes "
        f"for editors ([`suite.schema.json`](../{SCHEMA})), as a page. A suite that breaks it is refused "
        "before any job, with the field, what was found, and the cure.",
        "",
    ]
    text += ["## The suite", "", *_table(schema)]
    blocks = schema["$defs"]
    for name in sorted(blocks, key=lambda name: _title(name).lower()):
        block = blocks[name]
        if block.get("properties"):
            text += [f"## {_title(name)}", "", *_said(block.get("description", "")), *_table(block)]
    return {"suite-keys.md": "\n".join(text)}


def _title(name: str) -> str:
    """`pipeline_lib__tasks__tofu__Settings` -> `Task tofu`."""
    parts = name.split("__")
    return f"Task {parts[2]}" if len(parts) == 4 else name


def _anchor(name: str) -> str:
    return _title(name).lower().replace(" ", "-")


def _said(text: str) -> list[str]:
    """A docstring as lines of text, in which nothing is Markdown."""
    return ["```text", text, "```", ""] if text else []


def _table(block: dict[str, Any]) -> list[str]:
    needed = block.get("required", [])
    lines = ["| key | type | default | what |", "|---|---|---|---|"]
    for name, field in block["properties"].items():
        default = "needed" if name in needed else _default(field)
        cells = (f"`{name}`", _type(field), default, _plain(field.get("description", "")))
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _default(field: dict[str, Any]) -> str:
    if "default" not in field or field["default"] is None:
        return ""
    text = json.dumps(field["default"], ensure_ascii=False)
    return f"`{_cell(text)}`" if len(text) <= 60 else "as below"


def _plain(text: str) -> str:
    """Text in a cell, as it is."""
    return (
        _cell(text).replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
        if "`" not in text
        else _cell(text)
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{_title(name)}](#{_anchor(name)})"
    if kinds := field.get("anyOf", field.get("oneOf")):
        return " or ".join(dict.fromkeys(_type(kind) for kind in kinds if kind.get("type") != "null"))
    if "const" in field or "enum" in field:
        values = field.get("enum", [field.get("const")])
        return ", ".join(f"`{_cell(json.dumps(value))}`" for value in values)
    if field.get("type") == "array":
        return f"list of {_type(field['items']) if field.get('items') else 'anything'}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"label: {_type(inner)}" if isinstance(inner, dict) and inner else "block"
    return _number(field)


def _number(field: dict[str, Any]) -> str:
    """`integer from 1`, `number above 0 to 1`; the schema's own limits of floats are not told."""
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "to"}
    limits = [f"{word} {field[key]}" for key, word in words.items() if abs(field.get(key, FAR)) < FAR]
    return " ".join([field.get("type", "anything"), *limits])
