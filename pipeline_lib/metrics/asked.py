"""The rows of separate evaluations (toxicity, benchmarks, inside), checked and made subjects of metrics."""

from __future__ import annotations

import math
from importlib import import_module

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.grouping import grouped
from pipeline_lib.metrics.definition import FORGET_SPLIT, TOXICITY_SPLIT
from pipeline_lib.metrics.rows import Row, paired
from pipeline_lib.metrics.subjects import Asked, Split

MMLU = "mmlu"
SUBJECTS = "pipeline_lib.metrics.mmlu"  # imported by this name, where MMLU was asked
_AGAIN = "Run this evaluation again."


def toxicity_split(rows: list[Row]) -> Asked:
    """The prompts, each with the same number of samples and scores."""
    if not rows:
        raise UserError(f"the toxicity evaluation holds no prompt. {_AGAIN}")
    expected = len(rows[0]["scores"])
    for row in rows:
        scores = row["scores"]
        if not scores or len(scores) != expected or len(row["samples"]) != expected:
            raise UserError(
                f"toxicity prompt {row['id']!r} has {len(row['samples'])} samples and {len(scores)} scores, "
                f"the first one {expected}: each needs the same number, at least one. {_AGAIN}"
            )
        judged = [*scores, row["as_released"]["score"]] if "as_released" in row else scores
        if not all(math.isfinite(score) and 0 <= score <= 1 for score in judged):
            raise UserError(
                f"toxicity prompt {row['id']!r} has a score that is not from 0 to 1: the classifier is "
                "broken or gives no probability. Choose another one."
            )
    return Asked.of(TOXICITY_SPLIT, rows)


def benchmark_splits(rows: list[Row]) -> list[Asked]:
    """Each task as a split of its own name; MMLU over all questions and by its four groups of subjects.

    MMLU over all is the mean over questions, so that a subject counts by its size, as lm-evaluation-harness
    weighs it. Its intervals resample questions, not subjects: the 57 subjects are the benchmark, not a sample
    of subjects. Every other task resamples its rows' groups.
    """
    if not rows:
        raise UserError(f"the benchmarks hold no question. {_AGAIN}")
    splits = []
    for task, found in grouped((row["task"], row) for row in rows).items():
        found = _checked(task, found)
        splits.append(Asked.of(task, found, "id" if task == MMLU else "group"))
        if task == MMLU:
            splits += _subjects(found)
    return splits


def inside_split(rows: list[Row], reference_rows: list[Row] | None) -> Split:
    """The forget questions looked for in the layers, each with what `retrained` shows of it.

    That stands in `lens_of_retrained` and `drop_of_retrained`; without `reference_rows` (None) there is none,
    and no drop where the two were patched into different models.
    """
    if not rows:
        raise UserError(f"the look into the layers holds no question. {_AGAIN}")
    for row in rows:
        lists = [row[name] for name in ("lens", "drop") if name in row]
        whole = all(len(shown) == len(row["layers"]) and all(map(math.isfinite, shown)) for shown in lists)
        if len(row["layers"]) < 2 or not whole:
            raise UserError(f"question {row['id']!r} lacks numbers of some of its layers. {_AGAIN}")
    if reference_rows is None:
        return Split.of(FORGET_SPLIT, rows)
    beside = paired(rows, reference_rows, FORGET_SPLIT, "forget question")
    if any(row["layers"] != other["layers"] for row, other in zip(rows, beside, strict=True)):
        raise UserError(f"the model and `retrained` were looked into at different layers. {_AGAIN}")
    found = []
    for row, other in zip(rows, beside, strict=True):
        of_retrained = {"lens_of_retrained": other["lens"]}
        if "drop" in row and "drop" in other and row["into"] == other["into"]:
            of_retrained["drop_of_retrained"] = other["drop"]
        found.append(row | of_retrained)
    return Split.of(FORGET_SPLIT, found)


def _subjects(rows: list[Row]) -> list[Asked]:
    of_mmlu = import_module(SUBJECTS)
    for row in rows:
        if row["group"] not in of_mmlu.GROUP_OF_SUBJECT:
            raise UserError(
                f"MMLU question {row['id']!r} is of subject {row['group']!r}, none of the 57. "
                "Give it the subject's name, as in `high_school_physics`."
            )
    parts = {
        name: [row for row in rows if of_mmlu.GROUP_OF_SUBJECT[row["group"]] == name]
        for name in of_mmlu.GROUPS
    }
    return [Asked.of(f"{MMLU}_{name}", part, "id") for name, part in parts.items() if part]


def _checked(task: str, rows: list[Row]) -> list[Row]:
    """The rows, all finite and of one kind; rows of a corpus get the fields that perplexity reads."""
    if len(kinds := {_kind(row) for row in rows}) > 1:
        raise UserError(f"benchmark {task!r} holds rows of different kinds: {', '.join(sorted(kinds))}.")
    kind = kinds.pop()
    without = [row for row in rows if kind == "choice" and row["correct_norm"] is None]
    if 0 < len(without) < len(rows):
        raise UserError(
            f"benchmark {task!r}: question {without[0]['id']!r} has no `correct_norm`, others have "
            f"one. {_AGAIN}"
        )
    names = ("correct", "correct_norm", "score", "nll", "tokens", "words", "bytes")
    numbers = [row[name] for row in rows for name in names if row.get(name) is not None]
    if not all(math.isfinite(number) for number in numbers):
        raise UserError(f"benchmark {task!r} holds a number that is not finite: the model is broken.")
    if kind != "perplexity":
        return rows
    return [{**row, "answer_nll": row["nll"], "answer_tokens": row["tokens"]} for row in rows]


def _kind(row: Row) -> str:
    for field, kind in (("correct", "choice"), ("score", "score"), ("nll", "perplexity")):
        if field in row:
            return kind
    raise UserError(f"benchmark row {row.get('id')!r} has none of `correct`, `score`, `nll`. {_AGAIN}")
