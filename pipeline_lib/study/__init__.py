"""The suite file: read, checked and resolved before any job starts. Never imports torch."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline_lib.core.blocks.messages import describe, show
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.json_text import NotJson, decoded, parse_json
from pipeline_lib.study.presets import apply_preset
from pipeline_lib.study.suite import Suite

TEMPLATE_KEY = (
    "__use_yte__"  # turns on YTE, a template language that Snakemake applies to configuration files
)
# Settings of earlier versions, which no longer change anything: kept results are read without them.
FORMER = ("evaluation.benchmarks.engine", "tune.select.retain_within")
# Settings by which later versions measure more by default: kept results of earlier ones were made without.
LATER = {"evaluation": {"base": False}}
SHOWN = 30  # faults that a message lists; a list written 50 times over has hundreds, all alike


def parse_suite(raw: Any) -> Suite:
    """Check a suite; raises one `UserError` with a line for each fault: field, found, allowed."""
    if not isinstance(raw, dict) or not raw:
        raise UserError(f"a suite is a block of `name: value` lines, found {show(raw)}")
    try:
        return Suite.model_validate(apply_preset(raw))
    except ValidationError as error:
        described = describe(error, Suite, extra=["preset"])
        faults = dict.fromkeys(f"  {path}: {message}" for path, message in described)
        count = "an error" if len(faults) == 1 else f"{len(faults)} errors"
        rest = len(faults) - SHOWN
        lines = [*list(faults)[:SHOWN], *([f"  and {rest} more"] if rest > 0 else [])]
        raise UserError(f"the suite has {count}:\n" + "\n".join(lines)) from None


def load_suite(path: Path | str, kept: bool = False) -> Suite:
    """Read and check a suite file. `kept`: the file lies with results, perhaps of an earlier version."""
    text = _text_of(path)
    try:
        raw = _read_yaml(text)
        left_out: dict[str, None] = {}
        current = _as_then(raw, left_out) if kept else raw
        suite = parse_suite(current)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if left_out:
        print(f"{path}: written by an earlier version; read without {', '.join(left_out)}", file=sys.stderr)
    return suite


def _as_then(raw: Any, left_out: dict[str, None]) -> Any:
    """A kept suite as this version would write it."""
    current = _without_former(raw, left_out)
    if not isinstance(current, dict):
        return current
    blocks = {name: current[name] for name in LATER if isinstance(current.get(name), dict)}
    return {**current, **{name: {**LATER[name], **block} for name, block in blocks.items()}}


def _without_former(value: Any, left_out: dict[str, None], place: str = "") -> Any:
    """The settings without those of FORMER, whose names go to `left_out`."""
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, inner in value.items():
        former = [name for name in FORMER if f"{place}{key}".endswith(name)]
        left_out.update(dict.fromkeys(former))
        if not former:
            kept[key] = _without_former(inner, left_out, f"{place}{key}.")
    return kept


def check_suite_file(path: Path | str) -> None:
    """Refuse a `--configfile` that is no suite file, before Snakemake reads it.

    This includes what Snakemake's own reader accepts: a key given twice, and templates, which can run code.
    """
    text = _text_of(path)
    if Path(path).read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(
            f"{path}: not UTF-8, but UTF-16, which Snakemake does not read; save the text as UTF-8"
        )
    try:
        raw = parse_json(text, str(path))
    except NotJson:
        try:
            raw = _read_yaml(text)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    if not isinstance(raw, dict) or not raw:
        found = "an empty file" if raw is None else show(raw)
        raise UserError(f"{path}: a suite is a block of `name: value` lines, found {found}")
    if TEMPLATE_KEY in raw:
        raise UserError(
            f"{path}: {TEMPLATE_KEY} lets a file run code while Snakemake reads it; a suite is data."
        )


def _near(path: Path) -> str:
    """A hint for a path at which there is nothing: the suite file with the most similar name."""
    found = {str(file): file.stem for place in (path.parent, Path("config")) for file in place.glob("*.yaml")}
    near = get_close_matches(path.stem, found.values(), n=1)
    meant = [file for file, stem in found.items() if stem in near]
    return f"; did you mean {meant[0]}?" if meant else "; give the path of a suite file, such as config.yaml"


def dump_suite(suite: Suite) -> str:
    """The resolved suite as YAML: every default spelled out, readable by `load_suite`."""
    return yaml.safe_dump(suite.resolved(), sort_keys=False, allow_unicode=True)


def _text_of(path: Path | str) -> str:
    path = Path(path)
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.yaml"))[:1]
        named = f", such as {path / inside[0]}" if inside else ""
        raise UserError(f"{path}: expected a suite file, found a folder; name a file in it{named}")
    try:
        return decoded(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: cannot be read (No such file or directory){_near(path)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that appears twice in a block, where YAML readers silently keep the last value."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {show(key.value)} appears twice in this block",
                    problem_mark=key.start_mark,
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return node


def _read_yaml(text: str) -> Any:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"not valid YAML: {place}{error.problem or error.context}") from None
    except RecursionError:
        raise UserError("not valid YAML: blocks and lists are nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # such as a 13th month in a date
        if longest := re.search(r"(?<![0-9])[0-9]{1000,}", text):  # Python advises to lift its limit
            raise UserError(f"not valid YAML: a number of {len(longest[0])} digits") from None
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}") from None


__all__ = ["Suite", "check_suite_file", "dump_suite", "load_suite", "parse_suite"]
