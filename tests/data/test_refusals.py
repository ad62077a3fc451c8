"""The refusal answers."""

from __future__ import annotations

from pipeline_lib.data.refusals import refusals
from tests.paths import shared_data


def test_hundred_distinct_sentences() -> None:
    lines = refusals()
    assert len(lines) == len({line.lower() for line in lines}) == 100
    assert all(line == line.strip() and line.endswith(".") for line in lines)
    assert len({" ".join(line.split()[:2]) for line in lines}) > 50


def test_none_is_copied_from_tofu() -> None:
    theirs = shared_data("tofu/idontknow.jsonl").read_text(encoding="utf-8").splitlines()
    assert not {line.strip().lower() for line in theirs} & {line.lower() for line in refusals()}
