"""All answers of a study as data: what stands beside what, by hand, and what a full page leaves out."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from pipeline_lib.reporting import every_answer as module
from pipeline_lib.reporting.catalog import REPORT_NEEDS
from pipeline_lib.reporting.every_answer import every_answer
from pipeline_lib.reporting.inputs import Inputs
from pipeline_lib.reporting.page import data_block
from tests.reporting.staged import write_relearned
from tests.reporting.study import QUESTIONS, Study
from tests.reporting.test_html import HOSTILE

FEW: dict[str, Any] = {"optimizers": ("adamw", "sophia"), "methods": {"NPO": 1.0}, "seeds": (1, 2)}


def of(study: Study, most: int = module.MOST) -> list[dict[str, Any]]:
    return every_answer(Inputs(study.paths(*REPORT_NEEDS)), most)


def test_a_row_stands_beside_original_and_itself_after_every_stage(root: Path) -> None:
    (found,) = of(write_relearned(root))
    assert [row["name"] for row in found["rows"]] == ["NPO + AdamW", "NPO + Sophia", "original", "retrained"]
    sophia = found["rows"][1]
    assert sophia["seed"] == 1 and [name for name, _ in sophia["stages"]] == ["relearn"]
    said = found["questions"][3]["said"]
    assert said[sophia["before"]][0] == "An answer of original none to question 3."
    assert said[sophia["after"]][0] == "An answer of NPO sophia to question 3."
    assert said[sophia["stages"][0][1]][0] == "An answer of NPO sophia to question 3."
    assert (len(found["questions"]), found["splits"], found["left_out"]) == (QUESTIONS, ["forget"], 0)


def test_probability_and_gap_are_those_of_the_records(root: Path) -> None:
    """Records have the NLL 4 exp(-r) of 4 tokens: the log-probability of a token is -exp(-r)."""
    study = Study(root, diverged={("NPO", "adamw", 1): 3}, **FEW).write()
    (found,) = of(study)
    adamw = found["rows"][0]
    assert adamw["seed"] == 2, "the first seed that has answers"
    known = -math.exp(-study._log_ratios("NPO", "adamw", 2)[5])
    aim = fmean(-math.exp(-study._log_ratios("retrained", "none", seed)[5]) for seed in (1, 2))
    _, p, gap = found["questions"][5]["said"][adamw["after"]]
    assert (p, gap) == (pytest.approx(math.exp(known), abs=1e-4), pytest.approx(known - aim, abs=1e-4))


def test_a_full_page_keeps_the_largest_gaps_and_counts_the_others(root: Path) -> None:
    study = Study(root, diverged={}, **FEW).write()
    (whole,) = of(study)
    most = len(data_block(whole["questions"]).encode()) // 2
    (found,) = of(study, most)
    kept = [question["prompt"] for question in found["questions"]]
    assert len(data_block(found["questions"]).encode()) <= most + 2
    assert 0 < len(kept) < QUESTIONS and found["left_out"] == QUESTIONS - len(kept)
    columns = [row["after"] for row in whole["rows"] if row["name"].startswith("NPO")]
    gaps = {
        question["prompt"]: max(abs(question["said"][column][2]) for column in columns)
        for question in whole["questions"]
    }
    assert min(gaps[name] for name in kept) >= max(gaps[name] for name in gaps if name not in kept)
    assert kept == [name for name in gaps if name in kept], "the order is that of the data"


def test_hostile_text_is_visible_and_stays_within_the_block(root: Path) -> None:
    (found,) = of(Study(root, seeds=(1,), diverged={}, generation=HOSTILE).write())
    (text, *_) = found["questions"][0]["said"][0]
    assert "⟨U+202E⟩esrever⟨U+0000⟩⟨U+0007⟩⟨U+E000⟩ ok" in text
    assert "<" not in data_block([found])
