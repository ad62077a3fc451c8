"""Paths of judged runs: where they cross a utility, by hand, and never beyond their ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline_lib.metrics import declared
from pipeline_lib.metrics.path import Path, judged_row
from pipeline_lib.metrics.study import Studied
from tests.metrics.rows import make_row
from tests.metrics.studied import scores

BEFORE = scores(forget=[("a", -0.5), ("b", -0.5)], retain=[("c", -0.1, 0.8)], facts=[("d", -0.1, 0.5)])
NEVER = scores(forget=[("a", -2.5), ("b", -2.5)])


def judged(forget: float, retain: float, facts: float) -> dict:
    return {
        "forget": {"forget0": forget, "forget1": forget - 1},
        "utility": {"retain": retain, "facts": facts},
    }


WAY = [(4, judged(-1.0, 0.76, 0.5)), (8, judged(-2.0, 0.72, 0.4)), (12, judged(-4.0, 0.4, 0.4))]
OF = Studied(BEFORE, [NEVER], BEFORE, [BEFORE], ("retain", "facts"), WAY, 0.9)


def measured(of: Studied, name: str) -> dict:
    (row,) = of.measure(declared()[name])
    return row


def test_a_path_by_hand() -> None:
    points = Path.of(OF).points
    assert [point.step for point in points] == [0, 4, 8, 12]
    assert [point.utility for point in points] == pytest.approx([1, 0.95, 0.8, 0.5])
    # differences to -2.5: (2, 2), (1.5, 0.5), (0.5, -0.5), (-1.5, -2.5)
    assert [point.gap for point in points] == pytest.approx([2, 1, 0.5, 2])


def test_the_crossing_by_hand() -> None:
    # from 0.95 to 0.8: 0.9 is a third of the way; differences 1.5 - 1/3, 0.5 - 1/3, distances 1.5 - 1/3, 0.5
    assert measured(OF, "matched_step")["value"] == pytest.approx(4 + 4 / 3)
    assert measured(OF, "matched_in_warmup")["value"] == 0
    assert measured(OF, "gap_at_matched_utility")["value"] == pytest.approx((7 / 6 + 1 / 2) / 2)
    assert measured(OF, "gap_signed_at_matched_utility")["value"] == pytest.approx((7 / 6 + 1 / 6) / 2)


def test_a_crossing_before_the_first_judged_step_is_marked() -> None:
    assert measured(replace(OF, level=0.96), "matched_in_warmup")["value"] == 1
    assert measured(replace(OF, level=0.95), "matched_in_warmup")["value"] == 0


def test_a_path_is_not_carried_on() -> None:
    low = measured(replace(OF, level=0.4), "gap_at_matched_utility")
    assert "value" not in low
    assert "falls below" in low["needs"]


def test_a_run_that_was_not_judged_on_its_way_has_no_such_number() -> None:
    assert list(replace(OF, judged=()).measure(declared()["gap_at_matched_utility"])) == []


def test_the_first_crossing_counts() -> None:
    back = [*WAY[:2], (10, judged(-2.2, 0.8, 0.5)), WAY[2]]
    assert measured(replace(OF, judged=back), "matched_step") == measured(OF, "matched_step")


def test_what_is_kept_of_a_model_on_its_way() -> None:
    rows = {
        "forget": [
            make_row("f", "forget", "a", answer_nll=2.0),
            make_row("g", "forget", "b", answer_nll=6.0),
        ],
        "facts": [make_row("h", "facts")],
    }
    plain = judged_row(rows, [])
    assert plain["forget"] == {"f": -0.5, "g": -1.5}
    assert plain["utility"] == {"facts": pytest.approx(0.904837)}  # exp(-0.1)
    # wrong answers of 1 and 2 nats a token: 1 / (1 + exp(-0.9) + exp(-1.9))
    assert judged_row(rows, ["facts"])["utility"] == {"facts": pytest.approx(0.642616)}
