"""What a choice of settings knows of a model: the likelihoods of single questions, as in scores.csv.

Trials keep these lines, and the choice makes the same ones from the records of `original` and `retrained`, so
that settings are chosen by the very quantities by which models are judged, rounded in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import run_again
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.sealing import sealed_jsonl
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.probability import PROBABILITY
from pipeline_lib.metrics.questions import NAMES, VALUES, question_rows, questions_of
from pipeline_lib.metrics.rows import Row, check_row
from pipeline_lib.metrics.study import Scores
from pipeline_lib.metrics.subjects import Split
from pipeline_lib.reporting.scores import utility_splits

LIKELIHOODS = ("log_probability", "probability")


def asked_splits(manifest: Mapping[str, Any]) -> list[str]:
    """The forget set, and every split whose scores must not fall."""
    return [FORGET_SPLIT, *utility_splits(manifest)]


def likelihood_lines(rows: Iterable[Row], manifest: Mapping[str, Any]) -> list[Row]:
    """NAMES and LIKELIHOODS of every question of these rows of likelihoods."""
    splits = {}
    for name, found in grouped((row["split"], row) for row in rows).items():
        for row in found:
            check_row(row)
        splits[name] = Split.of(name, found, multiple_choice=name in manifest["multiple_choice"])
        list(splits[name].measure(PROBABILITY))  # which leaves the value of every question
    return [{name: line[name] for name in (*NAMES, *LIKELIHOODS)} for line in question_rows(splits)]


def scores_of_records(path: Path, manifest: Mapping[str, Any]) -> Scores:
    """The scores of an evaluated model on the forget set and the utility splits, from its records."""
    rows, asked = sealed_jsonl(path), asked_splits(manifest)
    if missing := [split for split in asked if all(row["split"] != split for row in rows)]:
        raise UserError(f"{path}: holds no records of {', '.join(missing)}. {run_again(path)}")
    return scores_of(likelihood_lines([row for row in rows if row["split"] in asked], manifest))


def scores_of(lines: Iterable[Row]) -> Scores:
    """The scores of one model by split; what needs answers is missing."""
    return questions_of({**dict.fromkeys(VALUES), **line} for line in lines)
