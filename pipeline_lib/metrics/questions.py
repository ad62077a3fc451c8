"""Scores of single questions: what is kept of every model, so that any test can be made again without models.

scores.csv has a line for each evaluated question of each model: its group, the mean log-probability of a
token of the true answer (nats, end token included), and, where the task has them, ROUGE-L recall, fluency and
the log of the truth ratio. Standard benchmarks have lines too, by blocks of their questions (`block_rows`).
Values are rounded to `DIGITS` significant digits when they are written;
everything that compares models (study.py) reads them from there, so that results can be computed again to the
last bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np

from pipeline_lib.core.grouping import grouped
from pipeline_lib.metrics.further_seed import of_groups
from pipeline_lib.metrics.rows import Row, answer_of
from pipeline_lib.metrics.subjects import Split

DIGITS = 6
NAMES = ("split", "group", "id")
KEPT = ("probability", "rouge_l_recall", "fluency", "log_truth_ratio")  # metrics of single questions
VALUES = ("log_probability", *KEPT, "above_chance")
BENCHMARK = "benchmark/"  # before a benchmark's name; no split of a task has a slash
BLOCKS = 100  # of a benchmark, at most


@dataclass(frozen=True, eq=False)
class Questions:
    """One model's scores of one split in one order: `values` by name, each (N,); NaN where there is none."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    def error(self, name: str) -> float:
        """The standard error of the mean over independent questions; 0 of a single one."""
        known = self.values[name][~np.isnan(self.values[name])]
        return float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else 0.0

    @cached_property
    def of_group(self) -> np.ndarray:
        """Which question is of which group, (N, G), 0 or 1."""
        return (of_groups(self.groups) > 0).astype(float)

    def mean_over_groups(self, values: np.ndarray) -> float:
        """Mean over the groups of their questions' mean `values`, (N,)."""
        return float((values @ of_groups(self.groups)).mean())

    def but_first_groups(self, groups: int) -> np.ndarray:
        """Places of the questions of all other groups than the first ones, in order of appearance."""
        first = set(list(dict.fromkeys(self.groups))[:groups])
        return np.array([i for i, group in enumerate(self.groups) if group not in first], dtype=int)

    def at(self, places: np.ndarray) -> Questions:
        """The questions at these places."""
        values = {name: of_all[places] for name, of_all in self.values.items()}
        ids, groups = (tuple(of[i] for i in places) for of in (self.ids, self.groups))
        return Questions(ids, groups, values)

    def has(self, name: str) -> bool:
        """Whether some question has this score."""
        return bool((~np.isnan(self.values[name])).any())

    def mean(self, name: str) -> float:
        """Mean over the questions that have this score."""
        return float(np.nanmean(self.values[name]))


def question_rows(splits: Mapping[str, Split]) -> list[Row]:
    """The lines of one model: NAMES and VALUES, None where a question lacks a score. After `measure`."""
    rows = []
    for name, split in splits.items():
        for i, row in enumerate(split.rows):
            nll, tokens = answer_of(row)
            found = {metric: split.values[metric][i] for metric in KEPT if metric in split.values}
            found |= {"log_probability": -nll / tokens}
            rows.append(
                {"split": name, "group": row["group"], "id": row["id"]}
                | {value: _rounded(found.get(value)) for value in VALUES}
            )
    return rows


def block_rows(benchmarks: Iterable[Split]) -> list[Row]:
    """The lines of one model's standard benchmarks: at most `BLOCKS` for each, every one a group of its own.

    Questions with a right answer have `above_chance`, 1 or 0 less what needs no reading: the share of guesses
    that are right, the mean of 1 / K of K options and 0 of written answers and last words, or where it is
    larger that of the answer that is right most often (BoolQ's "yes", a letter of MMLU). Running text has
    `log_probability` and `probability` per token, as answers have. Question i of N stands in block i mod B,
    B = N // ceil(N / 100); the value of a block is B / N times the sum over its questions, so that the mean
    over blocks is that over questions. What is no share of right answers (TruthfulQA MC2) has no lines, and
    MMLU's groups of subjects have none of their own.
    """
    rows = []
    for split in benchmarks:
        scored = _scores_of_benchmark(split.rows) if split.rows[0]["task"] == split.name else {}
        size = len(split.rows)
        blocks = size // math.ceil(size / BLOCKS)
        for block in range(blocks if scored else 0):
            name = f"{BENCHMARK}{split.name}"
            row: Row = {"split": name, "group": f"block{block}", "id": f"{name}/{block}"}
            of = {value: blocks / size * math.fsum(found[block::blocks]) for value, found in scored.items()}
            rows.append(row | {value: _rounded(of.get(value)) for value in VALUES})
    return rows


def _scores_of_benchmark(rows: Sequence[Row]) -> dict[str, list[float]]:
    """The values of its questions, in their order; nothing where none counts."""
    if "correct" in rows[0]:
        chance = _chance(rows)
        return {"above_chance": [row["correct"] - chance for row in rows]}
    if "nll" in rows[0]:
        per_token = [-row["nll"] / row["tokens"] for row in rows]
        return {"log_probability": per_token, "probability": [math.exp(value) for value in per_token]}
    return {}


def _chance(rows: Sequence[Row]) -> float:
    """The share of right answers of who has not read the questions: guesses, or gives one answer to all."""
    options = [len(row.get("choice_nll") or ()) for row in rows]
    guessed = fmean(1 / k if k > 1 else 0.0 for k in options)  # one alone: the text's own next words
    ((_, most),) = Counter(row["right"] for row in rows if "right" in row).most_common(1) or [("", 0)]
    return max(guessed, most / len(rows))


def questions_of(rows: Iterable[Row]) -> dict[str, Questions]:
    """The scores of one model by split, from the lines of `question_rows`."""
    return {
        name: Questions(
            tuple(row["id"] for row in found),
            tuple(row["group"] for row in found),
            {
                value: np.array(
                    [math.nan if row.get(value) is None else row[value] for row in found], dtype=float
                )
                for value in VALUES
            },
        )
        for name, found in grouped((row["split"], row) for row in rows).items()
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(f"{value:.{DIGITS}g}")
