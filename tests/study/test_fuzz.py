"""Whatever is done to a suite: it is read, or refused with a message for people. Nothing else happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_lib.core.errors import UserError
from pipeline_lib.study import Suite, dump_suite, load_suite, parse_suite
from pipeline_lib.study.table import models_of, run_labels
from tests.paths import REPO
from tests.study.suites import small

WORDS = """
preset kind source adamw sophia GradDiff NPO original scratch hub fictitious tofu files prompt template chat
learning_rate gamma max_records forget tiny [key] {prompt} ../x
"""
NAMES = st.sampled_from([*Suite.model_fields, *WORDS.split()])
SCALARS = st.one_of(
    NAMES,
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.text(st.characters(), max_size=4),  # half characters too
    st.binary(max_size=3),
    st.dates(),
)
KEYS = st.one_of(NAMES, st.text(max_size=4), st.integers(), st.none(), st.floats(), st.dates(), st.booleans())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
BLOCK = {
    "methods": ["GradDiff"],
    "optimizers": ["adamw"],
    "objective": {"gamma": 1},
    "optimizer": {"eps": 1e-8},
}


def changed(draw: Any, part: Any) -> Any:
    """`part` with one thing in it exchanged, taken away, added or renamed, at any depth."""
    if isinstance(part, dict | list) and part and draw(st.integers(0, 3)):
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = draw(st.sampled_from(keys))
        copy: Any = part.copy()
        copy[key] = changed(draw, part[key])
        return copy
    if isinstance(part, dict):
        copy = dict(part)
        if copy and draw(st.booleans()):
            value = copy.pop(draw(st.sampled_from(list(copy))))
            if draw(st.booleans()):
                copy[draw(KEYS)] = value
            return copy
        return {**copy, draw(KEYS): draw(VALUES)}
    if isinstance(part, int | float) and draw(st.booleans()):  # some changes are fine
        return draw(st.integers(0, 9) | st.floats(0, 2))
    return draw(VALUES)


@st.composite
def mutants(draw: Any) -> Any:
    suite = small(
        runs=[BLOCK, {"methods": ["NPO"], "optimizers": ["sophia"], "unlearn": {"epochs": 1}}],
        evaluation={"max_records": {"forget": 3}, "compute": "fp32"},
        models={"tiny": {"source": "scratch", "prompt": {"template": "{prompt}"}}},
    )
    for _ in range(draw(st.integers(1, 2))):
        suite = changed(draw, suite)
    return suite


@settings(max_examples=200)
@given(mutants())
def test_a_changed_suite_is_read_or_refused(raw: Any) -> None:
    try:
        suite = parse_suite(raw)
    except UserError as error:
        str(error).encode("utf-8")  # can be printed, half characters or not
        return
    assert run_labels(models_of(suite))
    assert parse_suite(yaml.safe_load(dump_suite(suite))).resolved() == suite.resolved()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2000), st.integers(0, 40), st.text("{}[]:-#&*!|>'\"%@`?, \t\nabc019.é\u2028", max_size=12)
)
def test_a_changed_file_is_read_or_refused(tmp_path: Path, start: int, cut: int, text: str) -> None:
    whole = (REPO / "config.yaml").read_text(encoding="utf-8")
    path = tmp_path / "suite.yaml"
    path.write_text(whole[:start] + text + whole[start + cut :], encoding="utf-8")
    try:
        load_suite(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ")
