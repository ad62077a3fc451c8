"""The figure of power: its formulas against simulation, its marks against the study's numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.reporting.catalog import FIGURES
from pipeline_lib.reporting.figures import build_figure
from pipeline_lib.reporting.figures.power import critical_distance, detectable_distance
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.paired import detectable_difference
from tests.reporting.study import QUESTIONS, Study, without_lines, write_json


def _axes(study: Study) -> Any:
    return build_figure("power", Inputs(study.paths(*FIGURES["power"].needs))).axes


def _marks(ax: Any, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in ax.lines if line.get_marker() == marker]
    return [
        (float(x), float(y))
        for line in lines
        for x, y in zip(*map(np.atleast_1d, line.get_data()), strict=True)
    ]


def _power(draw_pair: Any, studies: int = 400) -> float:
    rng = np.random.default_rng(0)
    return float(np.mean([stats.ks_2samp(*draw_pair(rng)).pvalue < 0.05 for _ in range(studies)]))


THREE_ERRORS = 3 * math.sqrt(0.8 * 0.2 / 400)


@pytest.mark.parametrize("n", [40, 200])
def test_the_distance_is_found_with_at_least_80_percent_whatever_the_shape(n: int) -> None:
    """A shift of a normal distribution, and a mixture in which only a share D of the rows differs at all."""
    distance = float(detectable_distance(n))
    shift = 2 * stats.norm.ppf((1 + distance) / 2)  # D of two normals: 2 Phi(shift / 2) - 1
    shifted = _power(lambda rng: (rng.normal(size=n), rng.normal(shift, size=n)))
    mixed = _power(lambda rng: (rng.normal(size=n), rng.normal(size=n) + 9 * (rng.random(n) < distance)))
    assert min(shifted, mixed) >= 0.8 - THREE_ERRORS


def test_the_bound_is_tight_for_two_valued_rows_and_a_shift_needs_only_the_critical_distance() -> None:
    n = 400
    d = float(detectable_distance(n))
    two_valued = _power(lambda rng: (rng.random(n) < (1 + d) / 2, rng.random(n) < (1 - d) / 2))
    assert abs(two_valued - 0.8) <= THREE_ERRORS + 0.02  # of a distance that moves in steps of 1 / n
    shift = 2 * stats.norm.ppf((1 + float(critical_distance(n))) / 2)
    shifted = _power(lambda rng: (rng.normal(size=n), rng.normal(shift, size=n)))
    assert abs(shifted - 0.8) <= THREE_ERRORS + 0.02


def test_critical_and_detectable_distance_by_hand() -> None:
    # sqrt(-ln(0.025) / 2) = 1.3581; times sqrt(2 / 200) = 0.1
    assert critical_distance(200) == pytest.approx(0.13581, rel=1e-4)
    d = float(detectable_distance(200))
    assert d - 0.13581 == pytest.approx(0.84162 * math.sqrt((1 - d**2) / 400), rel=1e-3)
    falling = detectable_distance([2, 4, 10, 100, 1000, 10**6])
    assert falling[0] == 1 and (np.diff(falling) < 0).all() and falling[-1] < 0.003
    assert critical_distance(100) < detectable_distance(100)


def test_marks_are_the_study_s_questions_groups_and_rows(root: Path) -> None:
    numbers = {("NPO", "sophia", seed, "forget", "ks_statistic"): 0.2 + 0.1 * seed for seed in (1, 2, 3)}
    left, _ = _axes(Study(root, numbers=numbers).write())  # type: ignore[arg-type]
    assert _marks(left, "o") == [
        (4, pytest.approx(float(detectable_distance(4)))),
        (40, pytest.approx(float(detectable_distance(40)))),
    ]
    assert [text.get_text() for text in left.texts] == ["4 groups: 0.99", "40 questions: 0.39"]
    rows = _marks(left, "_")
    assert len(rows) == 10 and {x for x, _ in rows} == {40}
    assert any(y == pytest.approx(0.4) for _, y in rows)  # mean of 0.3, 0.4, 0.5
    assert len(_marks(left, "X")) == 1


def test_where_every_question_is_a_group_one_mark_is_both(root: Path) -> None:
    study = Study(root, seeds=(1,), methods={"NPO": 1.0}, diverged={}).write()
    manifest = study.manifest()
    manifest["splits"] |= {"forget": {**manifest["splits"]["forget"], "groups": QUESTIONS}}
    write_json(root / "data" / study.task / "manifest.json", manifest)
    left, _ = _axes(study)
    assert [text.get_text() for text in left.texts] == ["40 questions: 0.39"]
    assert len(_marks(left, "o")) == 1


def test_marks_of_pairs_are_their_detectable_differences(root: Path) -> None:
    """One pair of rows whose differences over three seeds have a standard deviation of 0.1."""
    numbers: dict[tuple[str, str, int, str, str], float] = {}
    for seed, d in {1: 0.3, 2: 0.4, 3: 0.5}.items():
        numbers["NPO", "sophia", seed, "forget", "ks_statistic"] = d
        numbers["NPO", "adamw", seed, "forget", "ks_statistic"] = 0.9
    pair = [{"first": "sophia", "second": "adamw", "question": "Does curvature help?"}]
    study = Study(root, methods={"NPO": 1.0}, numbers=numbers, comparisons=pair).write()
    _, right = _axes(study)
    expected = detectable_difference(0.1, 3, 1)
    assert [y for _, y in _marks(right, "o")] == [pytest.approx(expected)]
    curve = next(line for line in right.lines if line.get_linestyle() == "-" and len(line.get_xdata()) > 2)
    at = dict(zip(curve.get_xdata(), curve.get_ydata(), strict=True))
    assert at[3] == pytest.approx(expected) and at[10] == pytest.approx(detectable_difference(0.1, 10, 1))
    assert len(_marks(right, "s")) == 1  # model utility


def test_without_seeds_or_wrong_answers_the_panels_say_so(root: Path) -> None:
    study = Study(root, seeds=(1,), methods={"NPO": 1.0}, diverged={}).write()
    without_lines(root / "metrics.csv", ",ks_statistic,", ",forget_quality")
    left, right = _axes(study)
    assert [text.get_text() for text in left.texts] == ["no wrong answers, no KS test"]
    assert [text.get_text() for text in right.texts] == ["no pair of rows with a test over seeds"]


def test_pairs_without_any_power_are_counted(root: Path) -> None:
    """Two seeds that disagree wholly: the detectable difference is far above 1, the largest there is."""
    numbers: dict[tuple[str, str, int, str, str], float] = {}
    for seed in (1, 2):
        numbers["NPO", "sophia", seed, "forget", "ks_statistic"] = float(seed == 1)
        numbers["NPO", "adamw", seed, "forget", "ks_statistic"] = float(seed == 2)
    pair = [{"first": "sophia", "second": "adamw", "question": "Does curvature help?"}]
    study = Study(root, seeds=(1, 2), methods={"NPO": 1.0}, diverged={}, numbers=numbers, comparisons=pair)
    _, right = _axes(study.write())
    assert right.get_title(loc="right") == "above 1, no power at all: 1"
    assert right.get_ylim()[1] == 1
