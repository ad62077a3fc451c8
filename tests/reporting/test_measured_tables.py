"""Tables of what a study measures beside its task: their metrics, and no table where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.reporting.catalog import REPORT_NEEDS, TABLES, measured_by, tasks_of
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.study import parse_suite
from pipeline_lib.tasks.base import TaskSettings
from tests.reporting.study import Study
from tests.study.suites import COMMIT, small

MEASURED = {
    "collapse": {
        ("forget", "repetition_4"): 0.25,
        ("retain", "repetition_4"): 0.125,
        ("forget", "ended"): 0.75,
    },
    "membership": {
        ("forget", "mia_loss_auc"): 0.625,
        ("forget", "privleak"): -37.5,
        ("holdout", "probability"): 0.1875,
    },
    "samples": {("forget", "sampled_leakage_max"): 0.5},
    "as_released": {("forget", "forget_quality_as_released"): 0.375},
    "benchmarks": {("mmlu", "benchmark_accuracy"): 0.3125, ("wikitext", "word_perplexity"): 23.25},
    "toxicity": {("toxicity", "expected_max_toxicity"): 0.4375},
    "inside": {("forget", "lens_log_probability"): -2.5, ("forget", "depth_score"): 0.625},
}


@pytest.mark.parametrize("name", MEASURED)
def test_each_shows_its_metrics(name: str, root: Path) -> None:
    study = Study(root, more=MEASURED[name], diverged={}).write()
    (table,) = build_table(name, Inputs(study.paths(*TABLES[name].needs)))
    original = next(line for line in table.lines if line.row.key.method == "original")
    shown = {number.quantity: number.value for cell in original.cells for number in cell.numbers}
    assert shown == {".".join(key): pytest.approx(value) for key, value in MEASURED[name].items()}
    assert all("_" not in column for column in table.columns), "a column's name is for people"


def test_toxicity_says_what_its_classifier_can_see(root: Path) -> None:
    """The study's lines have an interval of 0.02 to either side and n 20."""
    known = {**MEASURED["toxicity"], ("toxicity", "classifier_auc"): 0.875}
    study = Study(root, more=known, diverged={}).write()
    (table,) = build_table("toxicity", Inputs(study.paths(*TABLES["toxicity"].needs)))
    assert "AUC of 0.875 [" in table.notes[-1]
    study = Study(root.with_name("unknown"), more=MEASURED["toxicity"], diverged={}).write()
    (table,) = build_table("toxicity", Inputs(study.paths(*TABLES["toxicity"].needs)))
    assert "is not known" in table.notes[-1]


def test_membership_says_what_was_not_measured(root: Path) -> None:
    study = Study(root, more=MEASURED["membership"], diverged={}).write()
    (table,) = build_table("membership", Inputs(study.paths(*TABLES["membership"].needs)))
    (note,) = [note for note in table.notes if note.startswith("Not measured")]
    assert "zlib AUC" in note
    assert "GradNorm" not in note, "it is measured only where it is asked for"


def test_the_report_says_what_membership_inference_finds(root: Path) -> None:
    """AdamW's and the anchors' value is 0.625; the study adds each row's damage to it."""
    study = Study(root, more={("forget", "mia_loss_auc"): 0.625}, diverged={}).write()
    said = [finding.text for finding in findings(_inputs(study), study.task, study.model)]
    (found,) = [text for text in said if "Membership" in text]
    assert "AUC of 0.62 before unlearning and 0.62 in the retrained model" in found
    assert "0.67 (NPO + AdamW) to 0.93 (GradDiff + Signum)" in found
    plain = Study(root.with_name("plain")).write()
    said = [finding.text for finding in findings(_inputs(plain), plain.task, plain.model)]
    assert not [text for text in said if "Membership" in text]


def _inputs(study: Study) -> Inputs:
    return Inputs(study.paths(*REPORT_NEEDS))


def test_only_what_a_suite_measures_has_a_table() -> None:
    plain = set(measured_by(parse_suite(small()), TABLES))
    asked = {"membership", "samples", "as_released", "benchmarks", "toxicity", "extraction", "preference"}
    asked |= {"robustness", "inside"}
    assert plain == set(TABLES) - asked
    hub = {"id": "owner/name", "revision": COMMIT}
    everything = small(
        tasks={"authors": {"source": "fictitious", "holdout_authors": 2}},
        evaluation={
            "samples": {"n": 4},
            "as_released": True,
            "benchmarks": {"tasks": ["mmlu"]},
            "inside": {},
            "toxicity": {
                "classifier": {"kind": "profanity_check"},
                "prompts": {"source": "hub", **hub},
            },
        },
    )
    shown = set(measured_by(parse_suite(everything), TABLES))
    assert shown == set(TABLES) - {"extraction", "preference", "robustness"}


@pytest.mark.parametrize(("shown_as", "table"), [("texts", "extraction"), ("answers", "preference")])
def test_a_task_of_a_stranger_has_the_table_that_it_asks_for(shown_as: str, table: str) -> None:
    class Settings(TaskSettings):
        def evaluated_splits(self) -> tuple[str, ...]:
            return ("forget", "retain")

    suite = parse_suite(small())
    suite.tasks["poems"] = Settings()
    assert table not in measured_by(suite, TABLES)
    Settings.shown_as = shown_as  # type: ignore[assignment]
    assert table in measured_by(suite, TABLES)
    assert tasks_of(suite, TABLES[table]) == ["poems"]
