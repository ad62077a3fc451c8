"""Jobs that look inside models: whose layers are patched into which, and what they are held against."""

from __future__ import annotations

from pipeline_lib.study import parse_suite
from pipeline_lib.study.graph import Graph
from tests.study.suites import small


def test_layers_are_patched_into_the_original_of_the_same_seed_and_held_against_its_retrained() -> None:
    raw = small(retrained_seeds=[7], evaluation={"inside": {"layers": 2}})
    jobs = {(job.rule, job.name): job for job in Graph(parse_suite(raw)).study()}
    place = "authors/tiny/{}/seed{}"

    def inputs(rule: str, model: str, seed: int) -> dict[str, object]:
        return dict(jobs[rule, place.format(model, seed)].inputs)

    for model in ("NPO/adamw", "retrained/none"):
        for seed in (0, 1):
            assert (
                inputs("inside", model, seed)["original"] == f"models/{place.format('original/none', seed)}"
            )
    depths = {name: job.settings["depth"] for (rule, name), job in jobs.items() if rule == "inside"}
    alone = place.format("retrained/none", 7)
    assert not depths.pop(alone) and all(depths.values()), "seed 7 has no `original` of its own"
    for model, seed in (("original/none", 0), ("retrained/none", 7)):
        assert "original" not in inputs("inside", model, seed)
    of = "evaluations/authors/tiny/retrained/none/seed{}/inside.jsonl"
    references = {
        (model, seed): inputs("score", model, seed)["inside_reference"]
        for model in ("NPO/adamw", "original/none", "retrained/none")
        for seed in (0, 1)
    }
    assert references == {
        **{(model, seed): of.format(seed) for model in ("NPO/adamw", "original/none") for seed in (0, 1)},
        ("retrained/none", 0): of.format(1),
        ("retrained/none", 1): of.format(7),
    }
    only = Graph(parse_suite(small(seeds=[0], evaluation={"inside": {}}))).jobs
    score = only["score", place.format("retrained/none", 0)]
    assert "inside" in score.inputs and "inside_reference" not in score.inputs, "it would be like itself"


def test_a_model_that_is_asked_in_another_way_has_its_own_layers() -> None:
    stages = {"asked": {"kind": "ask", "of": ["GradDiff+adamw", "retrained"], "opening": "Sure:"}}
    jobs = Graph(parse_suite(small(stages=stages, evaluation={"inside": {}}))).jobs
    place = "authors/tiny/{}/seed0"
    for model in ("GradDiff/adamw", "retrained/none"):
        own, asked = place.format(model), f"{place.format(model)}.asked"
        assert ("inside", asked) not in jobs
        for name in ("inside", "inside_reference"):
            assert jobs["score", asked].inputs[name] == jobs["score", own].inputs[name]


def test_models_that_stages_made_are_looked_into_where_the_suite_says_so() -> None:
    """Held against the same `retrained` as without the stage."""
    stages = {"half": {"kind": "quantise", "format": "int8", "of": ["GradDiff+adamw", "retrained"]}}
    place = "authors/tiny/GradDiff/adamw/seed0.half"
    without = Graph(parse_suite(small(stages=stages, evaluation={"inside": {}}))).jobs
    assert ("inside", place) not in without and "inside" not in without["score", place].inputs
    jobs = Graph(parse_suite(small(stages=stages, evaluation={"inside": {"stages": True}}))).jobs
    assert jobs["inside", place].inputs["model"] == f"models/{place}"
    beside = "evaluations/authors/tiny/retrained/none/seed0/inside.jsonl"
    assert jobs["score", place].inputs["inside_reference"] == beside


def test_without_depth_or_retrained_the_lens_alone_is_read() -> None:
    tasks = {"safe": {"source": "detox", "learned": False}}
    without = ({"evaluation": {"inside": {"depth": False}}}, {"tasks": tasks, "evaluation": {"inside": {}}})
    for changes in without:
        jobs = [job for job in Graph(parse_suite(small(**changes))).study() if job.rule == "inside"]
        assert jobs
        assert not any("original" in job.inputs or job.settings["depth"] for job in jobs)
