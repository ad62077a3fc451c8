"""Which studies have the row `base`, and what its jobs are."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline_lib.core.runs import RowKey
from pipeline_lib.operations.plan.jobs import planned_jobs, seconds_of
from pipeline_lib.study import dump_suite, load_suite, parse_suite
from pipeline_lib.study.graph import Graph
from tests.study.suites import COMMIT, error, small

HUB = {"source": "hub", "id": "a/b", "revision": COMMIT}
MINI = {"source": "scratch", "pretrain": {"text": [{"path": "story.txt"}], "steps": 3}}


def study(**changes: Any) -> dict[str, Any]:
    return small(models={"tiny": {"source": "scratch"}, "mini": MINI, "hub": HUB}, seeds=[2, 1], **changes)


def bases(raw: dict[str, Any]) -> list[tuple[str, str, int]]:
    keys = Graph(parse_suite(raw)).models
    return [(key.task, key.model, key.seed) for key in keys if key.method == "base"]


def test_a_pretrained_model_has_one_base_a_task_and_one_from_scratch_has_none() -> None:
    assert bases(study()) == [("authors", "mini", 1), ("authors", "hub", 1)]
    assert bases(study(evaluation={"base": False})) == []


def test_a_task_may_leave_it_out_and_one_that_teaches_nothing_has_none() -> None:
    tasks = {
        "authors": {"source": "fictitious", "evaluation": {"base": False}},
        "safe": {"source": "detox", "learned": False},
        "learned": {"source": "detox", "learned": True},
    }
    runs = [{"methods": ["GradDiff"], "optimizers": ["adamw"]}]
    raw = small(models={"hub": HUB}, tasks=tasks, runs=runs, objectives={"GradDiff": None})
    raw["optimizers"] = {"adamw": {"learning_rate": 1e-4}}
    assert bases(raw) == [("learned", "hub", 0)], "`original` of a task that teaches nothing is the base"


def test_its_jobs_read_the_pretrained_weights_and_are_measured_as_all_models_are() -> None:
    suite = parse_suite(study())
    jobs = Graph(suite).jobs
    own, hub = (jobs["base", f"authors/{model}/base/none/seed1"] for model in ("mini", "hub"))
    assert own.inputs == {"base": "bases/mini/model", "made": ("bases/mini/run.json",)}
    assert hub.inputs == {} and hub.reads == (("inputs", suite.models["hub"]),)
    assert own.needs == hub.needs == "model", "nothing is trained"
    score = jobs["score", own.name]
    assert score.inputs["reference"] == "evaluations/authors/mini/retrained/none/seed1/records.jsonl"
    assert jobs["evaluate", own.name].inputs["model"] == f"models/{own.name}"
    others = [job.settings for (rule, _), job in jobs.items() if rule == "evaluate"]
    assert jobs["evaluate", own.name].settings in others and "base" not in others[0]["evaluation"]
    metrics = jobs["collect", "authors/metrics"].inputs["metrics"]
    assert f"evaluations/{own.name}/metrics.json" in metrics


def test_a_model_that_knows_the_data_is_its_own_base() -> None:
    for learned, anchors in ((True, ["base", "original", "retrained"]), (False, ["original"])):
        own = {"source": "files", "folder": "mine", "learned": learned}
        suite = parse_suite(small(tasks={"own": own}, models={"hub": HUB}))
        assert sorted(row.method for row in suite.rows() if row.anchor) == anchors


def test_the_plan_counts_its_loading_and_its_evaluation() -> None:
    shape = {"parameters": 1e8, "hidden_size": 512, "layers": 12, "vocab_size": 32000}
    shape |= {"intermediate_size": 2048, "heads": 8}
    suite = parse_suite(small(models={"hub": {**HUB, "shape": shape}}))
    planned = {(job.rule, job.run.method): work for job, work in planned_jobs(suite) if job.run is not None}
    base, evaluated = planned["base", "base"], planned["evaluate", "base"]
    assert base is not None and evaluated is not None
    assert seconds_of(base) == pytest.approx(base.loading)  # type: ignore[union-attr]
    assert evaluated == planned["evaluate", "original"]


def test_a_stage_of_the_base_starts_from_the_one_there_is() -> None:
    stages = {"mix": {"kind": "average", "of": ["base", "original"]}}
    jobs = Graph(parse_suite(small(models={"mini": MINI}, seeds=[2, 1], stages=stages))).jobs
    place = "models/authors/mini"
    for seed in (1, 2):
        parents = jobs["stage", f"authors/mini/mix/none/seed{seed}"].inputs["parents"]
        assert parents == (f"{place}/base/none/seed1", f"{place}/original/none/seed{seed}")


def test_the_name_is_reserved() -> None:
    raw = small(objectives={"base": {"kind": "GradDiff"}})
    assert error(raw).startswith("objectives.base: 'base' has a meaning of its own in the results; choose")
    twin = small(stages={"Base": {"kind": "average", "of": ["original", "retrained"]}})
    assert error(twin).startswith("stages.Base: 'base' is the label of an objective or of another model")


def test_results_of_an_earlier_version_have_no_base(tmp_path: Any) -> None:
    """A kept suite that does not speak of it was run without; one of this version says what it had."""
    suite = parse_suite(small(models={"mini": MINI}))
    kept = tmp_path / "suite.yaml"
    kept.write_text(dump_suite(suite))
    assert load_suite(kept, kept=True).rows() == suite.rows() and suite.has_base("authors", "mini")
    older = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(line for line in older if line.strip() != "base: true"))
    assert RowKey("authors", "mini", "base", "none") not in load_suite(kept, kept=True).rows()
    assert load_suite(kept).has_base("authors", "mini")
