"""The JSON schema for editors: it takes what the reader takes, and marks the usual slips."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipeline_lib.commands.suite import SCHEMA
from pipeline_lib.core.blocks import PATTERNS
from pipeline_lib.study.schema import schema_text, suite_schema
from tests.study.suites import small
from tests.study.test_suite_files import SHIPPED, TEN_LINES

VALIDATOR = Draft202012Validator(suite_schema())


def test_the_file_is_in_step() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "run `unlearning schema`"
    Draft202012Validator.check_schema(suite_schema())


def test_only_words_of_json_schema_are_used() -> None:
    """A limit under a Python name would be no limit to an editor."""
    assert not {'"gt":', '"ge":', '"lt":', '"le":'} & set(schema_text().split())


def test_every_pattern_of_a_suite_has_words() -> None:
    """A message says what is expected, not which pattern a text does not match."""

    def patterns(part: Any) -> set[str]:
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        own = {part["pattern"]} if isinstance(part, dict) and isinstance(part.get("pattern"), str) else set()
        return own.union(*map(patterns, inner))

    assert patterns(suite_schema()) <= set(PATTERNS)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_suites_fit(path: Any) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


def test_short_suites_fit() -> None:
    short = yaml.safe_load(TEN_LINES.format(preset="tiny"))
    for name in (
        "adamw",
        "slow",
    ):  # YAML 1.2, which editors read, has 5e-6 as a number; PyYAML has it as text
        short["optimizers"][name]["learning_rate"] = 5e-6
    VALIDATOR.validate(short)
    VALIDATOR.validate(small())


@pytest.mark.parametrize(
    "change",
    [
        {"preset": "tyni"},
        {"optimiser": {}},
        {"models": {}},
        {"models": {"a b": {"source": "scratch"}}},
        {"objectives": {"GradDif": {"gamma": 1}}},
        {"objectives": {"GradDiff": {"gama": 1}}},
        {"objectives": {"mine": {"kind": "GradDif"}}},
        {"optimizers": {"mine": {"kind": "adamw"}}},
        {"optimizers": {"adamw": None}},
        {"optimizers": {"adamw": {"learning_rate": -1}}},
        {"optimizers": {"adamw": {"kind": "sophia", "learning_rate": 1}}},
        {"unlearn": {"batch_size": 0}},
        {"runs": []},
    ],
    ids=str,
)
def test_slips_do_not_fit(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(small(**change))


@pytest.mark.parametrize("block", ["suite", "models", "tasks", "objectives", "optimizers"])
def test_blocks_without_default_are_asked_for(block: str) -> None:
    raw = small()
    del raw[block]
    assert not VALIDATOR.is_valid(raw)
    assert VALIDATOR.is_valid({**raw, "preset": "tiny"}) == (block in {"models", "tasks"})
