"""Paths of judged runs: the least gap at a utility, by hand, and never beyond their ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline_lib.metrics import declared
from pipeline_lib.metrics.judged import judged_row
from pipeline_lib.metrics.path import Path
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


def test_the_front_by_hand() -> None:
    """Points (2, 1) and (1, 0.95) are above 0.9, which is crossed a third of the way from 0.95 to 0.8.

    There the distances are (1.5 - 1/3, 0.5), nearer than both.
    """
    assert measured(OF, "front_gap")["value"] == pytest.approx((7 / 6 + 1 / 2) / 2)
    assert measured(OF, "front_gap_signed")["value"] == pytest.approx((7 / 6 + 1 / 6) / 2)
    assert measured(OF, "front_step")["value"] == pytest.approx(4 + 4 / 3)
    assert measured(OF, "front_interpolated")["value"] == 1


def test_a_judged_model_that_is_nearest_needs_no_interpolation() -> None:
    """At 0.4 the path never crosses: its third model is the nearest of all."""
    low = replace(OF, level=0.4)
    assert measured(low, "front_gap")["value"] == pytest.approx(0.5)
    assert (measured(low, "front_step")["value"], measured(low, "front_interpolated")["value"]) == (8, 0)


def test_a_path_that_comes_back_is_judged_where_it_is_nearest() -> None:
    """Utility falls below 0.9 at once, and is back when the answers are gone: the first place says little."""
    back = [(4, judged(-0.6, 0.4, 0.5)), (8, judged(-2.0, 0.6, 0.5)), (12, judged(-2.2, 0.76, 0.5))]
    found = replace(OF, judged=back)
    first, last = Path.of(found).crossings(0.9)
    assert first.step < 4 and 8 < last.step < 12
    assert first.gap > 1.5 and measured(found, "front_gap")["value"] == pytest.approx(0.5)
    assert measured(found, "front_step")["value"] == pytest.approx(8 + 4 * (0.9 - 0.75) / (0.95 - 0.75))


def test_of_equals_the_first_counts_and_original_is_on_the_path() -> None:
    known = {"forget": {"forget0": -0.1, "forget1": -0.1}}
    worse = [(4, judged(0, 0.8, 0.5) | known), (8, judged(0, 0.1, 0.5) | known)]
    assert measured(replace(OF, judged=worse), "front_step")["value"] == 0
    assert measured(replace(OF, judged=worse), "front_gap")["value"] == pytest.approx(2)
    same = [(4, judged(-2.0, 0.8, 0.5)), (8, judged(-2.0, 0.8, 0.5))]
    assert measured(replace(OF, judged=same), "front_step")["value"] == 4


def test_nothing_is_carried_beyond_the_last_model() -> None:
    """The path moves straight to `retrained` and stops half-way, above the level."""
    short = replace(OF, judged=WAY[:1])
    assert measured(short, "front_gap")["value"] == pytest.approx(1)
    assert measured(short, "front_step")["value"] == 4


def test_a_run_that_was_not_judged_on_its_way_has_no_such_number() -> None:
    assert list(replace(OF, judged=()).measure(declared()["front_gap"])) == []


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
