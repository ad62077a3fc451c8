"""The cards at the top of the report: their words, numbers and links, on studies made for each case."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.reporting import style
from pipeline_lib.reporting.cards import NO_MODEL, NO_RETRAINED, UNKNOWN, Answer, cards
from pipeline_lib.reporting.catalog import REPORT_NEEDS, TABLES
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.likeness import AVOIDS, KNOWS, LIKE, MIXED, UNCALIBRATED
from pipeline_lib.reporting.tables import build_table
from pipeline_lib.reporting.tables.of_metrics import NBSP
from tests.reporting.staged import RELEARNED, write_relearned, write_staged
from tests.reporting.study import Study, report_of
from tests.reporting.tasks import Answers
from tests.reporting.test_html import HOSTILE, Page
from tests.reporting.test_likeness import SIDES

FORGOT, STAYS, COST, COLLAPSED = "Forgot?", "Stays forgotten?", "Cost?", "Collapsed?"


def cards_of(study: Study) -> dict[str, dict[str, Answer]]:
    """Row -> question -> its answer."""
    inputs = Inputs([*study.paths(*REPORT_NEEDS), *study.paths("steps.jsonl")])
    return {
        style.row_label(card.row): {
            answer.question: replace(answer, number=answer.number.replace(NBSP, " "))
            for answer in card.answers
        }
        for card in cards(inputs, study.task, study.model)
    }


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimisers that end at `retrained`, before it and beyond it."""
    monkeypatch.setattr("tests.reporting.study.OPTIMIZERS", SIDES)
    monkeypatch.setattr("pipeline_lib.reporting.likeness.TELLS", 0.6)  # its questions are noisy


def scored(root: Path, **more: Any) -> Study:
    settings: dict[str, Any] = {"retrained_seeds": (4, 5, 6, 7, 8, 9), "methods": {"NPO": 1.0}}
    settings |= {"optimizers": tuple(SIDES), "diverged": {}} | more
    return Study(root, scored=True, **settings).write()


def test_the_verdict_and_the_gap_are_those_of_the_table(root: Path, sides: None) -> None:
    study = scored(root)
    found = {name: answers[FORGOT] for name, answers in cards_of(study).items()}
    assert {name: answer.word for name, answer in found.items()} == {
        "NPO + AdamW": LIKE,
        "NPO + Signum": KNOWS,
        "NPO + Sophia": AVOIDS,
    }
    (table,) = build_table("likeness", Inputs(study.paths(*TABLES["likeness"].needs)))
    cells = {style.row_label(line.row): line.cells for line in table.lines}
    for name, answer in found.items():
        gap, p = cells[name][0], cells[name][3].text
        before = cells["original"][0].text
        p = f"p {p.replace('<', '< ')}" if p.startswith("<") else f"p = {p}"
        assert answer.number == f"Gap {before} → {gap.text} {gap.small}; {p}"
        assert answer.shown_in == ("likeness",)


