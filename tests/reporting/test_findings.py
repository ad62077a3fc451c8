"""What the report says of forgetting, its thresholds and its words, each from numbers of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.reporting.catalog import REPORT_NEEDS, TABLES
from pipeline_lib.reporting.claims import _could_detect, findings
from pipeline_lib.reporting.finding import percent
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.comparisons import family
from tests.reporting.study import OPTIMIZERS, Study

SEEDS = (1, 2, 3)
ROWS = [("NPO", optimizer) for optimizer in OPTIMIZERS]
Values = dict[
    tuple[str, str], float | tuple[float, float, float]
]  # (method, optimizer) -> every seed, or each


def numbers(**of_metric: Values) -> dict[tuple[str, str, int, str, str], float]:
    """{"forget__probability": {("NPO", "adamw"): 0.4}} and so on, spread over the seeds."""
    found = {}
    for name, values in of_metric.items():
        split, metric = name.split("__")
        for (method, optimizer), value in values.items():
            for seed, at in zip(SEEDS, value if isinstance(value, tuple) else (value,) * 3, strict=True):
                found[method, optimizer, seed, split, metric] = at
    return found


def everywhere(original: float, retrained: float, unlearned: float) -> Values:
    return {("original", "none"): original, ("retrained", "none"): retrained} | dict.fromkeys(ROWS, unlearned)


KNOWN = {
    "forget__rouge_l_recall": everywhere(0.9, 0.3, 0.6),
    "forget__probability": everywhere(0.9, 0.2, 0.4),
    "forget__forget_quality_log10": everywhere(-9.0, 0.0, -5.0),
}


def said(root: Path, values: dict[str, Values], **more: Any) -> list[str]:
    """Every line that the report says, its cases too."""
    made = numbers(**(KNOWN | values))
    study = Study(root, methods={"NPO": 0.8}, diverged={}, numbers=made, **more).write()
    found = findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
    return [line for finding in found for line in (finding.text, *finding.cases)]


def line(lines: list[str], words: str) -> str:
    (found,) = [text for text in lines if words in text]
    return found


def test_what_was_forgotten_comes_first(root: Path) -> None:
    # (0.9 - 0.75) / (0.9 - 0.3) = 25 % gone; Sophia's (0.9 - 0.15) / 0.6 = 125 %: below `retrained`.
    recall = KNOWN["forget__rouge_l_recall"] | {("NPO", "adamw"): 0.75, ("NPO", "sophia"): 0.15}
    first = said(root, {"forget__rouge_l_recall": recall})[0]
    assert first == (
        "What was forgotten: the share of the forget answers' words that the model says is 90 % before "
        "unlearning and 30 % in the retrained model; after unlearning 15 % (NPO + Sophia) to 75 % (NPO + "
        "AdamW). Of what the retrained model does not say, 25 % (NPO + AdamW) to 125 % (NPO + Sophia) is "
        "gone. Above 100 %: the model says less of it than the retrained model."
    )


def test_nothing_is_over_forgotten_at_the_level_of_retrained(root: Path) -> None:
    first = said(root, {"forget__rouge_l_recall": everywhere(0.9, 0.3, 0.3)})[0]
    assert "100 % (each of 5 rows) is gone." in first
    assert "Above" not in first and "Below" not in first and "cannot show" not in first


def test_more_said_than_before_is_less_than_nothing_gone(root: Path) -> None:
    # (0.9 - 0.96) / (0.9 - 0.3) = -10 %
    recall = KNOWN["forget__rouge_l_recall"] | {("NPO", "adamw"): 0.96}
    first = said(root, {"forget__rouge_l_recall": recall})[0]
    assert "Of what the retrained model does not say, −10 % (NPO + AdamW) to 50 % (" in first
    assert first.endswith("is gone. Below 0 %: the model says more of it than before unlearning.")


@pytest.mark.parametrize(("known", "enough"), [(0.2, False), (0.349, False), (0.351, True)])
def test_no_share_of_next_to_nothing_is_gone(root: Path, known: float, enough: bool) -> None:
    """`retrained` says 30 %: what `original` says beyond it is the base of the share."""
    first = said(root, {"forget__rouge_l_recall": everywhere(known, 0.3, 0.1)})[0]
    assert ("is gone." in first) == enough
    assert enough or first.endswith(
        "No share of it can be said to be gone: before unlearning it was less than 5 % more than in the "
        "retrained model."
    )


def _without_retrained(root: Path, taught: list[str], values: dict[str, Values], **more: Any) -> str:
    study = Study(root, methods={"NPO": 0.8}, diverged={}, numbers=numbers(**(KNOWN | values)), **more)
    study.anchors = ("original",)  # type: ignore[misc]
    study.write()
    manifest = study.manifest() | {"finetune": {"target": taught}}
    (root / "data" / study.task / "manifest.json").write_text(json.dumps(manifest))
    return findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)[0].text


def test_without_a_retrained_model_all_that_was_known_counts(root: Path) -> None:
    # (0.9 - 0.6) / 0.9 = 33 %
    assert _without_retrained(root, ["forget"], {}) == (
        "What was forgotten: the share of the forget answers' words that the model says is 90 % before "
        "unlearning; after unlearning 60 % (each of 5 rows). Of it, 33 % (each of 5 rows) is gone."
    )


def test_without_a_retrained_model_nothing_known_is_said(root: Path) -> None:
    first = _without_retrained(root, ["forget"], {"forget__rouge_l_recall": everywhere(0.049, 0.0, 0.0)})
    assert first.endswith(
        "No share of it can be said to be gone: before unlearning it was less than 5 % in all."
    )


def test_without_a_retrained_model_wrong_answers_preferred_are_said_first(root: Path) -> None:
    values = {"forget__truth_ratio_probability": everywhere(0.49, 0.0, 0.4)}
    first = _without_retrained(
        root,
        ["forget"],
        values,
        more={("forget", "truth_ratio_probability"): 0.6},
        headline={"forgetting": [("forget", "truth_ratio")], "utility": [("utility", "model_utility")]},
    )
    assert first.startswith(
        "This study cannot show forgetting: the right answers are less likely than the wrong ones before "
        "unlearning already (truth ratio below 1), so that a low truth ratio shows nothing. The share of the"
    )
    assert "is gone" not in first


def test_where_nothing_can_be_shown_no_goal_is_set_without_a_retrained_model(root: Path) -> None:
    judged = {"forgetting": [("forget", "truth_ratio")], "utility": [("utility", "model_utility")]}
    more = {("forget", "truth_ratio_probability"): 0.6}
    for name, before in (("blind", 0.49), ("sighted", 0.51)):
        made = numbers(**KNOWN | {"forget__truth_ratio_probability": everywhere(before, 0.0, 0.4)})
        study = Study(
            root.parent / name, methods={"NPO": 0.8}, diverged={}, numbers=made, more=more, headline=judged
        )
        study.anchors = ("original",)  # type: ignore[misc]
        study.write()
        found = findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
        text = line([finding.text for finding in found], "Before unlearning, forget truth ratio")
        assert ("a method works when" in text) == (name == "sighted")


def test_words_of_a_model_that_was_taught_nothing_are_no_copies(root: Path) -> None:
    """What it recites at length is: a book that it knew before the study."""
    assert _without_retrained(root, [], {}).startswith("Before unlearning, ")


def test_what_a_base_model_recites_counts(root: Path) -> None:
    recited = {"forget__extraction_rate": everywhere(0.8, 0.0, 0.2)}
    first = _without_retrained(root, [], recited, more={("forget", "extraction_rate"): 0.2})
    assert "a long run is recited is 80 % before unlearning; after unlearning 20 %" in first


def test_one_row_is_no_span(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.reporting.study.OPTIMIZERS", {"adamw": OPTIMIZERS["adamw"]})
    monkeypatch.setattr("tests.reporting.test_findings.ROWS", [("NPO", "adamw")])
    assert "after unlearning 60 % (NPO + AdamW). Of what" in said(root, {})[0]


def test_where_every_run_diverged_nothing_is_said_of_the_test(root: Path) -> None:
    lost = {(*row, seed): 5 for row in ROWS for seed in SEEDS}
    study = Study(root, methods={"NPO": 0.8}, diverged=lost).write()
    found = findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
    assert not [finding for finding in found if "KS" in finding.text and "Before" not in finding.text]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.001, "under 1 %"),
        (0.006, "1 %"),
        (0.994, "99 %"),
        (0.999, "over 99 %"),
        (1 - 1e-12, "100 %"),
        (1.0, "100 %"),
        (-0.12, "−12 %"),
        (-0.001, "0 %"),
    ],
)
def test_no_share_is_rounded_to_nothing_or_all(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (
            {"forget__probability": everywhere(0.2, 0.2, 0.1) | {("original", "none"): (0.9, 0.2, 0.19)}},
            "`original` does not know the forget set (in 2 of 3 seeds it gives the answers no more "
            "probability than the retrained model does)",
        ),
        (
            {"forget__truth_ratio_probability": everywhere(0.49, 0.4, 0.4)},
            "the right answers are less likely than the wrong ones before unlearning already (truth ratio "
            "below 1), so that a low truth ratio shows nothing",
        ),
    ],
    ids=["ignorant", "below one"],
)
def test_a_study_that_cannot_show_forgetting_says_so_first(
    root: Path, values: dict[str, Values], why: str
) -> None:
    """And no row then forgets, in the findings or under the main table, whatever its p-value."""
    passing = {"forget__forget_quality_log10": everywhere(-9.0, 0.0, 0.0)} | values
    more = {("forget", "truth_ratio_probability"): 0.6} if "forget__truth_ratio_probability" in values else {}
    lines = said(root, passing, more=more)
    assert lines[0].startswith(f"This study cannot show forgetting: {why}. The share of the forget answers")
    assert not [text for text in lines if "is gone" in text or "A method works when" in text]
    assert line(lines, "No row is said") == (
        "No row is said to be like the retrained model, where the study cannot show forgetting."
    )
    study = Study(root, methods={"NPO": 0.8}, diverged={})
    (table,) = build_table("main", Inputs(study.paths(*TABLES["main"].needs)))
    assert table.notes[-1] == f"No row of this table can be said to forget: {why}."


def test_a_truth_ratio_of_one_or_more_is_no_doubt(root: Path) -> None:
    values = {"forget__truth_ratio_probability": everywhere(0.5, 0.4, 0.4)}
    assert "cannot show" not in said(root, values, more={("forget", "truth_ratio_probability"): 0.6})[0]


def test_one_timing_is_no_finding(root: Path) -> None:
    study = Study(root, methods={"NPO": 0.8}, seeds=(1,), diverged={}, slower=0.001).write()
    found = findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
    assert not [finding for finding in found if "time" in finding.text]


def test_time_comes_with_its_interval(root: Path) -> None:
    # Ratios 53/40, 54/40, 55/40: mean 1.35, s = 0.025, half width 4.3027 * 0.025 / sqrt(3) = 0.0621.
    text = line(said(root, {}, slower=0.001), "Training time")
    assert text.startswith("Training time over AdamW's with the same method and seed (mean and 95 % interval")
    assert "NPO + Sophia 1.35 [1.29, 1.41]" in text and "NPO + AdamW" not in text


@pytest.mark.parametrize(("share", "high"), [(0.899, False), (0.901, True)])
def test_a_row_is_second_order_by_name_above_ninety_per_cent(
    root: Path, share: float, high: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = {name: OPTIMIZERS[name] for name in ("adamw", "sophia")}
    monkeypatch.setattr("tests.reporting.study.OPTIMIZERS", one | {"sophia": (*one["sophia"][:4], share)})
    monkeypatch.setattr("tests.reporting.test_findings.ROWS", [("NPO", name) for name in one])
    monkeypatch.setattr(
        "tests.reporting.study.Study._training",
        _flat(share),
    )
    text = line(
        said(root, {}), "Share of coordinates at the limit of the second-order update: NPO + Sophia 90 %."
    )
    assert text.endswith("it moves like the sign of momentum (Signum).") == high


MEMBERSHIP = {"forget__mia_loss_auc": everywhere(0.98, 0.5, 0.7) | {("NPO", "signum"): 0.2}}


def _membership(root: Path, held_out: Values) -> str:
    more = {("forget", "mia_loss_auc"): 0.5, ("holdout", "probability"): 0.1}
    return line(said(root, MEMBERSHIP | {"holdout__probability": held_out}, more=more), "Membership")


def test_membership(root: Path) -> None:
    """The held-out records may become half as likely as they were (0.1), and no less."""
    assert _membership(root, everywhere(0.1, 0.1, 0.05)) == (
        "Membership inference by loss tells the forget set from held-out records with an AUC of 0.98 "
        "before unlearning and 0.50 in the retrained model; after unlearning 0.20 (NPO + Signum) to 0.70 "
        "(NPO + Sophia (published)). What is far from the retrained model's, on either side, shows that "
        "the records were there."
    )


def test_without_a_retrained_model_an_auc_proves_nothing(root: Path) -> None:
    """The two sets may differ by themselves."""
    made = numbers(**KNOWN | MEMBERSHIP)
    more = {("forget", "mia_loss_auc"): 0.5}
    study = Study(root, methods={"NPO": 0.8}, diverged={}, numbers=made, more=more)
    study.anchors = ("original",)  # type: ignore[misc]
    study.write()
    found = findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
    assert line([finding.text for finding in found], "Membership").endswith(
        "0.70 (NPO + Sophia (published)). Without a retrained model nothing says what it would be had the "
        "records never been there: 0.5 only where the two sets are alike."
    )


def test_what_seeds_could_have_shown_is_possible(root: Path) -> None:
    """Two seeds ask for more than the range of D: no number is printed then."""
    made = numbers(
        **KNOWN | {"forget__ks_statistic": everywhere(1.0, 0.0, 0.5) | {("NPO", "sophia"): (0.1, 0.9, 0.5)}}
    )
    study = Study(root, methods={"NPO": 0.8}, seeds=(1, 2), diverged={}, numbers=made).write()
    inputs = Inputs(study.paths(*REPORT_NEEDS))
    entries = [
        entry
        for entry in family(Summary(inputs), study.task, study.model)
        if entry.row.key.optimizer == "sophia"
    ]
    apart = [entry for entry in entries if entry.quantity.metric == "ks_statistic"]
    assert all(entry.difference and (entry.difference.detectable or 0) > 1 for entry in apart)
    assert [entry.detectable for entry in apart] == [None, None]
    assert "a difference in: KS D none that is possible" in _could_detect(apart)
    (table,) = build_table("comparisons", inputs)
    assert "none that is possible" in {cell.text for row in table.lines for cell in row.cells}


def test_an_auc_against_broken_non_members_is_none(root: Path) -> None:
    text = _membership(root, everywhere(0.1, 0.1, 0.06) | {("NPO", "signum"): 0.049})
    assert text.endswith(
        "It says nothing of rows that made the held-out records, which nobody asked to unlearn, less than "
        "half as likely as before: NPO + Signum."
    )


def _flat(share: float) -> Any:
    """The study's own training log, with the same clipped share at every step."""
    whole = Study._training

    def training(self: Study, method: str, optimizer: str, seed: int) -> None:
        whole(self, method, optimizer, seed)
        if optimizer == "sophia":
            path = self.place("training", method, optimizer, seed) / "steps.jsonl"
            path.write_text(
                "\n".join(_with_share(text, share) for text in path.read_text().splitlines()) + "\n"
            )

    return training


def _with_share(text: str, share: float) -> str:
    return json.dumps(json.loads(text) | {"clipped_share": share})
