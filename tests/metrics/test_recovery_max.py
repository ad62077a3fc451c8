"""The largest recovery over a sweep, by hand: places, left-out seeds, and how often it is found by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline_lib.core.runs import RunKey
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.path import front_of
from pipeline_lib.metrics.recovery import p_of_one_more
from pipeline_lib.metrics.recovery_max import Curve, Largest, largest, left_out
from pipeline_lib.metrics.study import Scores, Staged, Studied
from pipeline_lib.reporting.scores import Paths, studied
from tests.metrics.studied import scores, study


def forget(*values: float) -> Scores:
    """Questions of two groups: the first two of a, the last of b."""
    return scores(forget=list(zip("aab", values, strict=True)))


def flat(value: float) -> Scores:
    return forget(value, value, value)


def judged(*path: tuple[int, float]) -> list[tuple[int, dict[str, Any]]]:
    return [
        (step, {"forget": {f"forget{i}": value for i in range(3)}, "utility": {}}) for step, value in path
    ]


BEFORE = [flat(-4.0), flat(-4.1), flat(-3.9)]


def after(
    own: Scores,
    others: Sequence[Scores],
    path: Sequence[Any] = (),
    paths: Sequence[Any] | None = None,
    learned: int = 0,
    seeds: Sequence[int] = (0, 1, 2),
) -> Studied:
    """A model after a stage, beside `retrained` seeds after it, all judged on their way or none."""
    staged = Staged(flat(-4.0), others, learned, list(seeds), paths or [()] * len(others))
    return replace(study(own, *BEFORE), judged=path, staged=staged)


def swept(**stages: Studied) -> Studied:
    return replace(study(flat(-4.0), *BEFORE), stages=stages)


def measured(of: Studied, name: str) -> dict[str, Any]:
    (row,) = of.measure(declared()[name])
    return row


TWO_STAGES = swept(
    # 1 above the mean -3; the judged steps of the other are 0.5 below, 2 above and 1.5 above the mean.
    short=after(flat(-2.0), [flat(-3.2), flat(-3.0), flat(-2.8)]),
    long=after(
        flat(-1.0),
        [flat(-2.5)] * 3,
        judged((2, -3.5), (5, -1.0), (9, -1.0)),
        [judged((2, v), (5, w), (9, -2.5)) for v, w in ((-3.1, -3.0), (-3.0, -2.7), (-2.9, -3.3))],
    ),
)


def test_the_largest_is_found_at_a_judged_step_by_hand() -> None:
    assert largest(TWO_STAGES) == Largest(pytest.approx(2.0), "long", 5)
    assert measured(TWO_STAGES, "recovery_max")["value"] == pytest.approx(2.0)
    assert measured(TWO_STAGES, "recovery_places")["value"] == 4, "short, and three steps of long"


def test_the_left_out_seeds_have_their_maximum_over_the_same_places() -> None:
    """Seed 0: -0.3, -0.15, 0 and 0; seed 1: 0, 0, 0.45 and 0; seed 2: 0.3, 0.15, -0.45 and 0."""
    maxima = [0.0, 0.45, 0.3]
    mean, s = np.mean(maxima), np.std(maxima, ddof=1)
    expected = stats.t.sf((2.0 - mean) / (s * (4 / 3) ** 0.5), 2)
    assert measured(TWO_STAGES, "recovery_max_p")["value"] == pytest.approx(expected)


def test_of_one_stage_it_is_the_recovery() -> None:
    one = after(forget(-1.0, -3.0, -2.5), [flat(-3.2), flat(-3.0), flat(-2.8)])
    assert measured(swept(one=one), "recovery_max")["value"] == measured(one, "recovery")["value"] == 0.75


def test_groups_that_a_stage_teaches_do_not_judge_that_stage() -> None:
    """Of the stage that taught a, b alone is left, 0.5 above; of the other both groups, 0.25 above."""
    taught = after(forget(-0.1, -0.1, -2.5), [flat(-3.0)] * 3, learned=1)
    other = after(forget(-3.0, -3.0, -2.5), [flat(-3.0)] * 3)
    assert largest(swept(taught=taught, other=other)) == Largest(pytest.approx(0.5), "taught", None)
    assert largest(swept(other=other)).value == pytest.approx(0.25)


def test_only_seeds_and_steps_that_all_have_count() -> None:
    """Seed 1 broke in the second stage: its -1 counts in neither. Step 7 is missing in one seed."""
    first = after(flat(-2.0), [flat(-3.0), flat(-1.0), flat(-3.0)])
    paths = [judged((3, -3.0), (7, -9.0)), judged((3, -3.0))]
    second = after(flat(-2.0), [flat(-3.0)] * 2, judged((3, -2.5), (7, -2.0)), paths, seeds=(0, 2))
    both = swept(first=first, second=second)
    assert largest(both) == Largest(1.0, "first", None)
    assert measured(both, "recovery_places")["value"] == 2
    assert "three other seeds" in measured(both, "recovery_max_p")["needs"]


def test_what_it_needs_is_told() -> None:
    alone = swept(one=after(flat(-2.0), [], seeds=()))
    assert "after the same stage" in measured(alone, "recovery_max")["needs"]
    two = swept(one=after(flat(-2.0), [flat(-3.0), flat(-3.1)], seeds=(0, 1)))
    assert "three other seeds" in measured(two, "recovery_max_p")["needs"]
    for name in ("recovery_max", "recovery_max_p", "recovery_places"):
        assert list(study(flat(-2.0), *BEFORE).measure(declared()[name])) == [], "no stage, no such number"


def test_a_sweep_that_changes_nothing_leaves_the_signed_gap() -> None:
    """As a stage with a tiny learning rate does: every place has the model, and each seed, as before."""
    own = forget(-1.0, -2.0, -3.5)
    still = [
        (step, {"forget": dict(zip(own["forget"].ids, (-1.0, -2.0, -3.5), strict=True))}) for step in (1, 9)
    ]
    paths = [judged(*((step, before["forget"].values["log_probability"][0]) for step in (1, 9)))
             for before in BEFORE]  # fmt: skip
    unmoved = replace(study(own, *BEFORE), stages={"still": after(own, BEFORE, still, paths)})
    gap = measured(unmoved, "gap_signed")["value"]
    assert measured(unmoved, "recovery_max")["value"] == pytest.approx(gap)


def test_seeds_that_are_all_alike_are_beyond_nothing_but_what_is_above_them() -> None:
    alike = {"one": Curve((1, 2), np.array([0.1, 0.3]), np.full((2, 4), 0.1))}
    maxima = left_out(alike).tolist()
    assert p_of_one_more(0.0, maxima) == 1 and p_of_one_more(0.2, maxima) == 0


@pytest.mark.parametrize(
    ("seeds", "places", "shared"), [(3, 1, 0.0), (3, 12, 0.0), (5, 12, 0.0), (5, 12, 0.8)]
)
def test_a_further_retrained_is_flagged_at_most_at_the_nominal_rate(
    seeds: int, places: int, shared: float
) -> None:
    """Normal levels of `seeds` known models and a further one; `shared`: of their variance over all places.

    At 5 % of 500 studies 25 would be flagged; a right test flags more than 36 with a probability below 2 %.
    A model with eight standard deviations more at one place is nearly always seen with five seeds.
    """
    draw, flagged, seen = np.random.default_rng(0), 0, 0
    for _ in range(500):
        of_model = draw.normal(size=(1, seeds + 1)) * shared**0.5
        levels = draw.normal(size=(places, seeds + 1)) * (1 - shared) ** 0.5 + of_model
        gaps = levels[:, 0] - levels[:, 1:].mean(axis=1)
        maxima = left_out({"sweep": Curve((None,) * places, levels[:, 0], levels[:, 1:])}).tolist()
        flagged += p_of_one_more(float(gaps.max()), maxima) < 0.05
        gaps[0] += 8
        seen += p_of_one_more(float(gaps.max()), maxima) < 0.05
    assert flagged <= 36
    assert seeds == 3 or seen > 400


def test_models_of_a_study_find_their_stages_and_paths() -> None:
    manifest = {
        "authors": {"evaluate": ["forget", "retain"], "utility": [], "splits": {"forget": {"groups": 2}}}
    }

    def key(method: str, seed: int, stage: str = "", optimizer: str = "none") -> RunKey:
        return RunKey("authors", "tiny", method, optimizer, seed, 0, stage)

    models = {key("original", 0): flat(0.0)}
    models |= {key("retrained", seed): of for seed, of in enumerate(BEFORE)}
    models |= {key("retrained", seed, "relearn"): flat(-3.0) for seed in (0, 2)}
    for stage in ("", "relearn", "relearn/again", "matched", "matched/relearn"):
        models[key("NPO", 0, stage, "adamw")] = flat(-2.0)
    logs = {
        of: judged((1, -3.0), (4, -2.0))
        for of in models
        if of.after.endswith("relearn") or of.method == "NPO"
    }
    found = studied(models, manifest, Paths(logs, {"authors": 0.9}, {"authors": {"relearn": 1}}))
    run = found[key("NPO", 0, "", "adamw")]
    assert list(run.stages) == ["relearn", "relearn/again"] and list(run.stages["relearn"].stages) == []
    assert list(found[key("NPO", 0, "matched", "adamw")].stages) == ["relearn"]
    staged = run.stages["relearn"].staged
    assert staged is not None and list(staged.seeds) == [0, 2] and staged.learned == 1
    assert staged.judged == [logs[key("retrained", seed, "relearn")] for seed in (0, 2)]
    assert run.stages["relearn"].judged == logs[key("NPO", 0, "relearn", "adamw")]
    assert front_of(run.stages["relearn"]) is None, "a path of unlearning ends before the stage"
    assert measured(run, "recovery_max")["value"] == 0 and measured(run, "recovery_places")["value"] == 2
    own = found[key("retrained", 2)]
    assert list(own.stages) == ["relearn"] and own.stages["relearn"].staged.seeds == [0]  # type: ignore[union-attr]
