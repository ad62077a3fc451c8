"""The block `tune`: what it stands for, and what is refused before any job."""

from __future__ import annotations

import copy
from types import NoneType
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.ranges import placed
from pipeline_lib.core.runs import RowKey
from pipeline_lib.steps.selection import FORGET_VALUES
from pipeline_lib.study import dump_suite, parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.table import models_of, run_labels, tuned_index
from pipeline_lib.study.tune import Select
from tests.study.suites import error, errors, small
from tests.study.test_fuzz import changed

LOG = {"low": "1e-5", "high": 1e-3, "scale": "log"}  # YAML reads 1e-5 as text
TUNE: dict[str, Any] = {
    "seeds": [100],
    "trials": 4,
    "optimizers": {
        "adamw": {"learning_rate": LOG},
        "sophia": {"learning_rate": LOG, "update_every": [1, 5]},
        "published": {"learning_rate": LOG},
    },
}


def tuned(**changes: Any) -> dict[str, Any]:
    return small(tune={**copy.deepcopy(TUNE), **changes})


def with_adamw(**settings: Any) -> dict[str, Any]:
    return tuned(optimizers={**TUNE["optimizers"], "adamw": settings})


# --- what it stands for -------------------------------------------------------------------------------


def test_every_row_has_the_same_number_of_trials() -> None:
    suite = parse_suite(tuned())
    index = tuned_index(suite)
    assert list(index) == list(dict.fromkeys(key.row for key, run in models_of(suite).items() if run))
    assert {len(row.trials) for row in index.values()} == {4}
    assert {tuple(row.trials) for row in index.values()} == {(1, 2, 3, 4)}


def test_a_trial_has_every_setting_resolved() -> None:
    suite, key = parse_suite(tuned(objectives={"NPO": {"beta": [0.05, 0.1]}})), ("tiny", "NPO", "sophia")
    row = tuned_index(suite)[RowKey("authors", *key)]
    for trial in row.trials.values():
        assert trial.optimizer.kind == "sophia" and trial.optimizer.beta1 == 0.96
        assert set(trial.tuned["optimizer"]) == {"learning_rate", "update_every"}
        assert set(trial.tuned["objective"]) == {"beta"}
        assert trial.optimizer.model_dump().items() >= trial.tuned["optimizer"].items()
        values = {"kind": "NPO", "alpha": 1.0, **trial.tuned["objective"]}
        assert trial.objective.model_dump().items() >= values.items()
        assert 1e-5 <= trial.optimizer.learning_rate <= 1e-3
        assert isinstance(trial.optimizer.update_every, int)
    assert row.ranges["optimizer"]["learning_rate"] == {"low": 1e-5, "high": 1e-3, "scale": "log"}
    assert row.unlearn.epochs == 5.0
    job = Graph(suite).jobs["unlearn", f"authors/{'/'.join(key)}/seed0"].settings
    assert "learning_rate" not in job["optimizer"] and job["optimizer"]["beta1"] == 0.96
    assert "beta" not in job["objective"] and job["objective"]["alpha"] == 1.0


def test_overrides_of_a_block_reach_its_trials() -> None:
    block = {"methods": ["NPO"], "optimizers": ["adamw"]}
    change = {"optimizer": {"beta1": 0.5}, "objective": {"alpha": 2}, "unlearn": {"epochs": 1}}
    row = tuned_index(parse_suite(small(tune=TUNE, runs=[{**block, **change}])))
    (only,) = row.values()
    assert {trial.optimizer.beta1 for trial in only.trials.values()} == {0.5}
    assert {trial.objective.alpha for trial in only.trials.values()} == {2.0}
    assert only.unlearn.epochs == 1.0


def test_tuning_seeds_are_not_in_the_run_table() -> None:
    suite = parse_suite(tuned(seeds=[100, 101]))
    assert {key[4] for key in models_of(suite)} == {0, 1}
    assert {label["seed"] for label in run_labels(models_of(suite))} == {0, 1}


def test_every_task_and_model_tries_the_same() -> None:
    tasks = {"a": {"source": "fictitious"}, "b": {"source": "fictitious", "seed": 1}}
    index = tuned_index(parse_suite(small(tune=TUNE, tasks=tasks)))
    assert index[RowKey("a", "tiny", "NPO", "adamw")] == index[RowKey("b", "tiny", "NPO", "adamw")]


