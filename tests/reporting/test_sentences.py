"""Words and thresholds of the report's other findings, each from a few numbers of the test's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline_lib.reporting.catalog import REPORT_NEEDS
from pipeline_lib.reporting.claims import _could_detect, findings
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.comparisons import family
from tests.reporting.study import OPTIMIZERS, Study
from tests.reporting.tasks import Answers, Texts
from tests.reporting.test_findings import KNOWN, line, numbers, said

TWO = {name: OPTIMIZERS[name] for name in ("adamw", "sophia")}


def _lines(study: Study) -> list[str]:
    found = findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
    return [text for finding in found for text in (finding.text, *finding.cases)]


def test_where_a_method_should_go(root: Path) -> None:
    text = line(said(root, {}), "Before unlearning")
    assert text.startswith("Before unlearning, KS D to the retrained model is 1.000 and model utility 0.6")
    assert "; with the retrained model, model utility is 0.6" in text
    assert text.endswith(". A method works when it brings D towards 0 and keeps utility.")
    assert "is better" not in text


def test_where_a_method_should_go_by_another_metric(root: Path) -> None:
    judged = {"forgetting": [("forget", "probability")], "utility": [("utility", "model_utility")]}
    text = line(said(root, {}, headline=judged), "Before unlearning")
    assert text.startswith("Before unlearning, forget probability is 0.900 and model utility 0.6")
    assert "; with the retrained model, forget probability is 0.200 and model utility is 0.6" in text
    assert text.endswith(
        ". A method works when it brings the one to the level of the retrained model and keeps utility."
    )


def test_a_lower_perplexity_is_better(root: Path) -> None:
    text = line(_lines(Texts(root, seeds=(1, 2), diverged={}).write()), "Before unlearning")
    assert text.startswith(
        "Before unlearning, KS D of likelihoods to the retrained model is 1.000 and retain"
    )
    assert "] (lower is better); with the retrained model, retain token perplexity is" in text


def test_shares_run_from_the_least_to_the_most(root: Path) -> None:
    made = {("original", "none", seed, "unseen", "safe_preference"): 0.3 for seed in (1, 2)}
    for optimizer, value in zip(OPTIMIZERS, (0.5, 0.7, 0.6, 0.4, 0.55), strict=True):
        made |= {("NPO", optimizer, seed, "unseen", "safe_preference"): value for seed in (1, 2)}
    study = Answers(root, seeds=(1, 2), methods={"NPO": 0.8}, diverged={}, numbers=made).write()
    assert line(_lines(study), "The same for prompts") == (
        "The same for prompts that unlearning never saw: 30 % before unlearning; after unlearning 40 % (NPO "
        "+ Sophia (published)) to 70 % (NPO + Signum)."
    )


def test_a_single_row_has_no_span(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.reporting.study.OPTIMIZERS", {"adamw": OPTIMIZERS["adamw"]})
    made = {("NPO", "adamw", seed, "unseen", "safe_preference"): 0.5 for seed in (1, 2)}
    study = Answers(root, seeds=(1, 2), methods={"NPO": 0.8}, diverged={}, numbers=made).write()
    assert line(_lines(study), "The same for prompts").endswith("; after unlearning 50 % (NPO + AdamW).")


def test_rows_that_look_alike_are_no_span(root: Path) -> None:
    shares = dict(zip(OPTIMIZERS, (0.501, 0.499, 0.5, 0.498, 0.502), strict=True))
    made = {
        ("NPO", name, seed, "unseen", "safe_preference"): share
        for name, share in shares.items()
        for seed in (1, 2)
    }
    study = Answers(root, seeds=(1, 2), methods={"NPO": 0.8}, diverged={}, numbers=made).write()
    assert line(_lines(study), "The same for prompts").endswith("; after unlearning 50 % (each of 5 rows).")


def _compared(root: Path, monkeypatch: pytest.MonkeyPatch, drops: tuple[float, float, float]) -> list[str]:
    """Sophia's forget probability is AdamW's, 0.5, less `drops`; D and utility have no spread."""
    monkeypatch.setattr("tests.reporting.study.OPTIMIZERS", TWO)
    rows = dict.fromkeys([("NPO", name) for name in TWO], 0.5)
    known = {("original", "none"): 0.9, ("retrained", "none"): 0.2} | rows
    first, second, third = (0.5 - drop for drop in drops)
    values = {
        "forget__probability": known | {("NPO", "sophia"): (first, second, third)},
        "forget__ks_statistic": dict(known),
        "utility__model_utility": dict(known),
        "forget__forget_quality_log10": {("original", "none"): -9.0} | dict.fromkeys(rows, -5.0),
    }
    study = Study(root, methods={"NPO": 0.8}, diverged={}, numbers=numbers(**KNOWN | values))  # type: ignore[arg-type]
    return _lines(study.write())


def test_a_claim_and_its_p(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Differences -0.30, -0.31, -0.29: t = 0.3 / (0.01 / sqrt(3)) = 51.96, p = 2 P(t(2) > 51.96) = 0.00037.
    lines = _compared(root, monkeypatch, (0.30, 0.31, 0.29))
    assert line(lines, "second order against") == (
        "NPO, second order against first order: A difference can be claimed in 1 of 1 pairs of rows."
    )
    assert line(lines, "NPO + Sophia against") == (
        "NPO + Sophia against NPO + AdamW: lower forget probability (difference in Forget probability "
        "−0.300, Holm's p < 0.001)."
    )


def test_a_p_above_a_thousandth_is_written_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # -0.30, -0.32, -0.28: t = 0.3 / (0.02 / sqrt(3)) = 25.98, p = 0.0015.
    assert "Holm's p = 0.001)" in line(
        _compared(root, monkeypatch, (0.30, 0.32, 0.28)), "against NPO + AdamW"
    )


def test_no_claim_says_what_could_have_been_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 0.1, 0.0, -0.1: mean 0, s = 0.1; what has no spread has no test. One size: no span.
    text = line(_compared(root, monkeypatch, (0.1, 0.0, -0.1)), "second order against")
    assert text.startswith(
        "NPO, second order against first order: No difference can be claimed. What these seeds could have "
        "shown with a probability of 80 %, a difference in: Forget probability 0."
    )
    assert " to " not in text and "KS D" not in text


def test_pairs_without_a_claim_are_counted(root: Path) -> None:
    """Of the six pairs three show nothing."""
    lines = _lines(Study(root).write())
    assert line(lines, "GradDiff, second order against").endswith(
        "can be claimed in 3 of 6 pairs of rows. For the other pairs no difference can be claimed."
    )
    assert sum("against" in text and text.startswith("GradDiff + ") for text in lines) == 3


def test_sizes_in_reach_run_from_small_to_large(root: Path) -> None:
    study = Study(root).write()
    entries = family(Summary(Inputs(study.paths(*REPORT_NEEDS))), study.task, study.model)
    chosen = [entry for entry in entries if entry.quantity.metric == "probability"]
    sizes = sorted(entry.difference.detectable or 0 for entry in chosen if entry.difference)
    possible = [size for size in sizes if size <= 1]
    assert 1 < len(possible) < len(sizes)
    assert f": Forget probability {possible[0]:.3f} or more." in _could_detect(chosen)
    within = [entry for entry in chosen if entry.detectable is not None]
    assert f": Forget probability {possible[0]:.3f} to {possible[-1]:.3f}." in _could_detect(within)


def test_time_is_told_of_second_order_only(root: Path) -> None:
    """Signum's times vary, too, but the question is what curvature costs."""
    study = Study(root, methods={"NPO": 0.8}, diverged={}, slower=0.001).write()
    for seed in study.seeds:
        path = study.place("training", "NPO", "signum", seed) / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"train_time_s": 2.0 + seed}))
    study.collect()
    text = line(_lines(study), "Training time")
    assert "Signum" not in text and "NPO + Sophia 1.35" in text
