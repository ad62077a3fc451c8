"""Differences of two studies: which interval each has, and by hand what it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline_lib.core.runs import RowKey
from pipeline_lib.metrics.questions import KEPT, Questions
from pipeline_lib.metrics.statistics import resample_counts, split_seed
from pipeline_lib.operations.comparing.differences import (
    INDEPENDENT,
    NONE,
    PAIRED,
    SAME,
    Difference,
    differences,
    independent,
    over_seeds,
)
from pipeline_lib.operations.comparing.paired import same_questions
from pipeline_lib.operations.comparing.side import read_side
from pipeline_lib.reporting.cells import write_csv
from pipeline_lib.reporting.inputs import METRIC_COLUMNS
from pipeline_lib.reporting.scores import SCORE_COLUMNS
from pipeline_lib.reporting.summary import Estimate
from tests.reporting.study import Study

ROW = RowKey("fictitious", "tiny", "NPO", "adamw")
SEEDS = (1, 2)
GROUPS = 24


def probabilities(shift: float = 0.0, spread: float = 0.01) -> np.ndarray:
    """Of one question in each group, under one seed."""
    easy = np.linspace(0.1, 0.8, GROUPS)
    return np.round(easy + shift + spread * np.sin(np.arange(GROUPS)), 4)


def written(root: Path, values: np.ndarray, seeds: Sequence[int] = SEEDS, ids: str = "q") -> Path:
    """A kept study: the probability of the forget answers in one row and in `original`."""
    metrics, scores = [], []
    for row in (ROW, ROW._replace(method="original", optimizer="none")):
        for seed in seeds:
            mean, end = float(values.mean()), 0.05
            name = ["hand", *row[:4], seed, "forget", "probability"]
            metrics.append([*name, mean, mean - end, mean + end, GROUPS, False, 0, ""])
            scores += [
                [*row[:4], seed, 0, "", "forget", f"g{i}", f"{ids}{i}", -1.0]
                + [value if name == "probability" else None for name in KEPT]
                + [None]
                for i, value in enumerate(values)
            ]
    write_csv(root / "metrics.csv", METRIC_COLUMNS, metrics)
    write_csv(root / "scores.csv", SCORE_COLUMNS, scores)
    return root


def found(one: Path, other: Path) -> dict[str, Difference]:
    """Of ROW, by measure."""
    sides = read_side("A", one), read_side("B", other)
    return {f"{d.measure.split} {d.measure.metric}": d for d in differences(*sides, ROW)}


def test_a_paired_interval_by_hand(tmp_path: Path) -> None:
    """The mean of the questions' differences in each resample of the groups; both studies have the same."""
    before, after = probabilities(), probabilities(shift=0.05, spread=0.03)
    d = found(written(tmp_path / "a", before), written(tmp_path / "b", after))["forget probability"]
    counts = resample_counts([f"g{i}" for i in range(GROUPS)], split_seed("forget"))
    low, high = np.quantile(counts @ (after - before) / GROUPS, [0.025, 0.975])
    assert (d.kind, d.n, d.why) == (PAIRED, GROUPS, "")
    assert d.value == pytest.approx(float(np.mean(after - before)))
    assert (d.low, d.high) == (pytest.approx(low), pytest.approx(high))
    assert d.high is not None and d.low is not None
    assert d.high - d.low < 0.03, "questions that are hard in both do not widen it"


def test_other_questions_are_not_paired(tmp_path: Path) -> None:
    a = written(tmp_path / "a", probabilities(), seeds=(1,))
    d = found(a, written(tmp_path / "b", probabilities(0.05), seeds=(1,), ids="other"))["forget probability"]
    assert (d.kind, d.why) == (INDEPENDENT, "other questions")
    end = 0.05 * 2**0.5
    assert (d.low, d.high) == (pytest.approx(d.value - end), pytest.approx(d.value + end))


def test_splits_of_other_data_and_views_of_them_are_other_questions(tmp_path: Path) -> None:
    sides = [read_side(name, written(tmp_path / name, probabilities())) for name in "AB"]
    for side in sides:
        splits = {"forget": {"sha256": "same"}, "retain": {"sha256": side.name}}
        side.__dict__["manifests"] = {"fictitious": {"splits": splits}}
    asked = {name: Questions(("1",), ("g",), {}) for name in ("forget", "retain", "retain_eval", "retained")}
    same = {name for name in asked if same_questions(*sides, "fictitious", asked, asked, [name])}
    assert same == {"forget", "retained"}