def test_what_changes_with_a_change_of_the_block() -> None:
    before = tuned_index(parse_suite(tuned()))
    more = tuned_index(parse_suite(tuned(trials=6)))
    assert all(more[key].trials[n] == trial for key, row in before.items() for n, trial in row.trials.items())
    wider = tuned_index(parse_suite(with_adamw(learning_rate={**LOG, "high": 1e-2})))
    assert {key[3] for key in before if before[key] != wider[key]} == {"adamw"}


def test_a_suite_without_it_is_as_written() -> None:
    assert tuned_index(parse_suite(small())) == {}
    assert parse_suite(small(tune=None)).tune is None


def test_defaults() -> None:
    tune = parse_suite(small(tune={"optimizers": TUNE["optimizers"]})).tune
    assert tune is not None
    assert (tune.seeds, tune.trials, tune.sampler, tune.objectives) == ([100], 8, "halton", {})
    assert tune.select.model_dump() == {"forget": None, "utility_within": 0.05}
    assert (tune.forget_draw, tune.rounds) == (None, 1)
    asked = [(True, True), (True, False), (False, True), (False, False)]
    assert [tune.select.resolved(*has).forget for has in asked] == [
        "front_gap",
        "gap",
        "probability",
        "probability",
    ]


def test_the_resolved_suite_can_be_read_again() -> None:
    suite = parse_suite(tuned(objectives={"NPO": {"beta": ["5e-2", 0.1]}}))
    assert parse_suite(yaml.safe_load(dump_suite(suite))).resolved() == suite.resolved()


def test_settings_that_belong_together_may_be_tuned_together() -> None:
    automatic = {"gamma": ["auto"], "clipped_target": [0.3, 0.6]}
    suite = parse_suite(tuned(optimizers={**TUNE["optimizers"], "published": automatic}))
    row = tuned_index(suite)[RowKey("authors", "tiny", "NPO", "published")]
    assert {trial.optimizer.gamma for trial in row.trials.values()} == {"auto"}
    assert {trial.optimizer.clipped_target for trial in row.trials.values()} == {0.3, 0.6}


# --- what is refused ----------------------------------------------------------------------------------


def test_seeds() -> None:
    assert errors(tuned(seeds=[1, 7, 7])) == [
        "tune.seeds: found 1, which is in `seeds` or `retrained_seeds` too; reports are of fresh seeds only",
        "tune.seeds: the seed 7 appears 2 times",
    ]
    assert error(tuned(seeds=[])) == "tune.seeds: found an empty list; must not be empty"
    assert error(tuned(trials=0)) == "tune.trials: found 0; must be greater than 0"
    assert error(tuned(trials=10**9)) == "tune.trials: found 1000000000; must be at most 1000"


def test_names_that_do_not_exist() -> None:
    raw = tuned(
        optimizers={**TUNE["optimizers"], "adamv": {"learning_rate": [1e-4]}},
        objectives={"NPO": {"bta": [0.1]}, "PO": {"gamma": [1]}},
    )
    assert errors(raw) == [
        "tune.objectives.NPO: unknown setting 'bta'; did you mean 'beta'? Allowed: alpha, beta, "
        "forget_weight, retain_loss_type",
        "tune.objectives.PO: found 'PO'; did you mean 'NPO'? Allowed: GradAscent, GradDiff, NPO",
        "tune.optimizers.adamv: found 'adamv'; did you mean 'adamw'? Allowed: adamw, published, sophia",
    ]
    assert error(with_adamw(kind=["sgd"])).startswith("tune.optimizers.adamw: unknown setting 'kind'")
    assert error(tuned(sampler="holton")).startswith("tune.sampler: found 'holton'; did you mean 'halton'?")
    assert error(tuned(select={"forget": "ks_statistic"})) == (
        "tune.select.forget: found 'ks_statistic'; allowed: front_gap, gap, probability"
    )
    assert error(tuned(select={"utility_within": 1})) == (
        "tune.select.utility_within: found 1; must be smaller than 1"
    )
    assert error(tuned(select={"retain_within": 0.1})) == (
        "tune.select.retain_within: unknown key 'retain_within'; did you mean 'utility_within'? Allowed: "
        "forget, utility_within"
    )


