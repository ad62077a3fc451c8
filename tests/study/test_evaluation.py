"""The block `evaluation`: what it refuses, and what it says."""

from __future__ import annotations

import pytest

from pipeline_lib.study import parse_suite
from tests.study.suites import COMMIT, error, errors, small

HELD_OUT = {"authors": {"source": "fictitious", "holdout_authors": 4}}


def test_nothing_beyond_the_task_unless_asked_for() -> None:
    evaluation = parse_suite(small()).evaluation
    for block in ("samples", "embedder", "toxicity", "benchmarks"):
        assert getattr(evaluation, block) is None
    assert not evaluation.grad_norm
    assert not evaluation.as_released


def test_gradient_norms_need_records_that_no_model_learns() -> None:
    assert error(small(evaluation={"grad_norm": True})).startswith(
        "evaluation.grad_norm: membership inference needs records that no model learns"
    )
    assert parse_suite(small(tasks=HELD_OUT, evaluation={"grad_norm": True})).evaluation.grad_norm


def test_samples_are_of_splits_with_answers() -> None:
    assert error(small(evaluation={"samples": {"splits": ["forgot"]}})) == (
        "evaluation.samples.splits.0: no task has such a split with answers; did you mean 'forget'? "
        "Allowed: facts, forget, retain"
    )
    assert "no task has such a split" in error(
        small(tasks=HELD_OUT, evaluation={"samples": {"splits": ["holdout"]}})
    )
    assert error(small(evaluation={"samples": {"top_p": 1.5}})) == (
        "evaluation.samples.top_p: found 1.5; must be at most 1"
    )
    assert "must be at least 2" in error(small(evaluation={"samples": {"n": 1}}))
    assert parse_suite(small(evaluation={"samples": {}})).evaluation.samples.splits == ["forget"]


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (
            {"benchmarks": {"tasks": ["mmul"]}},
            "evaluation.benchmarks.tasks.0: found 'mmul'; did you mean 'mmlu'?",
        ),
        ({"benchmarks": {"tasks": []}}, "evaluation.benchmarks.tasks: found an empty list"),
        ({"benchmarks": {"lm_eval": {"gsm8k": "main"}}}, "evaluation.benchmarks.lm_eval.gsm8k: found 'main'"),
        (
            {"benchmarks": {"lm_eval": {"arc_easy": None}}},
            "evaluation.benchmarks.lm_eval: found 'arc_easy', which has its place in `tasks`",
        ),
        ({"benchmarks": {"tasks": ["mmlu"], "mmlu_shots": 6}}, "evaluation.benchmarks.mmlu_shots: found 6"),
        ({"embedder": {"source": "hub", "id": "a/b"}}, "evaluation.embedder.revision: is missing"),
        ({"embedder": {"path": "x"}}, "evaluation.embedder: needs the key `source`; allowed: folder, hub"),
        ({"toxicity": {}}, "evaluation.toxicity.classifier: is missing"),
        (
            {
                "toxicity": {
                    "classifier": {"kind": "profanity_chek"},
                    "prompts": {"source": "file", "path": "x"},
                }
            },
            "evaluation.toxicity.classifier.kind: found 'profanity_chek'; did you mean 'profanity_check'?",
        ),
    ],
)
def test_messages(evaluation: dict[str, object], message: str) -> None:
    assert errors(small(evaluation=evaluation))[0].startswith(message)


def test_a_whole_block() -> None:
    hub = {"id": "owner/name", "revision": COMMIT}
    suite = parse_suite(
        small(
            tasks=HELD_OUT,
            evaluation={
                "embedder": {"source": "hub", **hub},
                "samples": {"n": 4},
                "toxicity": {
                    "classifier": {"kind": "hub", "label": "toxic", **hub},
                    "prompts": {"source": "hub", "revision": COMMIT},
                },
                "benchmarks": {"tasks": ["mmlu", "wikitext"], "limit": 100},
            },
        )
    )
    assert suite.evaluation.toxicity.prompts.id == "allenai/real-toxicity-prompts"
    assert suite.evaluation.toxicity.samples == 25


def test_the_inside_is_looked_into_where_it_is_asked_for_alone() -> None:
    assert "inside" not in parse_suite(small()).evaluation.model_dump(), "old suites keep their jobs"
    inside = parse_suite(small(evaluation={"inside": {}})).evaluation.inside
    assert (inside.max_records, inside.layers, inside.depth) == (40, "all", None)
    assert errors(small(evaluation={"inside": {"layers": 0}}))[0].startswith("evaluation.inside.layers")


def test_depth_is_measured_against_retrained() -> None:
    tasks = {"authors": {"source": "fictitious"}, "safe": {"source": "detox", "learned": False}}
    assert parse_suite(small(tasks=tasks, evaluation={"inside": {}})), "there the lens alone is read"
    assert error(small(tasks=tasks, evaluation={"inside": {"depth": True}})).startswith(
        "evaluation.inside.depth: the task 'safe' has no `retrained`, whose layers say where the answers are"
    )
