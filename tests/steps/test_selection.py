"""The rule of selection on trials whose outcome can be seen by eye."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.steps.selection import at_edge, choose


def trial(
    *runs: tuple[float, float] | None, distance: float = 0.5, seeds: tuple[int, ...] = (100, 101)
) -> list[dict[str, Any]]:
    """Results of one trial: (forget probability, retain probability) a seed, None where it diverged."""
    return [
        {
            "seed": seed,
            "status": "diverged" if run is None else "ok",
            "forget_probability": run[0] if run else None,
            "retain_probability": run[1] if run else None,
            "ks_statistic": distance if run else None,
        }
        for seed, run in zip(seeds, runs, strict=False)
    ]


def chosen(*trials: list[dict[str, Any]], forget: str = "probability") -> dict[str, Any]:
    """With an original model that retains 0.8, and a quarter of it to lose: the bound is 0.6."""
    seeds = dict.fromkeys(run["seed"] for runs in trials for run in runs)
    numbered = dict(enumerate(trials, start=1))
    return choose(numbered, dict.fromkeys(seeds, 0.8), forget, 0.25)


def test_most_forgetting_within_the_bound() -> None:
    found = chosen(trial((0.5, 0.8)), trial((0.2, 0.7)), trial((0.01, 0.5)))
    assert (found["trial"], found["bound_met"], found["status"]) == (2, True, "ok")
    assert (found["forget"], found["retain_probability"], found["diverged"]) == (0.2, 0.7, 0)
    assert found["bound"] == [{"seed": 100, "original": 0.8, "least": pytest.approx(0.6)}]
    assert [t["bound_met"] for t in found["trials"]] == [True, True, False]


def test_the_bound_itself_is_within_it() -> None:
    least = 0.75 * 0.8
    found = chosen(trial((0.5, 0.8)), trial((0.2, least)))
    assert found["trial"] == 2
    found = chosen(trial((0.5, 0.8)), trial((0.2, least - 1e-12)))
    assert found["trial"] == 1


def test_the_bound_holds_on_every_seed_and_not_in_the_mean_alone() -> None:
    found = chosen(trial((0.5, 0.7), (0.5, 0.7)), trial((0.0, 0.8), (0.0, 0.55)))
    assert found["trial"] == 1
    assert found["trials"][1]["retain_probability"] == pytest.approx(0.675)  # more than 0.6


def test_each_seed_has_a_bound_of_its_own() -> None:
    trials = {1: trial((0.3, 0.4), (0.3, 0.7)), 2: trial((0.1, 0.7), (0.1, 0.4))}
    found = choose(trials, {100: 0.5, 101: 0.9}, "probability", 0.25)  # bounds 0.375 and 0.675
    assert (found["trial"], found["bound_met"]) == (1, True)
    assert [round(bound["least"], 6) for bound in found["bound"]] == [0.375, 0.675]


def test_forgetting_is_the_mean_over_seeds() -> None:
    found = chosen(trial((0.1, 0.8), (0.5, 0.8)), trial((0.28, 0.8), (0.28, 0.8)))
    assert (found["trial"], found["forget"]) == (2, pytest.approx(0.28))


def test_the_distance_to_the_retrained_model_may_decide() -> None:
    near, far = trial((0.4, 0.8), distance=0.1), trial((0.01, 0.8), distance=0.9)
    assert chosen(near, far, forget="ks_statistic")["trial"] == 1
    assert chosen(near, far, forget="ks_statistic")["forget"] == 0.1
    assert chosen(near, far, forget="probability")["trial"] == 2


def test_if_none_keeps_the_bound_the_one_that_retained_most() -> None:
    found = chosen(trial((0.0, 0.1)), trial((0.4, 0.5)), trial((0.2, 0.3)))
    assert (found["trial"], found["bound_met"], found["status"]) == (2, False, "ok")


def test_a_diverged_trial_is_recorded_and_never_chosen() -> None:
    found = chosen(trial(None), trial((0.9, 0.01)), trial(None))
    assert (found["trial"], found["bound_met"], found["diverged"]) == (2, False, 2)
    lost = found["trials"][0]
    assert lost == {
        "trial": 1,
        "status": "diverged",
        "bound_met": False,
        "forget": None,
        "retain_probability": None,
    }


def test_one_seed_that_diverged_loses_the_trial() -> None:
    found = chosen(trial((0.5, 0.7), (0.5, 0.7)), trial((0.1, 0.8), None))
    assert (found["trial"], found["diverged"]) == (1, 1)


def test_if_every_trial_diverged_the_first_stands_for_them() -> None:
    found = chosen(trial(None), trial(None))
    assert (found["trial"], found["bound_met"], found["status"]) == (1, False, "every trial diverged")
    assert (found["forget"], found["retain_probability"], found["diverged"]) == (None, None, 2)


@pytest.mark.parametrize("retain", [0.8, 0.3], ids=["within", "none within"])
def test_the_lower_number_wins_a_tie(retain: float) -> None:
    trials = {number: trial((0.3, retain)) for number in (10, 9, 2)}  # the order of files does not matter
    assert choose(trials, {100: 0.8}, "probability", 0.25)["trial"] == 2


def test_a_model_that_knew_nothing_has_nothing_to_lose() -> None:
    found = choose({1: trial((0.3, 0.0)), 2: trial((0.1, 0.0))}, {100: 0.0}, "probability", 0.05)
    assert (found["trial"], found["bound_met"]) == (2, True)


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