@pytest.mark.parametrize(
    ("tried", "message"),
    [
        ({**LOG, "low": 2e-3}, ".low: found 0.002; must be smaller than `high` (0.001)"),
        ({**LOG, "low": 1e-3}, ".low: found 0.001; must be smaller than `high` (0.001)"),
        ({"low": 0, "high": 1e-3, "scale": "log"}, ".low: found 0; must be greater than 0 for `scale: log`"),
        ({"low": -1, "high": 1e-3, "scale": "log"}, ".low: found -1; must be at least 0"),
        ({"low": 0, "high": 1, "scale": "linear"}, ".low: found 0.0; must be greater than 0"),
        ({**LOG, "scale": "lin"}, ".scale: found 'lin'; did you mean 'linear'? Allowed: linear, log"),
        ({"low": 1, "high": 2}, ".scale: is missing and has no default"),
        ({**LOG, "step": 1}, ".step: unknown key 'step'; allowed: high, low, scale"),
        ([1e-4, -1], ".1: found -1; must be greater than 0"),
        ([1e-4, "fast"], ".1: found 'fast'; expected a number"),
        ([1e-4, "1e-4"], ": found a list; a value appears twice, and would be tried twice"),
        ([], ": found an empty list; must not be empty"),
        (
            1e-4,
            ": found 0.0001; expected a range, such as {low: 1e-5, high: 1e-3, scale: log}, or a list of "
            "values",
        ),
    ],
)
def test_ranges_and_lists(tried: Any, message: str) -> None:
    assert error(with_adamw(learning_rate=tried)) == f"tune.optimizers.adamw.learning_rate{message}"


def test_ends_that_a_setting_does_not_take() -> None:
    assert error(with_adamw(beta1={"low": 0.5, "high": 1, "scale": "linear"})) == (
        "tune.optimizers.adamw.beta1.high: found 1.0; must be smaller than 1"
    )
    whole = {**TUNE["optimizers"]["sophia"], "update_every": {"low": 1, "high": 9, "scale": "linear"}}
    first, second = errors(tuned(optimizers={**TUNE["optimizers"], "sophia": whole}))
    assert first.startswith("tune.optimizers.sophia.update_every.low: found 1.0; expected a whole number")
    assert second.endswith("a range gives fractions, so list the values")
    assert error(tuned(optimizers={**TUNE["optimizers"], "sophia": {}})) == (
        "tune.optimizers.sophia: found an empty block; must not be empty"
    )


def test_every_optimizer_in_use_is_tuned() -> None:
    ranges = {"adamw": TUNE["optimizers"]["adamw"]}
    assert errors(tuned(optimizers=ranges)) == [
        f"tune.optimizers.{label}: has no range; with an equal budget every optimiser of the run table is "
        "tuned"
        for label in ("sophia", "published")
    ]
    runs = [{"methods": ["NPO"], "optimizers": ["adamw"]}]
    assert len(tuned_index(parse_suite(small(runs=runs, tune={"optimizers": ranges})))) == 1


def test_a_setting_is_set_in_one_place() -> None:
    block = {"methods": ["NPO"], "optimizers": ["sophia"]}
    change = {"optimizer": {"learning_rate": 1, "eps": 1e-9}, "objective": {"beta": 1}}
    tune = {**TUNE, "objectives": {"NPO": {"beta": [0.1, 0.2]}}}
    runs = [{"methods": ["GradDiff"], "optimizers": ["adamw"]}, {**block, **change}]
    assert errors(small(tune=tune, runs=runs)) == [
        "runs.1.optimizer.learning_rate: is tuned for sophia (tune.optimizers.sophia.learning_rate); "
        "set it in one place",
        "runs.1.objective.beta: is tuned for NPO (tune.objectives.NPO.beta); set it in one place",
    ]


