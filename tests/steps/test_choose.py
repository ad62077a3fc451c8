"""The choice from likelihoods that can be added up on paper: gap, joint utility, bound."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, write_json
from pipeline_lib.core.sealing import write_sealed_jsonl
from pipeline_lib.steps import choose
from pipeline_lib.steps.likelihood_scores import likelihood_lines
from tests.steps.study import job

MANIFEST = {
    "evaluate": ["forget", "retain", "facts"],
    "utility": ["retain", "facts"],
    "multiple_choice": ["facts"],
}
# Mean log-probability of a token in both questions of author a and of author b.
Forget = tuple[float, float]
RETRAINED: Forget = (-3.0, -5.0)
ORIGINAL: Forget = (-0.1, -0.1)


def row(split: str, group: str, name: str, log_p: float, wrong: float | None = None) -> dict[str, Any]:
    """A record of two tokens; `wrong`: the log-probability per token of its one wrong answer."""
    return {
        **{"id": name, "group": group, "split": split, "prompt": "Who?", "answer": "Me."},
        **{"answer_nll": -2 * log_p, "answer_tokens": 2, "paraphrase_nll": 1.0, "paraphrase_tokens": 1},
        "distractor_nll": [] if wrong is None else [-2 * wrong],
        "distractor_tokens": [] if wrong is None else [2],
        **{"token_nll": [-log_p, -log_p], "argmax_correct": [True, True]},
    }


def rows(forget: Forget, retain: float = 0.8, facts: float = 0.5) -> list[dict[str, Any]]:
    """`retain`: probability of the retained answer; `facts`: that of the right one of two answers."""
    return [
        *(
            row("forget", group, f"{group}{i}", log_p)
            for group, log_p in zip("ab", forget, strict=True)
            for i in (1, 2)
        ),
        row("retain", "c", "c1", math.log(retain)),
        row("facts", "f", "f1", math.log(facts), math.log(1 - facts)),
    ]


class Tuning:
    """The files of a choice: trials by number, `original` and `retrained` by seed."""

    def __init__(self, root: Path) -> None:
        self.root, self.trials, self.widened = root, list[Path](), list[Path]()
        self.seeds, self.anchors = list[int](), dict[str, list[Path]](original=[], retrained=[])
        write_json(root / "manifest.json", MANIFEST)

    def seed(self, seed: int, original: Any = None, retrained: Any = None) -> None:
        self.seeds.append(seed)
        found = {"original": original or rows(ORIGINAL), "retrained": retrained or rows(RETRAINED)}
        for method, of_model in found.items():
            path = self.root / f"{method}{seed}.jsonl"
            write_sealed_jsonl(path, of_model)
            self.anchors[method].append(path)

    def trial(self, number: int, rate: float, of_model: Any, seed: int = 0, way: Any = ()) -> None:
        """`way`: (step, log-probability in the questions of a and of b, utility) of each judged step."""
        result = {
            **{"trial": number, "seed": seed, "clipped_share": None, "diverged_step": None},
            "tuned": {"optimizer": {"learning_rate": rate}, "objective": {}},
            "settings": {"training": {"compute": "fp32"}},
            "status": "diverged" if of_model is None else "ok",
            "questions": None if of_model is None else likelihood_lines(of_model, MANIFEST),
            "judged": [
                {
                    "step": step,
                    "judged": {
                        "forget": {"a1": a, "a2": a, "b1": b, "b2": b},
                        "utility": {"retain": 0.8 * utility, "facts": 0.5},
                    },
                }
                for step, (a, b), utility in way
            ],
        }
        self.trials.append(self.root / f"trial{number}.{seed}.json")
        write_json(self.trials[-1], result)

    def skipped(self, number: int, seed: int = 0) -> None:
        self.trials.append(self.root / f"trial{number}.{seed}.json")
        write_json(self.trials[-1], {"trial": number, "seed": seed, "status": "skipped"})

    def round(self, number: int, high: float, skipped: bool = False) -> None:
        self.widened.append(self.root / f"round{number}.json")
        rows = {name: {"optimizer": {"learning_rate": [1e-4, high]}} for name in ("mine", "other")}
        write_json(self.widened[-1], {"skipped": skipped, "ranges": rows})

    def chosen(
        self, forget: str = "gap", within: float = 0.1, draw: int | None = None, level: float | None = None
    ) -> dict[str, Any]:
        inputs = {"manifest": self.root / "manifest.json", "trials": self.trials, **self.anchors}
        inputs |= {"widened": self.widened} if self.widened else {}
        if forget == "probability":
            del inputs["retrained"]
        settings = {
            "seeds": self.seeds,
            "select": {"forget": forget, "utility_within": within} | ({"level": level} if level else {}),
            "forget_draw": draw,
            "ranges": {"optimizer": {"learning_rate": [1e-4, 1e-3]}, "objective": {}},
            "row": "mine",
        }
        choose.run(job(self.root, inputs, {"chosen": "chosen.json"}, **settings))
        return read_json(self.root / "chosen.json")


@pytest.fixture
def tuning(tmp_path: Path) -> Tuning:
    made = Tuning(tmp_path)
    made.seed(0)
    return made


def of_run(chosen: dict[str, Any], number: int, seed: int = 0) -> dict[str, Any]:
    (trial,) = [trial for trial in chosen["trials"] if trial["trial"] == number]
    (run,) = [run for run in trial["runs"] if run["seed"] == seed]
    return run


def test_gap_and_joint_utility_worked_out_by_hand(tuning: Tuning) -> None:
    """Author a lies 1 above `retrained`, b 2 below it: signs do not cancel. Facts lost most."""
    tuning.trial(1, 1e-4, rows((-2.0, -7.0), retain=0.76, facts=0.46))
    chosen = tuning.chosen()
    run = of_run(chosen, 1)
    assert run["gap"] == pytest.approx((1 + 2) / 2)
    assert run["forget_probability"] == pytest.approx((math.exp(-2) + math.exp(-7)) / 2, rel=1e-5)
    assert run["joint_utility"] == pytest.approx(min(0.76 / 0.8, 0.46 / 0.5))
    assert (chosen["forget"], chosen["joint_utility"]) == (run["gap"], run["joint_utility"])
    assert (chosen["least"], chosen["bound_met"], chosen["forget_draw"]) == (0.9, True, None)


def test_a_trial_is_judged_by_the_least_gap_of_its_path_at_the_level(tuning: Tuning) -> None:
    """`retrained` has -3 and -5.

    The first path ends there, but far below the level, which it crosses half-way between distances of
    (2.9, 4.9) and (0, 0.2). The second is 1 away wherever it crosses, and further at its end. The third stays
    above the level, and its model is (0.4, 0.6) away.
    """
    tuning.trial(1, 1e-4, rows(RETRAINED, retain=0.4), way=[(5, (-3.0, -5.2), 0.8), (10, RETRAINED, 0.5)])
    near = [(5, (-2.0, -4.0), 0.95), (10, (-4.0, -6.0), 0.85)]
    tuning.trial(2, 2e-4, rows((-9.0, -9.0), retain=0.1), way=near)
    tuning.trial(3, 3e-4, rows(RETRAINED, retain=0.8), way=[(10, (-2.6, -4.4), 1.0)])
    chosen = tuning.chosen("front_gap", level=0.9)
    found = [of_run(chosen, number)["front_gap"] for number in (1, 2, 3)]
    assert found == pytest.approx([(2.9 + 4.9 + 0.0 + 0.2) / 4, 1.0, 0.5])
    assert (chosen["optimizer"]["learning_rate"], chosen["forget"]) == (3e-4, pytest.approx(0.5))
    assert (chosen["least"], chosen["bound_met"]) == (0.9, True)


def test_what_forgets_more_than_retrained_is_not_chosen(tuning: Tuning) -> None:
    """By probability it would be: it knows least of all."""
    tuning.trial(1, 1e-4, rows((-1.0, -2.0)))  # gap (2 + 3) / 2
    tuning.trial(2, 3e-4, rows((-3.5, -4.5)))  # gap 0.5
    tuning.trial(3, 1e-3, rows((-9.0, -9.0)))  # gap (6 + 4) / 2
    chosen = tuning.chosen()
    assert chosen["trial"] == 2 and chosen["optimizer"] == {"learning_rate": 3e-4}
    assert [trial["forget"] for trial in chosen["trials"]] == pytest.approx([2.5, 0.5, 5.0])
    assert chosen["at_edge"] == {"optimizer": {}, "objective": {}}
    by_probability = tuning.chosen("probability")
    assert by_probability["trial"] == 3 and of_run(by_probability, 3)["gap"] is None
    assert by_probability["at_edge"]["optimizer"] == {"learning_rate": "highest"}


def test_a_trial_that_loses_any_one_utility_split_breaks_the_bound(tuning: Tuning) -> None:
    tuning.trial(1, 1e-4, rows((-3.0, -5.0), retain=0.9, facts=0.4))  # gap 0, retains more, loses facts
    tuning.trial(2, 3e-4, rows((-2.0, -4.0), retain=0.73, facts=0.46))
    chosen = tuning.chosen(within=0.1)
    assert (chosen["trial"], chosen["bound_met"]) == (2, True)
    assert tuning.chosen(within=0.25)["trial"] == 1


def test_if_no_trial_keeps_the_bound_the_highest_joint_utility(tuning: Tuning) -> None:
    tuning.trial(1, 1e-4, rows((-3.0, -5.0), retain=0.2))
    tuning.trial(2, 3e-4, rows((-9.0, -9.0), retain=0.4))
    chosen = tuning.chosen()
    assert (chosen["trial"], chosen["bound_met"]) == (2, False)
    assert chosen["joint_utility"] == pytest.approx(0.5)


def test_every_seed_is_held_against_its_own_original_and_the_mean_of_all_retrained(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path)
    tuning.seed(0, rows(ORIGINAL, retain=0.8), rows((-3.0, -5.0)))
    tuning.seed(1, rows(ORIGINAL, retain=0.4), rows((-4.0, -7.0)))  # mean of both -3.5 and -6
    for seed in (0, 1):
        tuning.trial(1, 1e-4, rows((-3.0, -5.0), retain=0.4), seed)
    chosen = tuning.chosen()
    assert [of_run(chosen, 1, seed)["gap"] for seed in (0, 1)] == pytest.approx([0.75, 0.75])
    assert of_run(chosen, 1, 0)["joint_utility"] == pytest.approx(0.5)
    assert of_run(chosen, 1, 1)["joint_utility"] == pytest.approx(1.0)
    assert chosen["budget"] == {"trials": 1, "rounds": 1, "seeds": [0, 1]}
    assert not chosen["bound_met"], "on seed 0"


def test_a_split_that_original_does_not_know_cannot_be_lost(tuning: Tuning, tmp_path: Path) -> None:
    other = Tuning(tmp_path)
    other.seed(0, rows(ORIGINAL, retain=0.04))
    other.trial(1, 1e-4, rows((-3.0, -5.0), retain=0.001))
    assert of_run(other.chosen(), 1)["joint_utility"] == pytest.approx(1.0)


def test_an_original_that_knows_nothing_says_nothing_about_a_bound(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path)
    tuning.seed(0, rows(ORIGINAL, retain=0.04, facts=0.04))
    tuning.trial(1, 1e-4, rows(ORIGINAL))
    with pytest.raises(UserError, match=r"no utility split \(retain, facts\) has a probability of 0\.05"):
        tuning.chosen()


def test_a_diverged_trial_has_no_numbers(tuning: Tuning) -> None:
    tuning.trial(1, 1e-4, None)
    tuning.trial(2, 1e-3, rows((-2.0, -4.0)))
    chosen = tuning.chosen(draw=1)
    assert (chosen["trial"], chosen["diverged"], chosen["forget_draw"]) == (2, 1, 1)
    assert of_run(chosen, 1)["gap"] is None and of_run(chosen, 1)["joint_utility"] is None


def test_trials_of_a_round_that_was_skipped_do_not_count(tuning: Tuning) -> None:
    tuning.trial(1, 1e-4, rows((-1.0, -2.0)))
    tuning.trial(2, 1e-2, rows((-3.5, -4.5)))
    tuning.skipped(3)
    tuning.round(2, 1e-2)
    tuning.round(3, 1e-2, skipped=True)
    chosen = tuning.chosen()
    assert (chosen["trial"], len(chosen["trials"])) == (2, 2)
    assert chosen["budget"] == {"trials": 2, "rounds": 2, "seeds": [0]}
    assert chosen["ranges"] == {"optimizer": {"learning_rate": [1e-4, 1e-2]}}, "of the last round that ran"


def test_other_questions_are_refused(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path)
    tuning.seed(0, rows(ORIGINAL), rows(RETRAINED)[1:])
    tuning.trial(1, 1e-4, rows(ORIGINAL))
    with pytest.raises(UserError, match="asked different questions of split 'forget'"):
        tuning.chosen()


def test_records_without_a_split_are_refused(tmp_path: Path) -> None:
    tuning = Tuning(tmp_path)
    tuning.seed(0, [one for one in rows(ORIGINAL) if one["split"] == "forget"])
    tuning.trial(1, 1e-4, rows(ORIGINAL))
    with pytest.raises(UserError, match=r"original0\.jsonl: holds no records of retain, facts"):
        tuning.chosen()


def test_the_choice_can_be_made_again_from_the_numbers_that_trials_keep(tuning: Tuning) -> None:
    tuning.trial(1, 1e-4, rows((-1.23456789, -2.0)))
    lines = read_json(tuning.trials[0])["questions"]
    assert lines[0] == {
        "split": "forget",
        "group": "a",
        "id": "a1",
        "log_probability": -1.23457,  # six digits, as in scores.csv
        "probability": float(f"{math.exp(-1.23456789):.6g}"),
    }
