"""Places in ranges, and wider ranges, on numbers that can be worked out by eye."""

from __future__ import annotations

import pytest

from pipeline_lib.core.ranges import placed, widened

LOG = {"low": 1e-4, "high": 1e-2, "scale": "log"}
LINEAR = {"low": 0.2, "high": 0.5, "scale": "linear"}


def test_a_place_between_the_ends() -> None:
    assert [placed(u, LOG) for u in (0.0, 0.25, 0.5, 0.75)] == [1e-4, 3.162e-4, 1e-3, 3.162e-3]
    assert placed(0.5, LINEAR) == 0.35
    assert [placed(u, ["a", "b"]) for u in (0.0, 0.49, 0.5, 0.99)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("down", "up", "low", "high"),
    [(0, 0, 1e-4, 1e-2), (0, 1, 1e-4, 1.0), (1, 0, 1e-6, 1e-2), (1, 2, 1e-6, 100.0)],
)
def test_a_log_range_grows_by_its_own_factor(down: int, up: int, low: float, high: float) -> None:
    """Once in one direction doubles it: two powers of ten become four."""
    assert widened(LOG, down, up) == {"low": low, "high": high, "scale": "log"}


def test_a_linear_range_grows_by_its_own_width() -> None:
    assert widened(LINEAR, 0, 1) == {"low": 0.2, "high": 0.8, "scale": "linear"}
    assert widened({"low": 0.4, "high": 0.6, "scale": "linear"}, 2, 0)["low"] == 0
    assert widened(LINEAR, 1, 2) == {"low": -0.1, "high": 1.1, "scale": "linear"}


def test_an_end_that_stays_keeps_all_its_digits() -> None:
    exact = {"low": 1.23456789e-4, "high": 1e-2, "scale": "log"}
    assert widened(exact, 0, 1)["low"] == 1.23456789e-4