def test_a_grid_has_exactly_as_many_points_as_trials() -> None:
    lists = {label: {"learning_rate": [1e-4, 2e-4]} for label in TUNE["optimizers"]}
    lists["sophia"]["update_every"] = [1, 5]
    only = {"runs": [{"methods": ["NPO"], "optimizers": ["adamw", "sophia"]}]}
    tune = {"sampler": "grid", "optimizers": lists}
    assert error(small(tune={**tune, "trials": 4}, **only)) == (
        "tune.trials: found 4; the grid of NPO with adamw has 2 points"
    )
    lists["adamw"]["learning_rate"] = [1e-4, 2e-4, 3e-4, 4e-4]
    index = tuned_index(parse_suite(small(tune={**tune, "trials": 4}, **only)))
    points = [
        trial.tuned["optimizer"]
        for trial in index[RowKey("authors", "tiny", "NPO", "sophia")].trials.values()
    ]
    assert points == [{"learning_rate": r, "update_every": k} for r in (1e-4, 2e-4) for k in (1, 5)]
    assert "tune.optimizers.adamw.learning_rate: is a range; `sampler: grid` takes lists of values" in errors(
        tuned(sampler="grid")
    )


def test_values_that_do_not_go_together() -> None:
    both = {"gamma": ["auto", 2], "clipped_target": [0.5]}
    runs = [{"methods": ["NPO"], "optimizers": ["published"]}]
    assert error(small(tune={"optimizers": {"published": both}}, runs=runs)) == (
        "tune: NPO with published: tries values that do not go together: "
        "clipped_target: goes with `gamma: auto`, and `gamma` is 2.0"
    )


def test_other_faults_of_the_suite_are_told_beside_it() -> None:
    raw = tuned(seeds=[0])
    raw["runs"] = [{"methods": ["NPO"], "optimizers": ["adamw"], "optimizer": {"bta1": 0.5}}]
    assert [line.partition(":")[0] for line in errors(raw)] == ["runs.0.optimizer.bta1", "tune.seeds"]


@st.composite
def mutants(draw: Any) -> Any:
    lists = {**TUNE["optimizers"]["sophia"], "gamma": ["auto"], "clipped_target": [0.3, 0.5]}
    optimizers = {**TUNE["optimizers"], draw(st.sampled_from(["sophia", "published"])): lists}
    tune: Any = {
        **TUNE,
        "optimizers": optimizers,
        "objectives": {"NPO": {"beta": [0.1, 1]}},
        "select": {"forget": "gap"},
        "forget_draw": 1,
        "rounds": 2,
    }
    for _ in range(draw(st.integers(1, 2))):
        tune = changed(draw, tune)
    return small(tune=tune)


@settings(max_examples=150)
@given(mutants())
def test_a_changed_block_is_read_or_refused(raw: Any) -> None:
    try:
        suite = parse_suite(raw)
    except UserError as refused:
        str(refused).encode("utf-8")  # can be printed, half characters or not
        return
    assert all(row.trials for row in tuned_index(suite).values())
    assert parse_suite(yaml.safe_load(dump_suite(suite))).resolved() == suite.resolved()


def test_what_a_suite_may_select_by_is_what_the_choice_knows() -> None:
    rules, default = get_args(Select.model_fields["forget"].annotation)
    assert (get_args(rules), default) == (tuple(FORGET_VALUES), NoneType)


# --- later rounds -------------------------------------------------------------------------------------


def test_later_rounds_go_on_with_the_sequence() -> None:
    """The trials of two rounds of four lie where eight trials of one round would, if no range were wider."""
    two = tuned_index(parse_suite(tuned(rounds=2, objectives={"NPO": {"beta": [0.05, 0.1]}})))
    eight = tuned_index(parse_suite(tuned(trials=8, objectives={"NPO": {"beta": [0.05, 0.1]}})))
    for key, row in two.items():
        assert row.trials == {n: trial for n, trial in eight[key].trials.items() if n <= 4}
        assert sorted(row.later) == [5, 6, 7, 8]
        for number, places in row.later.items():
            tried = {
                part: {name: placed(u, row.ranges[part][name]) for name, u in of_part.items()}
                for part, of_part in places.items()
            }
            assert tried == eight[key].trials[number].tuned
    assert all(not row.later and not row.limits for row in eight.values())


