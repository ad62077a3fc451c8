"""Means and intervals over seeds, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.reporting.inputs import Inputs, Row, key_from_path
from pipeline_lib.reporting.summary import Summary, cost_estimate, relative_time
from tests.reporting.study import Study, without_lines

D = ("forget", "ks_statistic")
MU = ("utility", "model_utility")


def _load(study: Study) -> tuple[Inputs, Summary]:
    inputs = Inputs(study.paths("runs.json", "metrics.csv", "costs.csv"))
    return inputs, Summary(inputs)


def _row(inputs: Inputs, method: str, optimizer: str) -> Row:
    return next(row for row in inputs.rows if row.key[2:4] == (method, optimizer))


def test_forget_quality_is_averaged_as_a_logarithm(root: Path) -> None:
    values = {1: -1.0, 2: -3.0, 3: -8.0}
    numbers = {("NPO", "adamw", seed, "forget", "forget_quality_log10"): v for seed, v in values.items()}
    inputs, summary = _load(Study(root, numbers=numbers).write())
    estimate = summary.estimate(_row(inputs, "NPO", "adamw"), "forget", "forget_quality_log10")
    assert estimate is not None and estimate.value == pytest.approx(
        -4.0
    )  # log10 of the mean p would be -1.47


def test_one_seed_has_its_bootstrap_interval(root: Path) -> None:
    numbers = {("NPO", "adamw", 5, *MU): 0.5}
    inputs, summary = _load(Study(root, seeds=(5,), diverged={}, numbers=numbers).write())
    row = _row(inputs, "NPO", "adamw")
    estimate = summary.estimate(row, *MU)
    assert estimate is not None
    assert (estimate.value, estimate.interval, estimate.seeds, estimate.n) == (0.5, "bootstrap", 1, 80)
    assert (estimate.low, estimate.high) == pytest.approx((0.46, 0.53))
    quality = summary.estimate(row, "forget", "forget_quality_log10")
    assert quality is not None and quality.interval == "none"
    assert cost_estimate(inputs, row, "steps").interval == "none"  # type: ignore[union-attr]


def test_diverged_seeds_are_counted_and_left_out(root: Path) -> None:
    numbers = {("GradDiff", "signum", 1, *MU): 0.3, ("GradDiff", "signum", 3, *MU): 0.5}
    inputs, summary = _load(Study(root, numbers=numbers).write())
    row = _row(inputs, "GradDiff", "signum")
    assert summary.diverged(row) == {2: 23} and summary.finished(row) == [1, 3]
    estimate = summary.estimate(row, *MU)
    assert estimate is not None and (estimate.value, estimate.seeds) == (pytest.approx(0.4), 2)
    # The cost of a run that stopped early is left out, too.
    assert cost_estimate(inputs, row, "steps").value == 50  # type: ignore[union-attr]


def test_differences_are_paired_over_shared_seeds(root: Path) -> None:
    first = {("GradDiff", "signum", seed, *D): v for seed, v in {1: 0.9, 3: 0.5}.items()}
    second = {("GradDiff", "sophia", seed, *D): v for seed, v in {1: 0.8, 2: 0.0, 3: 0.3}.items()}
    inputs, summary = _load(Study(root, numbers=first | second).write())
    rows = [_row(inputs, "GradDiff", name) for name in ("sophia", "signum")]
    difference = summary.difference(rows[0], rows[1], *D, comparisons=1)
    # Seeds 1 and 3: -0.1 and -0.2. Mean -0.15, s = 0.0707, half width 12.706 * 0.0707 / sqrt(2) = 0.63531.
    assert difference is not None and difference.seeds == 2
    assert (difference.value, difference.low, difference.high) == pytest.approx(
        (-0.15, -0.78531, 0.48531), abs=1e-5
    )


def test_differences_without_spread_have_no_interval(root: Path) -> None:
    first = {("NPO", "signum", seed, *D): v for seed, v in {1: 0.300, 2: 0.250, 3: 0.275}.items()}
    second = {("NPO", "sophia", seed, *D): v for seed, v in {1: 0.275, 2: 0.225, 3: 0.250}.items()}
    inputs, summary = _load(Study(root, numbers=first | second).write())
    rows = [_row(inputs, "NPO", name) for name in ("sophia", "signum")]
    difference = summary.difference(rows[0], rows[1], *D, comparisons=1)
    # One question of 40 in every seed: a tie of a metric that moves in steps, not certainty.
    assert difference is not None and difference.value == pytest.approx(-0.025)
    assert (difference.low, difference.high, difference.interval) == (None, None, "none")


def test_relative_time_is_against_adamw_of_the_same_seed(study: Study) -> None:
    inputs, _ = _load(study)
    assert relative_time(inputs, _row(inputs, "NPO", "sophia")) == pytest.approx({1: 1.3, 2: 1.3, 3: 1.3})
    assert relative_time(inputs, _row(inputs, "original", "none")) == {}


def test_anchors_come_first_and_must_be_there(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    inputs, _ = _load(study)
    assert [row.key.method for row in inputs.rows[:3]] == ["original", "retrained", "GradDiff"]
    runs = json.loads((root / "runs.json").read_text())
    (root / "runs.json").write_text(json.dumps([run for run in runs if run["method"] != "retrained"]))
    with pytest.raises(UserError, match="no `retrained` run for task fictitious"):
        _ = Inputs(study.paths("runs.json", "manifest.json")).rows


def test_a_missing_metric_is_an_error(root: Path) -> None:
    study = Study(root).write()
    without_lines(root / "metrics.csv", "NPO,adamw,2,utility,model_utility")
    inputs, summary = _load(study)
    with pytest.raises(
        UserError, match="no model_utility of split utility for fictitious/tiny/NPO/adamw, seed 2"
    ):
        summary.estimate(_row(inputs, "NPO", "adamw"), *MU)


def test_retrained_need_not_be_compared_with_itself(root: Path) -> None:
    study = Study(root).write()
    for metric in ("forget_quality", "ks_statistic"):
        without_lines(root / "metrics.csv", "retrained,none,1,forget," + metric)
        for seed in (2, 3):
            without_lines(root / "metrics.csv", f"retrained,none,{seed},forget,{metric}")
    inputs, summary = _load(study)
    assert summary.estimate(_row(inputs, "retrained", "none"), *D) is None
    assert summary.estimate(_row(inputs, "retrained", "none"), *MU) is not None


def test_metrics_must_hold_exactly_the_runs_of_the_suite(root: Path) -> None:
    study = Study(root).write()
    without_lines(root / "metrics.csv", "NPO,adamw,2,")
    with pytest.raises(UserError, match="nothing about the run fictitious/tiny/NPO/adamw/seed2"):
        _load(study)
    study.collect()
    runs = json.loads((root / "runs.json").read_text())
    (root / "runs.json").write_text(json.dumps([run for run in runs if run["optimizer"] != "sophia"]))
    with pytest.raises(UserError, match=r"sophia/seed1 is not in runs.json"):
        _load(study)


def test_seeds_judged_on_different_data_are_refused(root: Path) -> None:
    study = Study(root).write()
    path = root / "metrics.csv"
    lines = path.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if "NPO,adamw,2,utility,model_utility" in line)
    lines[place] = lines[place].replace(",80,", ",79,")
    path.write_text("\n".join(lines) + "\n")
    inputs, summary = _load(study)
    with pytest.raises(UserError, match=r"different n \(79, 80\)"):
        summary.estimate(_row(inputs, "NPO", "adamw"), *MU)


def test_a_file_tells_whose_it_is_by_its_place() -> None:
    key = key_from_path("results/demo/training/tofu/tiny/NPO/adamw/seed12/steps.jsonl")
    assert key == ("tofu", "tiny", "NPO", "adamw", 12, 0, "")
    with pytest.raises(UserError, match="seed<N>"):
        key_from_path("results/demo/steps.jsonl")
