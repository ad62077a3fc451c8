"""What is wrong with a suite's stages is told in one message, before any job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import RunKey, key_from_path
from pipeline_lib.study import parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.table import models_of, run_labels
from tests.study.suites import error, small

AVERAGE = {"kind": "average", "of": ["GradDiff+adamw", "NPO+adamw"]}


def study(stages: dict[str, Any], **changes: Any) -> Any:
    adamw = {"adamw": {"learning_rate": 1e-3}}
    return small(stages=stages, optimizers=adamw, objectives={"GradDiff": None, "NPO": None}, **changes)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ({"a": {"kind": "finetune", "of": ["PO+adamw"]}}, "stages.a.of: found PO+adamw; no model of authors"),
        ({"a": {"kind": "finetune", "of": ["NPO+adamw/b"]}}, "stages.a.of: found NPO+adamw/b; no model"),
        (
            {
                "a": {"kind": "finetune", "of": ["NPO+adamw/b"]},
                "b": {"kind": "finetune", "of": ["NPO+adamw/a"]},
            },
            "stages.a.of: a and b wait for each other",
        ),
        ({"a": {"kind": "finetune", "of": ["NPO+adamw/a"]}}, "stages.a.of: a waits for itself; let it start"),
        ({"a": {"kind": "finetune", "of": ["retrained/b"]}}, "stages.a.of: found retrained/b; no model of"),
        ({"NPO": AVERAGE}, "stages.NPO: 'NPO' is the label of an objective or of another model"),
        ({"original": AVERAGE}, "stages.original: 'original' is the label of an objective or of another"),
        ({"A": AVERAGE, "a": AVERAGE}, "stages.a: differs from 'A' in case alone"),
        ({"request1": {"kind": "finetune"}}, "stages.request1: in a folder's name this is the number of a"),
        ({"a.b": AVERAGE}, "stages.a.b: a stage's label becomes a part of a folder's name and holds no dot"),
        ({"a": {"kind": "average", "of": ["NPO+adamw"]}}, "stages.a.of: average makes one model of several"),
        ({"a": {"kind": "average"}}, "stages.a.of: average makes one model of several"),
        (
            {"a": {"kind": "average", "of": ["NPO+adamw", "NPO+adamw"]}},
            "stages.a.of: NPO+adamw appears twice",
        ),
        ({"a": {**AVERAGE, "weights": [1, 2, 3]}}, "stages.a.weights: found 3 numbers; expected 2, one for"),
        ({"a": {**AVERAGE, "weights": [1.0]}}, "stages.a.weights: found 1 number; expected 2, one for"),
        ({"a": {**AVERAGE, "weights": []}}, "stages.a.weights: found 0 numbers; expected 2, one for"),
        ({"average": {"kind": "finetune"}}, "stages.average: names a kind, but is of kind 'finetune'"),
        ({"a": {**AVERAGE, "tasks": ["other"]}}, "stages.a.tasks: found 'other'"),
        ({"a": {**AVERAGE, "models": ["other"]}}, "stages.a.models: found 'other'"),
        ({"a": {"kind": "finetune", "task": "other"}}, "stages.a.task: found 'other'"),
        ({"a": {"kind": "finetune", "points": 1}}, "stages.a.points: found 1; must be at least 2"),
        (
            {"a": {"kind": "finetune", "points": 4, "weights": "bf16"}},
            "stages.a.points: needs `weights: fp32`, found 'bf16'",
        ),
        ({"a": {"kind": "finetune", "split": "other"}}, "stages.a.split: found 'other'; allowed: "),
        (
            {"a": {"kind": "interpolate", "toward": "PO+adamw"}},
            "stages.a.toward: found PO+adamw; no model of",
        ),
        (
            {"a": {"kind": "interpolate", "of": ["original"]}},
            "stages.a.toward: original is one of the models of `of`",
        ),
        ({"a": {"kind": "interpolate", "share": 1}}, "stages.a.share: found 1; must be smaller than 1"),
        ({"a": {"kind": "quantise", "format": "int3"}}, "stages.a.format: found 'int3'"),
        ({"a": {"kind": "prune", "split": "facts"}}, "stages.a.split: is read with `by: wanda` alone"),
        ({"a": {"kind": "prune", "by": "wanda", "split": "o"}}, "stages.a.split: found 'o'; allowed: "),
        ({"a": {"kind": "fine-tune"}}, "stages.a.kind: found 'fine-tune'"),
    ],
)
def test_a_wrong_stage_is_refused(stages: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_suite(study(stages))
    assert expected in str(refused.value)


def test_a_stage_of_retrained_is_refused_for_a_task_without_one() -> None:
    raw = study({"a": {"kind": "finetune", "of": ["retrained"]}})
    raw["tasks"]["toxic"] = {"source": "detox", "learned": False}
    with pytest.raises(UserError, match="retrained: the task 'toxic' cannot have a `retrained`"):
        parse_suite(raw)
    raw["stages"]["a"]["tasks"] = ["authors"]
    parse_suite(raw)


def test_metrics_of_models_side_by_side_are_told_which_groups_were_taught() -> None:
    stages = {"again": {"kind": "finetune", "split": "forget", "groups": 1}, "other": {"kind": "finetune"}}
    jobs = {
        job.name: job for job in Graph(parse_suite(study(stages, seeds=[0]))).study() if job.rule == "collect"
    }
    assert jobs["authors/metrics"].settings == {"collected": "metrics", "learned": {"authors": {"again": 1}}}
    plain = {
        job.name: job for job in Graph(parse_suite(study({}, seeds=[0]))).study() if job.rule == "collect"
    }
    assert plain["authors/metrics"].settings == {"collected": "metrics"}


def test_models_of_stages_are_named_by_what_was_done() -> None:
    stages = {"late": {"kind": "finetune", "of": ["mix"]}, "mix": AVERAGE, "all": {"kind": "finetune"}}
    suite = parse_suite(study(stages, seeds=[3]))
    labels = {
        str(key): label["display"]
        for key, label in zip(models_of(suite), run_labels(models_of(suite)), strict=True)
    }
    staged = {name: shown for name, shown in labels.items() if "." in name or "/mix/" in name}
    assert staged == {
        "authors/tiny/mix/none/seed3": "mix",
        "authors/tiny/mix/none/seed3.late": "mix, then late",
        "authors/tiny/GradDiff/adamw/seed3.all": "GradDiff + AdamW, then all",
        "authors/tiny/NPO/adamw/seed3.all": "NPO + AdamW, then all",
    }


def test_a_model_is_unlearned_if_a_run_of_unlearning_made_one_that_it_comes_from() -> None:
    stages = {
        "other": {"kind": "finetune", "of": ["original", "NPO+adamw"]},
        "halfway": {"kind": "average", "of": ["original", "retrained"]},
        "tuned": {"kind": "average", "of": ["original/other", "original"]},
        "late": {"kind": "finetune", "of": ["halfway", "mixed"]},
        "mixed": {"kind": "average", "of": ["retrained", "NPO+adamw/other"]},
        "twice": {"kind": "average", "of": ["halfway/late", "mixed/late"]},
        "bare": {"kind": "average", "of": ["halfway/late", "tuned"]},
    }
    models = models_of(parse_suite(study(stages, seeds=[3])))
    made = {label["display"] for label in run_labels(models) if not label["unlearned"]}
    bare = {"original", "retrained", "original, then other", "halfway", "halfway, then late"}
    assert made == {*bare, "tuned", "bare"}


@pytest.mark.parametrize("order", [("all", "mix"), ("mix", "all")])
def test_the_default_is_every_unlearned_model_wherever_the_stage_stands(order: tuple[str, str]) -> None:
    stages = {"mix": AVERAGE, "all": {"kind": "finetune"}}
    suite = parse_suite(study({label: stages[label] for label in order}, seeds=[0]))
    made = {str(key.row) for key in models_of(suite) if key.after}
    assert made == {"authors/tiny/GradDiff/adamw/all", "authors/tiny/NPO/adamw/all"}


def test_a_stage_has_no_label_of_an_objective_without_runs() -> None:
    """Its models would be taken for those of unlearning runs."""
    raw = study(
        {"NPO": {"kind": "average", "of": ["GradDiff+adamw", "original"]}},
        runs=[{"methods": ["GradDiff"], "optimizers": ["adamw"]}],
    )
    assert "stages.NPO: 'NPO' is the label of an objective" in error(raw)


def test_a_label_that_names_a_kind_has_that_kind() -> None:
    suite = parse_suite(study({"finetune": {"split": "facts"}, "average": {"of": AVERAGE["of"]}}))
    assert [stage.kind for stage in suite.stages.values()] == ["finetune", "average"]


def test_a_chain_of_labels_fits_into_the_name_of_a_folder() -> None:
    words = "abcdefghijklmnopqrstuvwxyz"
    labels, parent, stages = [f"{words}{number}{words[:22]}" for number in range(5)], "NPO+adamw", {}
    for label in labels:
        stages[label] = {"kind": "finetune", "of": [parent]}
        parent = f"{parent}/{label}"
    assert "found 249 characters, allowed 200; choose shorter labels" in error(study(stages))
    del stages[labels[-1]]
    longest = max(len(Path(key.folder).name) for key in models_of(parse_suite(study(stages))))
    assert 199 < longest < 255 - len(".log.processes")


def test_a_stage_of_a_reduced_model_is_refused() -> None:
    models = {"tiny": {"source": "scratch", "base": {"kind": "pruned", "sparsity": 0.5}}}
    assert "stages.a.models: the model 'tiny' has `base: pruned`" in error(
        study({"a": {"kind": "finetune"}}, models=models)
    )
    models["whole"] = {"source": "scratch"}
    parse_suite(study({"a": {"kind": "finetune", "models": ["whole"]}}, models=models))


@pytest.mark.parametrize(
    "where", [{"stages": {"a": {"kind": "finetune", "offload": True}}}, {"finetune": {"offload": True}}]
)
def test_sharding_excludes_offloading_in_every_training(where: dict[str, Any]) -> None:
    raw = study(**{"stages": {}, "resources": {"gpus": 2, "sharding": "full"}, **where})
    assert "resources.sharding: excludes `offload`" in error(raw)
    parse_suite({**raw, "resources": {"gpus": 2}})


@pytest.mark.parametrize(
    "key", [RunKey("t", "m", "NPO", "adamw", 7), RunKey("t", "m", "a", "none", 0, 2, "b/c")]
)
def test_a_place_says_whose_it_is(key: RunKey) -> None:
    assert key_from_path(f"results/x/training/{key.folder}/run.json") == key


def test_a_name_that_does_not_exist_is_no_circle() -> None:
    line = error(study({"a": {"kind": "finetune", "of": ["PO+adamw"]}}))
    assert "PO+adamw" in line and "wait" not in line


def test_a_stage_that_is_judged_on_its_way_reads_the_models_own_task() -> None:
    """Whatever task it learns; its logs go to the metrics and to the items that read paths."""
    stages = {
        "far": {"kind": "finetune", "task": "others", "points": 4, "of": ["NPO+adamw"], "tasks": ["authors"]},
        "plain": {"kind": "finetune", "of": ["NPO+adamw"], "tasks": ["authors"]},
    }
    tasks = {"authors": {"source": "fictitious"}, "others": {"source": "fictitious", "seed": 7}}
    evaluation = {"max_records": {"forget": 3}}
    graph = Graph(parse_suite(study(stages, tasks=tasks, evaluation=evaluation)))
    run = "authors/tiny/NPO/adamw/seed0"
    judged, plain = graph.jobs["stage", f"{run}.far"], graph.jobs["stage", f"{run}.plain"]
    assert judged.inputs["manifest"] == "data/others/manifest.json"
    assert judged.inputs["own"] == "data/authors/manifest.json"
    assert judged.settings["trajectory"] == {
        "points": 4,
        "max_records": {"forget": 3},
        "max_tokens_per_batch": 4096,
    }
    assert "pipeline_lib.steps.trajectory" in judged.code
    assert "own" not in plain.inputs and "trajectory" not in plain.settings
    assert "pipeline_lib.steps.trajectory" not in plain.code
    paths = graph.jobs["collect", "authors/metrics"].inputs["paths"]
    assert paths == tuple(f"training/authors/tiny/NPO/adamw/seed{seed}.far/steps.jsonl" for seed in (0, 1))
    assert "paths" not in graph.jobs["collect", "others/metrics"].inputs
    assert ("figure", "recovery") in graph.jobs
    without = Graph(parse_suite(study({"plain": stages["plain"]}, tasks=tasks)))
    assert ("figure", "recovery") not in without.jobs


def test_a_stage_in_several_processes_is_not_judged_on_its_way() -> None:
    raw = study({"a": {"kind": "finetune", "points": 4}}, resources={"processes": 2, "device": "cpu"})
    assert error(raw) == (
        "stages.a.points: needs `resources.processes: 1`: a stage in several processes is not judged on its "
        "way. Attacks are not with `attacks.points: null`"
    )


def test_a_stage_may_name_the_further_seeds_of_retrained_that_go_through_it() -> None:
    """And what is made of them afterwards has no others."""
    of = {"of": ["GradDiff+adamw", "retrained"]}
    stages = {
        "some": {"kind": "quantise", "format": "int8", "retrained_seeds": [7], **of},
        "then": {"kind": "quantise", "format": "int4", "of": ["retrained/some"]},
    }
    seeds: dict[str, list[int]] = {}
    for key in Graph(parse_suite(study(stages, seeds=[0, 1], retrained_seeds=[6, 7, 8]))).models:
        if key.method == "retrained":
            seeds.setdefault(key.after, []).append(key.seed)
    assert seeds == {"": [0, 1, 6, 7, 8], "some": [0, 1, 7], "some/then": [0, 1, 7]}
    stages["some"]["retrained_seeds"] = [9]
    assert error(study(stages, seeds=[0, 1], retrained_seeds=[6])) == (
        "stages.some.retrained_seeds: found 9; the suite's `retrained_seeds` are: 6"
    )
    stages["some"] |= {"retrained_seeds": [6], "of": ["GradDiff+adamw"]}
    del stages["then"]
    assert error(study(stages, seeds=[0, 1], retrained_seeds=[6])) == (
        "stages.some.retrained_seeds: goes with `retrained` in `of`; add it there, or leave this out"
    )


def test_stages_have_every_seed_of_retrained_that_they_can_have() -> None:
    """A further seed has no `original` of its own to be mixed with."""
    stages = {
        "relearn": {"kind": "finetune", "of": ["retrained", "NPO+adamw"], "points": 2},
        "again": {"kind": "finetune", "of": ["retrained/relearn"], "split": "forget", "groups": 2},
        "mixed": {"kind": "interpolate", "of": ["retrained"]},
    }
    suite = parse_suite(study(stages, retrained_seeds=[8, 9]))
    graph, seeds = Graph(suite), dict[str, list[int]]()
    for key in graph.models:
        if key.method == "retrained" and key.after:
            seeds.setdefault(key.after, []).append(key.seed)
    assert seeds == {"relearn": [0, 1, 8, 9], "relearn/again": [0, 1, 8, 9], "mixed": [0, 1]}
    again = graph.jobs["stage", "authors/tiny/retrained/none/seed9.relearn.again"]
    assert again.inputs["parents"] == ("models/authors/tiny/retrained/none/seed9.relearn",)
    assert [key.seed for key in graph.models if key.method == "NPO" and key.after] == [0, 1]
    learned = [run["learned"] for run in run_labels(graph.models) if run["after"] == "relearn/again"]
    assert learned == [{"again": 2}] * 4, "what the figures know of taught groups"
