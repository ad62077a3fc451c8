"""Likeness: verdicts in the table and in the findings, their scale, and what is said without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.runs import MATCHED
from pipeline_lib.reporting.catalog import REPORT_NEEDS, TABLES
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.headline import GAP
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.likeness import (
    APART,
    ATTACKED,
    AVOIDS,
    CHOSEN,
    KNOWS,
    LIKE,
    UNCALIBRATED,
    likeness,
)
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables import build_table
from tests.reporting.staged import write_relearned
from tests.reporting.study import Study
from tests.reporting.test_findings import line

SIDES = {
    "adamw": ("adamw", "FO", 1.0, 0.05, None),  # forgets as much as `retrained`
    "signum": ("signum", "FO", 0.4, 0.3, None),
    "sophia": ("sophia", "SO", 1.25, 0.06, 0.71),
}


@pytest.fixture(autouse=True)
def sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.reporting.study.OPTIMIZERS", SIDES)
    monkeypatch.setattr("pipeline_lib.reporting.likeness.TELLS", 0.6)  # its questions are noisy


def made(root: Path, **more) -> Inputs:
    more = {"retrained_seeds": (4, 5, 6, 7, 8, 9), "methods": {"NPO": 1.0}} | more
    return Inputs(Study(root, diverged={}, scored=True, **more).write().paths(*TABLES["likeness"].needs))


def test_verdicts_of_rows(root: Path) -> None:
    summary = Summary(made(root))
    found = {row.key.optimizer: likeness(summary, row) for row in summary.inputs.rows if not row.anchor}
    assert {name: of.verdict for name, of in found.items()} == {
        "adamw": LIKE,
        "signum": KNOWS,
        "sophia": AVOIDS,
    }
    assert found["adamw"].inside == found["adamw"].seeds == 3
    assert found["signum"].inside == 0
    original = likeness(summary, summary.inputs.original("fictitious", "tiny"))
    assert original.verdict == KNOWS


def test_a_row_after_an_attack_is_not_judged(root: Path) -> None:
    summary = Summary(Inputs(write_relearned(root).paths(*TABLES["likeness"].needs)))
    found = {row.key: likeness(summary, row) for row in summary.inputs.rows}
    assert {key.after for key in found} == {"", "relearn"}
    for key, of in found.items():
        assert (of.verdict == ATTACKED) == bool(key.after), key
        assert key.after == "" or of.p is of.limit is of.inside is None


def test_the_row_of_a_mean_of_seeds_is_held_to_a_mean_of_further_seeds(root: Path) -> None:
    summary = Summary(made(root))
    found = {row.key.optimizer: likeness(summary, row) for row in summary.inputs.rows if not row.anchor}
    assert found["adamw"].limit == found["adamw"].scale.limit(runs=3)
    assert found["adamw"].p == found["adamw"].scale.p_value(found["adamw"].gap, runs=3)


class Steps:
    """A scale with p worked out by hand: of one seed 0.5 below a gap of 0.3, else `far`; of a mean 0.2."""

    seeds = 10

    def __init__(self, far: float) -> None:
        self.far = far

    def p_value(self, gap: float, runs: int = 1) -> float:
        return 0.2 if runs > 1 else 0.5 if gap < 0.3 else self.far

    def limit(self, runs: int = 1) -> float:
        return 0.0


@pytest.mark.parametrize(("far", "verdict"), [(0.0004, APART), (0.016, APART), (0.017, LIKE), (0.04, LIKE)])
def test_a_mean_does_not_hide_a_seed_that_is_told_apart(
    root: Path, monkeypatch: pytest.MonkeyPatch, far: float, verdict: str
) -> None:
    """Gaps of 0.12, 0.12 and 0.52: of three seeds one with p below 0.05 / 3 = 0.0167 is told apart."""
    summary = Summary(made(root))
    monkeypatch.setattr("pipeline_lib.reporting.likeness.scale_of", lambda *_: Steps(far))
    (row,) = [row for row in summary.inputs.rows if row.key.optimizer == "adamw"]
    by_seed, gaps = summary.by_seed, {1: 0.12, 2: 0.12, 3: 0.52}
    monkeypatch.setattr(summary, "by_seed", lambda *of: gaps if of == (row, *GAP) else by_seed(*of))
    found = likeness(summary, row)
    assert (found.verdict, found.inside) == (verdict, 2)


def test_the_table_prints_its_scale(root: Path) -> None:
    (table,) = build_table("likeness", made(root))
    cells = {line.row.key.optimizer: [cell.text for cell in line.cells] for line in table.lines}
    assert cells["adamw"][5] == "like retrained"
    assert cells["signum"][5] == "still knows"
    assert (
        "9 `retrained` seeds and 4 forget groups: 8, 24 and 288 degrees of freedom, of seeds"
        in table.notes[-1]
    )
    assert "Joint utility ↑" in table.columns


def test_a_row_that_ends_where_retrained_is_nearest_is_not_judged_by_it(root: Path) -> None:
    summary = Summary(made(root))
    (row,) = [row for row in summary.inputs.rows if row.key.optimizer == "adamw"]
    matched = replace(row, key=row.key._replace(after=MATCHED))

    class Same:
        """The summary, for which the row `matched` has the values of the row without it."""

        inputs = summary.inputs

        def by_seed(self, of: Row, split: str, metric: str) -> dict[int, float]:
            return summary.by_seed(row if of == matched else of, split, metric)

    plain, found = likeness(summary, row), likeness(Same(), matched)  # type: ignore[arg-type]
    assert plain is not None and found is not None and plain.verdict == LIKE
    assert (found.gap, found.verdict, found.p) == (plain.gap, CHOSEN, None)


def test_with_one_retrained_no_row_is_like_it(root: Path) -> None:
    (table,) = build_table("likeness", made(root, seeds=(1,), retrained_seeds=()))
    verdicts = {line.cells[5].text for line in table.lines if not line.row.anchor}
    assert verdicts == {UNCALIBRATED.replace("`", "")}
    assert "Add `retrained_seeds`" in table.notes[-1]


def test_the_parts_of_joint_utility(root: Path) -> None:
    """Made-up parts of 0.8, 0.9 and 1 lose the row's damage, fluency half of it."""
    study = Study(root, diverged={}, scored=True, methods={"NPO": 1.0}).write()
    (table,) = build_table("joint_utility", Inputs(study.paths(*TABLES["joint_utility"].needs)))
    numbers = {line.row.key.optimizer: [cell.numbers[0].value for cell in line.cells] for line in table.lines}
    one_split = [0.5 / 0.8, 0.6 / 0.9, 0.85]  # damage 0.3
    assert numbers["signum"] == pytest.approx([*one_split, *one_split], rel=1e-5)
    assert table.columns[0] == "Retain probability ↑"
    assert table.notes[-1] == "No part is blind."


