"""The rule of selection on trials whose outcome can be seen by eye."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.steps.selection import at_edge, choose


def trial(*runs: tuple[float, float] | None, probability: float = 0.5) -> list[dict[str, Any]]:
    """The runs of one trial: (gap, joint utility) a seed, None where it diverged."""
    return [
        {
            "status": "diverged" if run is None else "ok",
            "gap": run[0] if run else None,
            "joint_utility": run[1] if run else None,
            "forget_probability": probability if run else None,
        }
        for run in runs
    ]


def chosen(*trials: list[dict[str, Any]], forget: str = "gap") -> dict[str, Any]:
    """With a quarter of the joint utility to lose: the bound is 0.75."""
    return choose(dict(enumerate(trials, start=1)), forget, 0.75)


def test_the_smallest_gap_within_the_bound() -> None:
    found = chosen(trial((0.5, 1.0)), trial((0.2, 0.8)), trial((0.01, 0.5)))
    assert (found["trial"], found["bound_met"], found["status"]) == (2, True, "ok")
    assert (found["forget"], found["joint_utility"], found["diverged"]) == (0.2, 0.8, 0)
    assert found["least"] == 0.75
    assert [t["bound_met"] for t in found["trials"]] == [True, True, False]


def test_the_bound_itself_is_within_it() -> None:
    assert chosen(trial((0.5, 1.0)), trial((0.2, 0.75)))["trial"] == 2
    assert chosen(trial((0.5, 1.0)), trial((0.2, 0.75 - 1e-12)))["trial"] == 1


def test_the_bound_holds_on_every_seed_and_not_in_the_mean_alone() -> None:
    found = chosen(trial((0.5, 0.8), (0.5, 0.8)), trial((0.0, 1.0), (0.0, 0.7)))
    assert found["trial"] == 1
    assert found["trials"][1]["joint_utility"] == pytest.approx(0.85)  # more than 0.75


def test_the_gap_is_the_mean_over_seeds() -> None:
    found = chosen(trial((0.1, 1.0), (0.5, 1.0)), trial((0.28, 1.0), (0.28, 1.0)))
    assert (found["trial"], found["forget"]) == (2, pytest.approx(0.28))


def test_without_retrained_the_probability_decides() -> None:
    known, forgotten = trial((0.1, 1.0), probability=0.6), trial((0.9, 1.0), probability=0.2)
    assert chosen(known, forgotten)["trial"] == 1
    found = chosen(known, forgotten, forget="probability")
    assert (found["trial"], found["forget"]) == (2, 0.2)


def test_if_none_keeps_the_bound_the_one_with_the_highest_joint_utility() -> None:
    found = chosen(trial((0.0, 0.1)), trial((0.4, 0.5)), trial((0.2, 0.3)))
    assert (found["trial"], found["bound_met"], found["status"]) == (2, False, "ok")


def test_on_the_front_the_smallest_mean_gap_whatever_is_left_at_the_end() -> None:
    trials = (
        [{"status": "ok", "front_gap": gap, "joint_utility": utility} for gap, utility in runs]
        for runs in (((0.5, 0.1), (0.5, 0.7)), ((0.4, 0.2), (0.3, 0.0)), ((0.9, 1.0), (0.2, 0.9)))
    )
    found = chosen(*trials, forget="front_gap")
    assert (found["trial"], found["forget"], found["bound_met"]) == (2, pytest.approx(0.35), True)
    assert [t["bound_met"] for t in found["trials"]] == [True, True, True]


def test_a_diverged_trial_is_recorded_and_never_chosen() -> None:
    found = chosen(trial(None), trial((0.9, 0.01)), trial(None))
    assert (found["trial"], found["bound_met"], found["diverged"]) == (2, False, 2)
    lost = found["trials"][0]
    assert lost == {
        "trial": 1,
        "status": "diverged",
        "bound_met": False,
        "forget": None,
        "joint_utility": None,
    }


def test_one_seed_that_diverged_loses_the_trial() -> None:
    found = chosen(trial((0.5, 0.8), (0.5, 0.8)), trial((0.1, 1.0), None))
    assert (found["trial"], found["diverged"]) == (1, 1)


def test_if_every_trial_diverged_the_first_stands_for_them() -> None:
    found = chosen(trial(None), trial(None))
    assert (found["trial"], found["bound_met"], found["status"]) == (1, False, "every trial diverged")
    assert (found["forget"], found["joint_utility"], found["diverged"]) == (None, None, 2)


@pytest.mark.parametrize("utility", [1.0, 0.3], ids=["within", "none within"])
def test_the_lower_number_wins_a_tie(utility: float) -> None:
    trials = {number: trial((0.3, utility)) for number in (10, 9, 2)}  # the order of files does not matter
    assert choose(trials, "gap", 0.25)["trial"] == 2


# --- the end of a range -----------------------------------------------------------------------------


def test_a_chosen_value_at_the_end_of_what_was_tried() -> None:
    tried = [{"rate": rate, "beta": beta} for rate, beta in ((3e-5, 0.1), (1e-4, 0.2), (9e-5, 0.3))]
    assert at_edge(tried, tried[0]) == {"rate": "lowest", "beta": "lowest"}
    assert at_edge(tried, tried[1]) == {"rate": "highest"}
    assert at_edge(tried, tried[2]) == {"beta": "highest"}


def test_what_has_no_edge() -> None:
    assert at_edge([{"x": "a"}, {"x": "b"}], {"x": "a"}) == {}  # words
    assert at_edge([{"x": True}, {"x": False}], {"x": True}) == {}
    assert at_edge([{"x": 1.0}, {"x": 1.0}], {"x": 1.0}) == {}  # one value
    assert at_edge([{"x": "auto"}, {"x": 2.0}, {"x": 1.0}], {"x": "auto"}) == {}
    assert at_edge([{"x": "auto"}, {"x": 2.0}, {"x": 1.0}], {"x": 2.0}) == {"x": "highest"}
    assert at_edge([{}, {}], {}) == {}
