"""The run table: which runs there are, in which order, with which settings, under which names."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.core.runs import RowKey
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.study import parse_suite
from pipeline_lib.study.table import display_name, models_of, run_labels
from tests.study.suites import error, errors, small


def grid(*blocks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return small(runs=list(blocks), **changes)


def test_every_objective_meets_every_optimizer() -> None:
    table = parse_suite(small()).run_table()
    assert [(run.method, run.optimizer, run.seed) for run in table] == [
        (method, optimizer, seed)
        for method in ("GradAscent", "GradDiff", "NPO")
        for optimizer in ("adamw", "sophia", "published")
        for seed in (0, 1)
    ]
    assert {(run.task, run.model) for run in table} == {("authors", "tiny")}


def test_tasks_and_models_stand_outside() -> None:
    raw = small(
        tasks={"b": {"source": "fictitious"}, "a": {"source": "fictitious", "seed": 1}},
        models={"y": {"source": "scratch"}, "x": {"source": "scratch", "layers": 2}},
        objectives={"NPO": None, "GradDiff": None},
        optimizers={"adamw": {"learning_rate": 1e-4}},
        seeds=[5],
    )
    runs = [(run.task, run.model, run.method) for run in parse_suite(raw).run_table()]
    assert runs == [(task, model, m) for task in "ba" for model in "yx" for m in ("NPO", "GradDiff")]


def test_first_and_second_order() -> None:
    orders = {run.optimizer: run.order for run in parse_suite(small()).run_table()}
    assert orders == {"adamw": "FO", "sophia": "SO", "published": "SO"}


def test_overrides_hold_for_their_block_only() -> None:
    suite = parse_suite(
        grid(
            {"methods": ["GradDiff"], "optimizers": ["adamw"]},
            {
                "methods": ["GradDiff"],
                "optimizers": ["sophia"],
                "objective": {"gamma": 5},
                "optimizer": {"learning_rate": "2e-5"},
                "unlearn": {"epochs": 1},
            },
        )
    )
    first, second = (run for run in suite.run_table() if run.seed == 0)
    assert first.objective.model_dump() == {"kind": "GradDiff", "gamma": 2.0}
    assert second.objective.model_dump() == {"kind": "GradDiff", "gamma": 5.0}
    assert first.optimizer_settings.learning_rate == 1e-4
    assert second.optimizer_settings.learning_rate == 2e-5
    assert second.optimizer_settings.kind == "sophia"
    assert (first.unlearn.epochs, second.unlearn.epochs) == (5.0, 1.0)
    assert second.unlearn.model_copy(update={"epochs": 5.0}) == first.unlearn


def test_a_change_of_one_method_leaves_the_other_rows_alone() -> None:
    before = models_of(parse_suite(small()))
    raw = small()
    raw["optimizers"]["adamw"]["learning_rate"] = 3e-4
    after = models_of(parse_suite(raw))
    assert list(after) == list(before)
    assert {key[3] for key in before if before[key] != after[key]} == {"adamw"}


def test_bad_overrides_are_named_where_they_stand() -> None:
    block = {
        "methods": ["GradDiff", "GradAscent"],
        "optimizers": ["sophia", "adamw"],
        "objective": {"gamma": 2},
        "optimizer": {"gama": 1, "learning_rate": 1e-4},
        "unlearn": {"epoch": 3, "batch_size": 0},
    }
    fine = {"methods": ["NPO"], "optimizers": ["sophia"]}
    assert errors(grid(fine, block)) == [
        "runs.1.objective.gamma: GradAscent: unknown key 'gamma'; allowed: none",
        "runs.1.optimizer.gama: sophia: unknown key 'gama'; did you mean 'gamma'? Allowed: beta1, beta2, "
        "clipped_target, control, curvature_data, curvature_examples, diagnostics, drift_target, eps, "
        "estimator, gamma, "
        "learning_rate, permutation_seed, smoothing, update_every, weight_decay",
        "runs.1.optimizer.gama: adamw: unknown key 'gama'; "
        "allowed: beta1, beta2, eps, learning_rate, smoothing, weight_decay",
        "runs.1.unlearn.batch_size: found 0; must be greater than 0",
        "runs.1.unlearn.epoch: unknown key 'epoch'; did you mean 'epochs'? Allowed: "
        "accumulation, batch_size, checkpoint_seconds, checkpointing, compute, decay, encoding, epochs, "
        "lora, max_grad_norm, offload, prompt, warmup, weights",
    ]


def test_an_override_cannot_change_the_kind() -> None:
    block = {"methods": ["NPO"], "optimizers": ["adamw"], "optimizer": {"kind": "sophia"}}
    assert error(grid(block)) == (
        "runs.0.optimizer.kind: cannot change here; give the other kind a label of its own"
    )


def test_a_misspelt_method_or_optimizer_in_a_run() -> None:
    assert errors(grid({"methods": ["GradDif"], "optimizers": ["sohpia", "adamw"]})) == [
        "runs.0.methods: found 'GradDif'; did you mean 'GradDiff'? Allowed: GradAscent, GradDiff, NPO",
        "runs.0.optimizers: found 'sohpia'; did you mean 'sophia'? Allowed: adamw, published, sophia",
    ]
    assert error(grid({"methods": "NPO", "optimizers": ["adamw"]})) == (
        "runs.0.methods: found 'NPO'; expected a list, such as [a, b]"
    )
    assert error(small(runs=[])) == "runs: found an empty list; must not be empty"


def test_a_run_is_described_once() -> None:
    block = {"methods": ["NPO"], "optimizers": ["adamw"]}
    cure = "a variant needs its own label under `objectives` or `optimizers`"
    again = {"methods": ["NPO", "GradDiff"], "optimizers": ["sophia", "adamw"], "unlearn": {"epochs": 1}}
    assert error(grid(block, again)) == f"runs.1: NPO with adamw appears twice, first in runs.0; {cure}"
    twice = {"methods": ["NPO", "NPO"], "optimizers": ["adamw"]}
    assert error(grid(twice)) == f"runs.0: NPO with adamw appears twice; {cure}"


def test_the_index_begins_with_the_anchors() -> None:
    index = models_of(parse_suite(small()))
    rows = [RowKey("authors", "tiny", method, "none") for method in ("original", "retrained")]
    anchors = [row.seeded(seed) for row in rows for seed in (0, 1)]
    assert list(index)[:4] == anchors
    assert [key for key, run in index.items() if run is None] == anchors
    assert len(index) == 4 + 3 * 3 * 2
    for key, run in index.items():
        assert run is None or key == run.row.seeded(run.seed)


def test_more_seeds_keep_the_rows_that_were_there() -> None:
    before = models_of(parse_suite(small(seeds=[0, 1])))
    after = models_of(parse_suite(small(seeds=[0, 1, 2])))
    assert set(before) < set(after)
    assert all(after[key] == before[key] for key in before)
    assert {key[4] for key in set(after) - set(before)} == {2}


def test_labels_for_the_report() -> None:
    labels = run_labels(models_of(parse_suite(small(seeds=[7]))))
    assert labels[0] == {
        "task": "authors",
        "model": "tiny",
        "method": "original",
        "optimizer": "none",
        "seed": 7,
        "request": 0,
        "after": "",
        "reference": False,
        "unlearned": False,
        "order": "none",
        "display": "original",
    }
    assert labels[-1] == {
        "task": "authors",
        "model": "tiny",
        "method": "NPO",
        "optimizer": "published",
        "seed": 7,
        "request": 0,
        "after": "",
        "reference": False,
        "unlearned": True,
        "order": "SO",
        "display": "NPO + Published",
    }


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("adamw", "AdamW"),
        ("adamw_slow", "AdamW (slow)"),
        ("sophia", "Sophia"),
        ("sophia_as_released", "Sophia (as released)"),
        ("MyOwn", "MyOwn"),
    ],
)
def test_display_names(label: str, shown: str) -> None:
    assert display_name(label) == shown


def two_tasks(**changes: Any) -> dict[str, Any]:
    return small(
        tasks={"a": {"source": "fictitious"}, "b": {"source": "fictitious", "holdout_authors": 2}}, **changes
    )


def test_blocks_may_name_tasks_and_models() -> None:
    block = {"methods": ["NPO"], "optimizers": ["adamw"]}
    raw = two_tasks(
        seeds=[0],
        models={"x": {"source": "scratch"}, "y": {"source": "scratch", "layers": 2}},
        runs=[
            {**block, "tasks": ["b"], "optimizer": {"learning_rate": 1e-3}},
            {**block, "tasks": ["a"], "models": ["y"]},
        ],
    )
    found = [(r.task, r.model, r.optimizer_settings.learning_rate) for r in parse_suite(raw).run_table()]
    assert found == [("b", "x", 1e-3), ("b", "y", 1e-3), ("a", "y", 1e-4)]


def test_one_row_twice_on_one_task_is_refused() -> None:
    block = {"methods": ["NPO"], "optimizers": ["adamw"]}
    raw = two_tasks(runs=[{**block, "tasks": ["b"]}, block])
    assert error(raw).startswith("runs.1: NPO with adamw appears twice, first in runs.0; a variant")
    (line,) = errors(two_tasks(runs=[{**block, "tasks": ["authors"]}]))
    assert line == "runs.0.tasks: found 'authors'; allowed: a, b"
    (line,) = errors(two_tasks(runs=[{**block, "models": ["tiyn"]}]))
    assert line == "runs.0.models: found 'tiyn'; did you mean 'tiny'? Allowed: tiny"


def test_only_pairs_with_runs_have_anchors_and_nothing_stands_idle() -> None:
    block = {"methods": ["NPO"], "optimizers": ["adamw"]}
    models = {"x": {"source": "scratch"}, "y": {"source": "scratch", "layers": 2}}
    pairs = [{**block, "tasks": ["a"], "models": ["x"]}, {**block, "tasks": ["b"], "models": ["y"]}]
    index = models_of(parse_suite(two_tasks(models=models, runs=pairs)))
    assert {key[:3] for key in index} == {
        (*place, method) for place in (("a", "x"), ("b", "y")) for method in ("original", "retrained", "NPO")
    }
    assert errors(two_tasks(models=models, runs=pairs[:1])) == [
        "tasks.b: has no run; name it in a block of `runs`, or leave it out",
        "models.y: has no run; name it in a block of `runs`, or leave it out",
    ]


def test_blocks_of_trained_methods_need_an_optimizer() -> None:
    line = error(grid({"methods": ["NPO"]}))
    assert line == "runs.0.optimizers: is missing; NPO is trained, so name at least one"


def test_tasks_change_the_evaluation_and_the_fine_tuning_for_themselves() -> None:
    raw = two_tasks(evaluation={"samples": {"splits": ["forget", "facts"]}, "grad_norm": True})
    raw["tasks"]["a"] |= {"evaluation": {"max_new_tokens": 7}, "finetune": {"epochs": 3}}
    suite = parse_suite(raw)
    assert suite.evaluation_of("a").max_new_tokens == 7
    assert suite.evaluation_of("b").max_new_tokens == suite.evaluation.max_new_tokens != 7
    assert (suite.finetune_of("a").epochs, suite.finetune_of("b").epochs) == (3, suite.finetune.epochs)
    # what only other tasks have is not asked of this one
    assert (suite.evaluation_of("a").grad_norm, suite.evaluation_of("b").grad_norm) == (False, True)
    raw["tasks"]["a"]["evaluation"] = {"max_new_token": 7, "max_records": {"forgte": 1}}
    raw["tasks"]["b"]["finetune"] = {"epochs": -1}
    assert errors(raw) == [
        "tasks.a.evaluation.max_new_token: unknown key 'max_new_token'; did you mean 'max_new_tokens'? "
        + errors(raw)[0].partition("? ")[2],
        "tasks.b.finetune.epochs: found -1; must be greater than 0",
    ]
    raw["tasks"]["a"]["evaluation"] = {"max_records": {"forgte": 1}}
    raw["tasks"]["b"]["finetune"] = {}
    assert error(raw).startswith(
        "tasks.a.evaluation.max_records.forgte: this task never evaluates such a split; did you mean 'forget'"
    )


def test_a_layer_that_the_model_does_not_have_is_refused() -> None:
    raw = small(objectives={"RMU": {"layer": 4}}, models={"m": {"source": "scratch", "layers": 4}})
    line = "objectives.RMU.layer: found 4; the model 'm' has 4 layers, counted from 0"
    assert errors(raw) == [line]


@pytest.mark.parametrize(
    ("objective", "refused"),
    [
        ({"kind": "AltPO"}, True),
        ({"kind": "DPO"}, True),
        ({"kind": "DPO", "alternatives": "refusals"}, False),
    ],
)
def test_alternatives_that_a_task_does_not_have_are_refused(objective: dict[str, Any], refused: bool) -> None:
    raw = small(objectives={"other": objective}, tasks={"t": {"source": "tofu"}})
    if refused:
        assert error(raw).startswith(
            "objectives.other: the task 't' brings no alternative answers; choose one"
        )
        raw["tasks"]["t"]["alternatives"] = "$MINE/alternatives.jsonl"
    assert parse_suite(raw).run_table()
    assert parse_suite({**raw, "tasks": {"t": {"source": "fictitious"}}}).run_table()


def test_the_message_names_every_objective_that_teaches_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES.kinds(), "Silence", OBJECTIVES.kinds()["PO"])
    raw = small(objectives={"other": {"kind": "AltPO"}}, tasks={"t": {"source": "tofu"}})
    assert "choose one that teaches refusals (IdkDPO, PO, Silence), or leave the task out" in error(raw)


def test_a_control_names_what_it_controls() -> None:
    """By kind, within its method; a control without that optimiser beside it names nothing."""
    plain = {"kind": "sophia", "learning_rate": 1e-4}
    optimizers = {
        "adamw": {"learning_rate": 1e-4},
        "noise": {"kind": "adamw_noise", "learning_rate": 1e-4},
        "sophia": plain,
        "gentle": plain | {"learning_rate": 1e-5},
        "signs": plain | {"control": "sign_of_equal_norm"},
        "alone": {"kind": "sophia_as_released", "learning_rate": 1e-4, "control": "mean_curvature"},
    }
    raw = grid(
        {"methods": ["GradDiff"], "optimizers": list(optimizers)},
        {"methods": ["NPO"], "optimizers": ["noise", "sophia", "signs"]},
        optimizers=optimizers,
    )
    found = {
        (label["method"], label["optimizer"]): label["controls"]
        for label in run_labels(models_of(parse_suite(raw)))
        if "controls" in label
    }
    assert found == {
        ("GradDiff", "noise"): ["adamw"],
        ("GradDiff", "signs"): ["sophia", "gentle"],
        ("NPO", "signs"): ["sophia"],
    }
