"""Names become folders, also on the shares of Windows: what those cannot hold is refused with the suite."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.study import parse_suite
from tests.study.suites import small

REFUSED = {
    "CON": "device",
    "nul": "device",
    "Aux.txt": "device",
    "com1": "device",
    "LPT9.tar.gz": "device",
    "a.": "dot",
    "a ": "a name becomes a folder",
    "a:b": "a name becomes a folder",
    "a*b?": "a name becomes a folder",
    'a"<>|b': "a name becomes a folder",
    "a\\b": "a name becomes a folder",
    "a\x1bb": "a name becomes a folder",
}


def renamed(family: str, name: str) -> dict[str, Any]:
    """A small suite in which one thing of a family has this name."""
    suite = small(runs=None, comparisons=None)
    if family == "suite":
        return {**suite, "suite": name}
    first, *rest = suite[family].items()
    value = {"kind": first[0], **(first[1] or {})} if family in ("objectives", "optimizers") else first[1]
    return {**suite, family: {name: value, **dict(rest)}}


@pytest.mark.parametrize("family", ["suite", "models", "tasks", "objectives", "optimizers"])
@pytest.mark.parametrize("name", REFUSED)
def test_names_that_no_share_can_hold(family: str, name: str) -> None:
    with pytest.raises(UserError, match=REFUSED[name]):
        parse_suite(renamed(family, name))


@pytest.mark.parametrize("name", ["console", "a.con", "com10", "auxiliary.v1", "nul_model", "lpt"])
def test_names_that_only_resemble_them(name: str) -> None:
    assert parse_suite(renamed("tasks", name)).tasks.keys() >= {name}


@pytest.mark.parametrize("family", ["models", "tasks", "objectives", "optimizers"])
def test_two_names_that_differ_in_case(family: str) -> None:
    suite = small(runs=None, comparisons=None)
    name, value = next(iter(suite[family].items()))
    kind = {"kind": name} if family in ("objectives", "optimizers") else {}
    suite[family] = {"abc": {**kind, **(value or {})}, "ABC": {**kind, **(value or {})}}
    with pytest.raises(UserError, match="differs from 'abc' in case alone"):
        parse_suite(suite)