def test_benchmarks_are_parts_and_those_at_chance_are_named(root: Path) -> None:
    """Signum's damage is 0.3: of 0.4 above chance a quarter is left, below its other parts."""
    general = {"arc_easy": 0.4, "mmlu": 0.04}
    study = Study(root, diverged={}, scored=True, methods={"NPO": 1.0}, general=general).write()
    (table,) = build_table("joint_utility", Inputs(study.paths(*TABLES["joint_utility"].needs)))
    assert table.columns[-1] == "ARC easy accuracy above chance ↑"
    assert table.notes[-1] == "Blind, and left out: MMLU accuracy above chance."
    cells = {line.row.key.optimizer: line.cells[-1].numbers[0].value for line in table.lines}
    assert cells["signum"] == pytest.approx(0.25)
    (table,) = build_table("likeness", Inputs(study.paths(*TABLES["likeness"].needs)))
    joint = {line.row.key.optimizer: line.cells[6].numbers[0].value for line in table.lines}
    assert joint["signum"] == pytest.approx(0.25)


def scored(root: Path, **more: Any) -> list[str]:
    """Every line of a study whose rows lie on all sides of `retrained`, over nine seeds of that."""
    more = {"diverged": {}, "retrained_seeds": (4, 5, 6, 7, 8, 9)} | more
    study = Study(root, methods={"NPO": 1.0}, scored=True, **more).write()
    found = findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
    return [line for finding in found for line in (finding.text, *finding.cases)]


def test_rows_on_all_sides_of_retrained(root: Path) -> None:
    text = line(scored(root), "Gap to the retrained model")
    like, knows, avoids = (
        text.index(words) for words in ("like the retrained model:", "still knows:", "avoids the")
    )
    places = [text.index(f"NPO + {name}") for name in ("AdamW", "Signum", "Sophia")]
    assert like < places[0] < knows < places[1] < avoids < places[2]
    assert "The scale is that of 9 retrained seeds (8, 24 and 288 degrees of freedom" in text


def test_with_one_retrained_seed_nothing_is_like_it(root: Path) -> None:
    text = line(scored(root, seeds=(1,), retrained_seeds=()), "No row is said to be like")
    assert "with one seed of it nothing says how far" in text


def test_seeds_that_are_far_apart_tell_little(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a limit that is wider than a share of the gap of `original`, here 1 %, is not like."""
    monkeypatch.setattr("pipeline_lib.reporting.likeness.TELLS", 0.01)
    text = line(scored(root), "Gap to the retrained model")
    assert "no row is like the retrained model; " in text
    assert "with so few retrained seeds little would be: NPO + AdamW" in text


def test_seeds_that_diverged_were_not_tested(root: Path) -> None:
    lines = scored(root, diverged={("NPO", "adamw", 2): 7, ("NPO", "adamw", 3): 9})
    assert "like the retrained model: NPO + AdamW" in line(lines, "Gap to the retrained model")
    assert line(lines, "Diverged") == (
        "Diverged, and left out of the means: NPO + AdamW (2 of 3 seeds, step 7, 9)."
    )


def test_a_study_whose_original_is_like_retrained_cannot_show_forgetting(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignorant = Study._strength

    def strength(self: Study, method: str, optimizer: str) -> tuple[float, float]:
        return (1.0, 0.0) if method == "original" else ignorant(self, method, optimizer)

    monkeypatch.setattr(Study, "_strength", strength)
    assert scored(root)[0].startswith(
        "This study cannot show forgetting: `original` itself is not told from a further seed of the "
        "retrained model"
    )
