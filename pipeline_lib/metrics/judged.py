"""What is kept of a model on its way, when a run is judged by likelihood alone, and its joint utility."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.joint_utility import blind
from pipeline_lib.metrics.probability import normalised_probability, probability
from pipeline_lib.metrics.questions import DIGITS
from pipeline_lib.metrics.rows import Row, answer_of, distractors_of
from pipeline_lib.metrics.study import Studied


def judged_row(rows: Mapping[str, Sequence[Row]], multiple_choice: Collection[str]) -> dict[str, Any]:
    """What is kept of a model on its way, from its likelihoods by split."""
    kept = {split: of_split for split, of_split in rows.items() if split != FORGET_SPLIT}
    return {
        "forget": {
            row["id"]: _rounded(-nll / tokens)
            for row in rows[FORGET_SPLIT]
            for nll, tokens in [answer_of(row)]
        },
        "utility": {
            split: _rounded(float(np.mean([_probability(row, split in multiple_choice) for row in of_split])))
            for split, of_split in kept.items()
        },
    }


def _probability(row: Row, choice: bool) -> float:
    if choice:
        return normalised_probability(*answer_of(row), *distractors_of(row))
    return probability(*answer_of(row))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def parts_before(study: Studied) -> dict[str, float]:
    """Each utility split that is not blind, with its probability under `original` of the same seed."""
    return {
        split: study.original[split].mean("probability")
        for split in study.utility
        if not blind(study, (split, "probability"))
    }


def utility_of(judged: Mapping[str, Any], before: Mapping[str, float]) -> float:
    """Joint utility of likelihoods of a judged step; `before`: see `parts_before`, not empty."""
    return min(float(judged["utility"][split]) / value for split, value in before.items())
