"""Recovery after a stage, by hand: what `retrained` learns from the same stage counts for nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import stats

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import RunKey
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.study import Scores, Staged, Studied
from pipeline_lib.reporting.scores import Paths, studied
from tests.metrics.studied import scores, study


def forget(*values: float) -> Scores:
    """Questions of two groups: the first two of a, the last of b."""
    return scores(forget=list(zip("aab", values, strict=True)))


RETRAINED = [forget(-4.0, -4.0, -4.0), forget(-2.0, -2.0, -4.0)]  # means -3, -3, -4
AFTER = [forget(-3.0, -3.0, -3.0), forget(-1.0, -1.0, -3.0)]  # means -2, -2, -3


def attacked(before: Scores, after: Scores, retrained: list[Scores] = AFTER) -> Studied:
    return replace(study(after, *RETRAINED), staged=Staged(before, retrained))


def measured(of: Studied, name: str) -> dict:
    (row,) = of.measure(declared()[name])
    return row


def test_recovery_and_excess_by_hand() -> None:
    """After: 1 and 1 above -2 in a, 2 above -3 in b; before: at -5, 2 and 2 below -3, 1 below -4."""
    of = attacked(forget(-5.0, -5.0, -5.0), forget(-1.0, -1.0, -1.0))
    assert measured(of, "recovery")["value"] == pytest.approx((1 + 2) / 2)
    assert measured(of, "recovery_excess")["value"] == pytest.approx((1 + 2) / 2 + (2 + 1) / 2)


def test_a_model_that_rises_to_retrained_has_recovered_nothing_whatever_its_excess() -> None:
    of = attacked(forget(-20.0, -20.0, -20.0), forget(-2.0, -2.0, -3.0))
    assert measured(of, "recovery")["value"] == 0
    assert measured(of, "recovery_excess")["value"] == pytest.approx((17 + 16) / 2)


def test_a_stage_that_changes_nothing_leaves_the_signed_gap() -> None:
    model = forget(-1.0, -2.0, -3.0)
    of = attacked(model, model, RETRAINED)
    gap = measured(of, "gap_signed")
    assert measured(of, "recovery") == {**gap, "metric": "recovery", "higher_is_better": False}
    assert measured(of, "recovery_excess")["value"] == 0


def test_the_probability_is_students_for_one_more_seed() -> None:
    """Seeds at -3 and -2: mean -2.5, s = sqrt(1/2), and one more lies s sqrt(3/2) about it."""
    of = attacked(forget(-5.0, -5.0, -5.0), forget(-1.0, -1.0, -1.0))
    expected = stats.t.sf(1.5 / (0.5 * 1.5) ** 0.5, 1)
    assert measured(of, "recovery_p")["value"] == pytest.approx(expected)
    alike = attacked(forget(-5.0, -5.0, -5.0), AFTER[0], [AFTER[0], AFTER[0]])
    assert measured(alike, "recovery_p")["value"] == 1.0


def test_groups_that_a_stage_taught_do_not_judge() -> None:
    """Group a was taught: b alone is left, 2 above -3 after the stage and 1 below -4 before it."""
    of = attacked(forget(-5.0, -5.0, -5.0), forget(-0.1, -0.1, -1.0))
    of = replace(of, staged=Staged(forget(-5.0, -5.0, -5.0), AFTER, learned=1))
    found = measured(of, "recovery")
    assert (found["value"], found["n"]) == (pytest.approx(2), 1)
    assert measured(of, "recovery_excess")["value"] == pytest.approx(2 + 1)
    assert measured(of, "recovery_p")["value"] == 0, "both seeds are at -3"


def answered(*recalls: float) -> Scores:
    """As `forget`, with the ROUGE-L recall of each answer."""
    values = [(group, -1.0, 0.4, recall) for group, recall in zip("aab", recalls, strict=True)]
    return scores(forget=values)


def test_the_published_rate_by_hand() -> None:
    """Groups a and b: the model says (0.1 + 0.3) / 2 and 0.4, `original` after the stage 0.5 and 0.7."""
    own, known = answered(0.1, 0.3, 0.4), answered(0.5, 0.5, 0.7)
    of = replace(study(own, *RETRAINED), staged=Staged(own, AFTER, original=known))
    rate = measured(of, "recovery_rate")
    assert rate["value"] == pytest.approx((0.2 + 0.4) / (0.5 + 0.7)) and rate["ci_low"] is None
    taught = replace(of, staged=replace(of.staged, learned=1))
    assert measured(taught, "recovery_rate")["value"] == pytest.approx(0.4 / 0.7), "b alone judges"
    same = replace(of, staged=replace(of.staged, original=own))
    assert measured(same, "recovery_rate")["value"] == 1, "`original` itself"
    for silent in (None, answered(0.0, 0.0, 0.0)):
        needs = measured(replace(of, staged=replace(of.staged, original=silent)), "recovery_rate")["needs"]
        assert "an `original` that still answers something after the same stage" in needs
    running_text = attacked(forget(-1.0, -1.0, -1.0), forget(-1.0, -1.0, -1.0))
    assert list(running_text.measure(declared()["recovery_rate"])) == [], "nothing is said, only scored"


def test_what_it_needs_is_told() -> None:
    model = forget(-1.0, -1.0, -1.0)
    assert "after the same stage" in measured(attacked(model, model, []), "recovery")["needs"]
    assert "two other seeds" in measured(attacked(model, model, AFTER[:1]), "recovery_p")["needs"]
    for name in ("recovery", "recovery_excess", "recovery_p", "recovery_rate"):
        assert list(study(model, *RETRAINED).measure(declared()[name])) == [], "no stage, no such number"


def test_models_after_stages_find_what_they_are_held_against() -> None:
    manifest = {
        "authors": {"evaluate": ["forget", "retain"], "utility": [], "splits": {"forget": {"groups": 2}}}
    }

    def key(method: str, seed: int, after: str = "", optimizer: str = "none") -> RunKey:
        return RunKey("authors", "tiny", method, optimizer, seed, 0, after)

    models = {key("original", 0): forget(0.0, 0.0, 0.0)}
    models[key("original", 0, "relearn")] = forget(-0.5, 0.0, 0.0)
    models |= {key("retrained", seed): of for seed, of in enumerate(RETRAINED)}
    models |= {key("retrained", seed, "relearn"): of for seed, of in enumerate(AFTER)}
    for after in ("", "matched", "relearn", "matched/relearn", "relearn/again"):
        models[key("NPO", 0, after, "adamw")] = forget(-1.0, -1.0, -1.0 - len(after))
    found = studied(models, manifest, Paths({}, {"authors": 0.9}, {"authors": {"relearn": 1}}))
    for after, before in (("relearn", ""), ("matched/relearn", "matched")):
        staged = found[key("NPO", 0, after, "adamw")].staged
        assert staged is not None and staged.retrained == AFTER and staged.learned == 1
        assert found[key("NPO", 0, after, "adamw")].level is None, "a path of unlearning ends before"
        assert staged.before is models[key("NPO", 0, before, "adamw")]
        assert staged.original is models[key("original", 0, "relearn")]
    own = found[key("retrained", 1, "relearn")].staged
    assert own is not None and own.retrained == AFTER[:1] and own.before is RETRAINED[1]
    assert own.original is models[key("original", 0, "relearn")], "of the first seed, as seed 1 has none"
    chain = found[key("NPO", 0, "relearn/again", "adamw")].staged
    assert chain is not None and chain.retrained == []
    assert found[key("NPO", 0, "matched", "adamw")].staged is None
    assert found[key("NPO", 0, "", "adamw")].staged is None


def test_other_questions_after_the_stage_are_refused() -> None:
    with pytest.raises(UserError, match="different questions of split 'forget'"):
        attacked(scores(forget=[("a", -1.0)]), forget(-1.0, -1.0, -1.0))
