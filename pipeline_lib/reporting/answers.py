"""A sample of answers before and after unlearning, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import visible
from pipeline_lib.reporting import style
from pipeline_lib.reporting.inputs import Inputs

PER_SPLIT = {"forget": 4, "unseen": 2, "retain": 2, "retain_eval": 2}
LONGEST = 500  # characters of an answer; a model that has lost its way repeats itself to the limit


@dataclass(frozen=True)
class Sample:
    """One question and its answers (row, answer), anchors first. All text is made visible."""

    split: str
    prompt: str
    truth: str
    answers: tuple[tuple[str, str], ...]


def sample_answers(inputs: Inputs, task: str, model: str) -> list[Sample]:
    """The same few questions for every row, answered by the row's first finished seed."""
    generations: dict[str, dict[str, str]] = {}
    questions: list[dict[str, Any]] = []
    for row in inputs.rows_of(task, model):
        found = next((r for seed in row.seeds if (r := inputs.records.get(row.key.seeded(seed)))), None)
        if found is None:
            if row.anchor:
                raise UserError(f"the report has no records.jsonl of {row.key}")
            continue
        questions = questions or found
        answered = [record for record in found if "generation" in record]  # non-members are not asked
        generations[style.row_label(row)] = {record["id"]: record["generation"] for record in answered}
    return [
        Sample(
            split,
            end_of(question["prompt"]),
            shortened(question["answer"]),
            tuple((name, shortened(by_id.get(question["id"]))) for name, by_id in generations.items()),
        )
        for split, count in PER_SPLIT.items()
        for question in _choose([q for q in questions if q["split"] == split], count)
    ]


def _choose(questions: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """First questions of all groups, then second ones, and so on: as many different groups as there are."""
    groups = pd.Series([str(question["group"]) for question in questions], dtype=str)
    rank = groups.groupby(groups).cumcount().sort_values(kind="stable")
    return [questions[i] for i in rank.index[:count]]


def end_of(prompt: str) -> str:
    """The prompt, or where that is a long piece of text its end: the answer goes on from there."""
    return visible(prompt if len(prompt) <= LONGEST else "… " + prompt[-LONGEST:])


def shortened(text: str | None) -> str:
    """An answer for people: cut, and in words where there is none."""
    if text is None:
        return "(not asked)"
    if not text.strip():
        return "(empty)"
    return visible(text if len(text) <= LONGEST else text[:LONGEST] + " …")