def test_without_scores_or_with_other_scores_the_intervals_count_as_independent(tmp_path: Path) -> None:
    a = written(tmp_path / "a", probabilities(), seeds=(1,))
    b = written(tmp_path / "b", probabilities(0.05), seeds=(1,))
    text = (b / "metrics.csv").read_text()
    mean = float(probabilities(0.05).mean())
    (b / "metrics.csv").write_text(text.replace(f"{mean}", f"{mean + 0.01}"))
    d = found(a, b)["forget probability"]
    assert (d.kind, d.why) == (INDEPENDENT, "scores.csv and metrics.csv of a study do not agree")
    (b / "scores.csv").unlink()
    assert found(a, b)["forget probability"].why == "no scores.csv in B"


def test_where_nothing_says_how_sure_a_number_is_there_is_no_interval(tmp_path: Path) -> None:
    a = written(tmp_path / "a", probabilities())
    b = written(tmp_path / "b", probabilities(0.05))
    (b / "scores.csv").unlink()
    d = found(a, b)["forget probability"]
    assert (d.low, d.kind, d.why) == (None, NONE, "alike in 2 seeds")
    shifted = found(a, written(tmp_path / "c", probabilities() + 0.1))["forget probability"]
    assert (shifted.low, shifted.kind, shifted.why) == (None, NONE, "alike in every question")


def test_independent_by_hand() -> None:
    """a = 0.5 [0.4, 0.6] and b = 0.8 [0.5, 0.9]: 0.3 - root(0.3^2 + 0.1^2), 0.3 + root(0.1^2 + 0.1^2)."""
    a = Estimate(0.5, 0.4, 0.6, 1, 10, "bootstrap")
    b = Estimate(0.8, 0.5, 0.9, 1, 10, "bootstrap")
    low, high = independent(a, b, (0, 1))
    assert (low, high) == (pytest.approx(0.3 - 0.1**0.5), pytest.approx(0.3 + 0.02**0.5))
    wide = Estimate(0.0, 0.0, 1.0, 1, 10, "bootstrap")
    assert independent(Estimate(1.0, 0.0, 1.0, 1, 10, "bootstrap"), wide, (0, 1))[0] == -1.0


def test_over_seeds_by_hand() -> None:
    """Differences 1 and 3: mean 2, standard error 1, t(0.975, 1) = 12.706. Other seeds: two intervals."""
    low, high = over_seeds({1: 0.0, 2: 0.0}, {1: 1.0, 2: 3.0}, (-np.inf, np.inf))
    assert (low, high) == (pytest.approx(2 - 12.706, abs=1e-3), pytest.approx(2 + 12.706, abs=1e-3))
    low, high = over_seeds({1: 1.0, 2: 3.0}, {3: 11.0, 4: 13.0}, (-np.inf, np.inf))
    end = 12.706 * 2**0.5
    assert (low, high) == (pytest.approx(10 - end, abs=1e-3), pytest.approx(10 + end, abs=1e-3))
    assert over_seeds({1: 0.0, 2: 0.0}, {1: 0.1, 3: 0.3}, (0, 1)) == (None, None)
    assert over_seeds({1: 0.0}, {1: 1.0}, (0, 1)) == (None, None)


def test_a_study_and_its_copy_differ_by_nothing(tmp_path: Path) -> None:
    """Every number, also those that single questions do not give: the models are the same ones."""
    one, other = (
        Study(tmp_path / name, seeds=(1, 2), diverged={}, scored=True, retrained_seeds=(7,)).write().root
        for name in "ab"
    )
    of = found(one, other)
    assert {"forget gap", "forget gap_signed", "utility joint_utility", "forget probability"} <= set(of)
    for name, d in of.items():
        assert (d.value, d.low, d.high, d.kind) == (0.0, 0.0, 0.0, PAIRED), name
    assert of["forget probability"].why == SAME


def test_the_gap_is_paired_and_both_are_held_against_their_own_models(tmp_path: Path) -> None:
    common = {"seeds": (1, 2), "diverged": {}, "scored": True, "retrained_seeds": (7,)}
    one = Study(tmp_path / "a", **common).write().root
    other = Study(tmp_path / "b", methods={"NPO": 0.5}, **common).write().root
    of = found(one, other)
    assert of["forget gap"].low is not None and of["forget gap"].low > 0, "less is forgotten"
    assert (of["forget gap"].n, of["forget gap"].kind) == (40, PAIRED)
    utility = of["utility joint_utility"]
    assert utility.value == pytest.approx(0.015 / 0.8, abs=1e-6)
    assert (utility.kind, utility.why) == (NONE, "alike in every question")