def test_a_range_can_grow_as_far_as_its_setting_takes_it() -> None:
    target = {"low": 0.4, "high": 0.6, "scale": "linear"}
    of_sophia = {"learning_rate": LOG, "gamma": ["auto"], "clipped_target": target}
    raw = tuned(rounds=4, optimizers={**TUNE["optimizers"], "sophia": of_sophia})
    row = tuned_index(parse_suite(raw))[RowKey("authors", "tiny", "NPO", "sophia")]
    assert row.limits == {
        "optimizer": {"learning_rate": [3, 3], "clipped_target": [1, 1]},  # 0.2 to 0.8; not 0 or 1
        "objective": {},
    }


def test_a_grid_has_one_round() -> None:
    lists = {label: {"learning_rate": [1e-4, 2e-4]} for label in TUNE["optimizers"]}
    tune = {"sampler": "grid", "trials": 2, "rounds": 2, "optimizers": lists}
    assert errors(small(tune=tune))[0] == (
        "tune.rounds: found 2; `sampler: grid` has no ranges that could become wider"
    )


# --- the forget groups of tuning ----------------------------------------------------------------------


def drawn(draw: int, **tasks: Any) -> dict[str, Any]:
    found = tasks or {"authors": {"source": "fictitious"}}
    return small(tune={**TUNE, "forget_draw": draw}, tasks=found)


def test_tuning_has_a_task_of_its_own_that_is_the_other_one_but_for_the_draw() -> None:
    evaluation = {"max_records": {"retain": 7}}
    suite = parse_suite(drawn(2, authors={"source": "fictitious", "evaluation": evaluation}))
    name = suite.tuned_on("authors")
    assert name == "authors@draw2"
    assert suite.settings_of(name) == suite.settings_of("authors").model_copy(update={"forget_draw": 2})
    assert suite.settings_of("authors") is suite.tasks["authors"]
    assert suite.evaluation_of(name) == suite.evaluation_of("authors")
    assert suite.evaluation_of(name).max_records == {"retain": 7}
    assert suite.finetune_of(name) == suite.finetune_of("authors")
    assert suite.anchors(name) == ("original", "retrained")
    assert {key.task for key in models_of(suite)} == {"authors"}
    assert parse_suite(tuned()).tuned_on("authors") == "authors"


def test_no_label_can_be_the_name_of_the_task_of_tuning() -> None:
    raw = small(tasks={"authors@draw1": {"source": "fictitious"}})
    assert "found 'authors@draw1'; a name becomes a folder: up to 64 letters" in error(raw)


def test_a_source_without_draws_is_named() -> None:
    sources = {"safe": "detox", "authors": "fictitious", "rude": "manners"}
    assert error(drawn(1, **{name: {"source": source} for name, source in sources.items()})) == (
        "tune.forget_draw: found 1, but the source of safe (detox), rude (manners) draws no other forget "
        "groups; leave it out, and every task is tuned on the groups that are reported, or give these tasks "
        "a suite of their own"
    )


def test_a_draw_that_is_reported_or_does_not_exist() -> None:
    assert error(drawn(3, authors={"source": "fictitious", "forget_draw": 3})) == (
        "tune.forget_draw: found 3, which the task 'authors' reports; choose another"
    )
    assert parse_suite(drawn(0, authors={"source": "fictitious", "forget_draw": 3})).tune is not None
    assert error(drawn(10)) == (
        "tune.forget_draw: of the task 'authors': found 10; 40 authors hold 10 blocks of 4, counted from 0; "
        "choose at most 9, or raise `n_authors`"
    )
    assert error(drawn(1, tofu={"source": "tofu"})).endswith("or `forget: forget01` or `forget: forget05`")


def test_a_gap_needs_a_retrained() -> None:
    tasks = {"authors": {"source": "fictitious"}, "safe": {"source": "detox"}}
    assert error(small(tune={**TUNE, "select": {"forget": "gap"}}, tasks=tasks)) == (
        "tune.select.forget: the task 'safe' has no `retrained` to be compared with; leave `forget` out, and "
        "it selects by probability"
    )
    parse_suite(small(tune=TUNE, tasks=tasks))