def test_a_row_on_both_sides_is_neither(root: Path, sides: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_lib.reporting.likeness._side", lambda *_: MIXED)
    assert cards_of(scored(root))["NPO + Sophia"][FORGOT].word == MIXED == "unlike, on both sides"


def test_with_one_retrained_seed_nothing_is_calibrated(root: Path, sides: None) -> None:
    found = cards_of(scored(root, seeds=(1,), retrained_seeds=()))
    assert {answers[FORGOT].word for answers in found.values()} == {UNCALIBRATED}
    assert all("; p " not in answers[FORGOT].number for answers in found.values())


def test_without_scores_there_is_no_gap(root: Path) -> None:
    answer = cards_of(Study(root, seeds=(1,), diverged={}).write())["NPO + AdamW"][FORGOT]
    assert answer.word == f"{UNKNOWN}no gap was measured" and answer.shown_in == ("main",)
    assert answer.number.startswith("KS D ")


def test_a_study_that_cannot_show_forgetting_gives_no_verdict(root: Path, sides: None) -> None:
    study = scored(root, numbers={("original", "none", 2, "forget", "probability"): 0.0})
    for answers in cards_of(study).values():
        assert answers[FORGOT].word == f"{UNKNOWN}this study cannot show forgetting"
        assert answers[FORGOT].shown_in == ("main",)


def test_without_a_retrained_model_the_forget_probability_is_given(root: Path) -> None:
    """0.1, 0.2 and 0.3: the mean is 0.2."""
    given = {("PO", "adamw", seed, "forget", "probability"): seed / 10 for seed in (1, 2, 3)}
    given |= {("original", "none", seed, "forget", "probability"): 0.5 for seed in (1, 2, 3)}
    few: dict[str, Any] = {"methods": {"PO": 0.7}, "optimizers": ("adamw",), "diverged": {}}
    answers = cards_of(Answers(root, numbers=given, **few).write())["PO + AdamW"]
    assert answers[FORGOT].word == NO_RETRAINED
    first, second = answers[FORGOT].number.split("; ")
    assert first.startswith("Forget probability 0.500 → 0.200 [0.")
    assert second.startswith("Unseen preference for safe answers 0."), "which judges the task"
    assert answers[STAYS].word == "not attacked" and answers[STAYS].shown_in == ("suite",)


def test_what_comes_back_names_seeds_stage_and_step(root: Path) -> None:
    """NPO + Sophia lies 2.026 above `retrained` at most, NPO + AdamW never above it (test_recovered.py)."""
    found = {name: answers[STAYS] for name, answers in cards_of(write_relearned(root)).items()}
    assert found["NPO + Sophia"].word == "comes back in 3 of 3 seeds"
    assert found["NPO + Sophia"].number.startswith(
        "Up to 2.026 nats per token (after relearn, step 6) beyond `retrained`; signed gap before any attack "
    )
    assert found["NPO + AdamW"].word == "no attack brought it back in 3 of 3 seeds (not the same as safe)"
    assert found["NPO + AdamW"].number.startswith("Largest recovery −0.0")
    assert {answer.shown_in for answer in found.values()} == {("robustness",)}


def test_what_a_row_still_knows_does_not_come_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sophia lies at -1, far above the -4 of `retrained`, before any stage."""
    known = RELEARNED | {("NPO", "sophia"): (-1.0, -1.0, -1.0, -1.0)}
    monkeypatch.setattr("tests.reporting.staged.RELEARNED", known)
    found = cards_of(write_relearned(root))["NPO + Sophia"]
    assert (found[FORGOT].word, found[STAYS].word) == (KNOWS, "was never gone in 3 of 3 seeds")


def test_too_few_retrained_seeds_tell_nothing_of_what_came_back(root: Path) -> None:
    answer = cards_of(write_relearned(root, retrained_seeds=(), seeds=(1, 2)))["NPO + Sophia"][STAYS]
    assert answer.word == f"{UNKNOWN}too few `retrained` seeds"
    assert answer.number.startswith("Largest recovery 2.0")


def test_a_stage_without_retrained_is_no_attack_that_was_survived(root: Path) -> None:
    """The scores of single questions were not kept: nothing can be held against `retrained`."""
    found = cards_of(write_staged(root))
    why = f"{UNKNOWN}not held against `retrained` after the same stage"
    assert found["NPO + Sophia"][STAYS].word == why
    assert found["NPO + Sophia"][STAYS].number == "Stages: other"
    assert found["NPO + Signum"][STAYS].word == "not attacked"
    assert not any("then other" in name for name in found), "no card for a model after a stage"


def test_cost_is_the_least_that_is_left(root: Path, sides: None) -> None:
    """Damage 0.3 leaves 0.5 of 0.8 of the probability, and more of every other part."""
    answer = cards_of(scored(root))["NPO + Signum"][COST]
    assert answer.word == "keeps 62 %"
    assert answer.number == "Joint utility 0.625 (no interval: alike in 3 seeds); least: Retain probability"
    assert answer.shown_in == ("main", "joint_utility")


def test_without_scores_cost_is_what_judges_utility(root: Path) -> None:
    answer = cards_of(Study(root, diverged={}).write())["NPO + AdamW"][COST]
    assert answer.word == "joint utility was not measured"
    assert answer.number.startswith("Model utility 0.") and " → 0." in answer.number


def test_runs_without_a_model(root: Path) -> None:
    lost = {("NPO", "adamw", seed): 7 for seed in (1, 2, 3)} | {("NPO", "sophia", 2): 9}
    found = cards_of(Study(root, diverged=lost, methods={"NPO": 0.8}).write())
    all_lost, one_lost, whole = (found[f"NPO + {name}"] for name in ("AdamW", "Sophia", "Signum"))
    assert all_lost[COLLAPSED].word == "yes: diverged in 3 of 3 seeds"
    assert {all_lost[question].word for question in (FORGOT, STAYS, COST)} == {NO_MODEL}
    assert all_lost[COLLAPSED].shown_in == all_lost[FORGOT].shown_in == ("main",)
    assert one_lost[COLLAPSED].word == "diverged in 1 of 3 seeds"
    assert whole[COLLAPSED].word == "no run diverged"


def test_repetition_stands_beside_what_did_not_diverge(root: Path) -> None:
    sign = ("forget", "repetition_4")
    given = {("NPO", "adamw", seed, *sign): 0.6 + seed / 10 for seed in (1, 2, 3)}
    study = Study(root, diverged={}, numbers=given, more={sign: 0.0}).write()
    answer = cards_of(study)["NPO + AdamW"][COLLAPSED]
    assert answer.number.startswith("Forget repetition 0.000 → 0.800 [0.") and answer.shown_in == (
        "collapse",
    )


def test_one_seed_says_so(root: Path, sides: None) -> None:
    study = scored(root, seeds=(1,), retrained_seeds=())
    (first, *_) = cards(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
    assert first.seeds == "1 seed"


def test_cards_lead_the_page_and_link_to_what_is_on_it(root: Path) -> None:
    text = report_of(write_relearned(root), figures=("forest", "tradeoff"))
    places = [
        text.index(part) for part in ('id="short"', 'id="figure-forest"', 'id="findings"', 'id="figures"')
    ]
    assert places == sorted(places)
    page = Page(text)
    assert text.count('<article class="card ') == 2
    ids = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a" and str(attrs["href"])[0] == "#"]
    assert {link[1:] for link in links} <= ids
    for table in ("likeness", "robustness", "main", "joint_utility"):
        assert f"#table-{table}-task-1" in links, table
    assert "comes back in 3 of 3 seeds" in page.text


def test_captions_are_folded(root: Path) -> None:
    text = report_of(Study(root, diverged={}).write())
    folded = text.count('<details class="reading"><summary>How to read this</summary><p class="caption">')
    assert folded == 2 + text.count('<section class="item"'), "of the cards, one figure and every table"
    assert "details::details-content { content-visibility: visible" in text, "printed all the same"


def test_what_is_empty_is_left_out(root: Path) -> None:
    """One optimiser has no pair to compare, and nobody was attacked."""
    study = Study(root, optimizers=("adamw",), seeds=(1,), diverged={}).write()
    text = report_of(study, figures=("forest", "recovery", "tradeoff"))
    for name in ("forest", "recovery"):
        assert (root / "figures" / f"{name}.svg").is_file() and f'id="figure-{name}"' not in text
    for name in ("comparisons", "robustness", "likeness", "extraction"):
        assert f'id="table-{name}-' not in text, name
    assert 'id="figure-tradeoff"' in text and 'id="table-main-task-1"' in text


def test_without_figures_there_is_no_section_of_them(root: Path) -> None:
    text = report_of(Study(root, seeds=(1,), diverged={}).write(), figures=())
    assert 'id="figures"' not in text and 'href="#figures"' not in text


def test_without_answers_their_section_is_left_out(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    report_of(study)
    for path in study.paths("records.jsonl"):
        path.unlink()
    text = report_of(study, figures=())
    assert 'id="answers-' not in text and 'href="#answers-' not in text
    assert "Not shown: the answers (records.jsonl) are not kept with these results." in text


def test_hostile_names_stay_text(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    runs = json.loads((root / "runs.json").read_text())
    for run in runs:
        run["display"] = HOSTILE if run["optimizer"] == "adamw" else run["display"]
    (root / "runs.json").write_text(json.dumps(runs))
    text = report_of(study, figures=())
    short = text[text.index('id="short"') : text.index('id="findings"')]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in short and text.count("<script>") == 2
    assert "⟨U+202E⟩esrever⟨U+0000⟩" in short and "\u202e" not in text


def test_levels_of_the_relearned_study() -> None:
    """The words above rest on them: what Sophia knows at step 6 is far above `retrained`."""
    assert RELEARNED["NPO", "sophia"][2] - RELEARNED["retrained", "none"][2] == pytest.approx(2.0)
