"""The suite's settings against the code that takes them: no setting without effect, no limit of its own."""

from __future__ import annotations

import dataclasses
import inspect
from importlib import import_module
from typing import get_args

from pipeline_lib.benchmarks.data import MOST_SHOTS, Asked
from pipeline_lib.benchmarks.tasks import TASKS
from pipeline_lib.core.blocks import choices
from pipeline_lib.engine.settings import EvaluationSettings, SplitSampling
from pipeline_lib.engine.toxicity import ToxicitySettings
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.scratch import SPECIALS
from pipeline_lib.models.settings import (
    HubModel,
    ScratchModel,
)
from pipeline_lib.study.evaluation import BenchmarkName, Benchmarks, Evaluation, Samples, Toxicity
from pipeline_lib.study.suite import TaskSettings
from pipeline_lib.tasks import sources
from pipeline_lib.tasks.base import TaskSettings as Base
from pipeline_lib.tasks.fictitious import words
from pipeline_lib.tasks.fictitious.authors import AUTHOR_QUESTIONS
from pipeline_lib.tasks.fictitious.countries import COUNTRY_QUESTIONS
from pipeline_lib.tasks.fictitious.generate import COUNTRY_COUNT
from tests.study.suites import COMMIT, errors, small


def test_tasks_take_their_settings() -> None:
    assert choices(TaskSettings) == sources()
    for source, block in sources().items():
        text = inspect.getsource(import_module(f"pipeline_lib.tasks.{source}"))
        for field in set(block.model_fields) - set(Base.model_fields) - {"source"}:
            assert f"self.{field}" in text, f"nothing reads {field} of {source}"


def test_every_benchmark_can_be_chosen() -> None:
    assert set(get_args(BenchmarkName)) == set(TASKS)
    (line,) = errors(small(evaluation={"benchmarks": {"tasks": ["mmlu"], "mmlu_shots": MOST_SHOTS + 1}}))
    assert line.endswith(f"must be at most {MOST_SHOTS}")


def test_benchmarks_take_their_settings() -> None:
    assert set(Benchmarks.model_fields) == {field.name for field in dataclasses.fields(Asked)}


def test_the_evaluation_takes_its_settings() -> None:
    """What steps pass on under the names of the suite, and what they make of the task's manifest."""
    taken = {field.name for field in dataclasses.fields(EvaluationSettings)}
    of_the_task = {"likelihood_only", "distribution_splits", "grad_norm_splits", "max_length"}
    jobs = {"base", "trajectory", "equal_retain", "embedder", "benchmarks", "toxicity", "inside"}
    assert set(Evaluation.model_fields) - jobs - {"grad_norm"} == taken - of_the_task
    assert set(Samples.model_fields) == {field.name for field in dataclasses.fields(SplitSampling)}
    assert set(Toxicity.model_fields) - {"classifier", "prompts", "labelled", "n_prompts"} == {
        field.name for field in dataclasses.fields(ToxicitySettings)
    } - {"as_released", "max_tokens_per_batch", "compute"}


def test_limits_of_the_generator() -> None:
    """Too many authors, questions or facts are refused with the suite, not by a job."""
    most = {
        "n_authors": len(set(words.LAST_NAMES)),
        "questions_per_author": len(AUTHOR_QUESTIONS),
        "n_facts": COUNTRY_COUNT * len(COUNTRY_QUESTIONS),
    }
    sources()["fictitious"](source="fictitious", **most)
    (line,) = errors(small(tasks={"t": {"source": "fictitious", "n_authors": 400, "holdout_authors": 81}}))
    assert line == "tasks.t.holdout_authors: found 81; with `n_authors` (400) it must be at most 480"
    for name, value in most.items():
        (line,) = errors(small(tasks={"t": {"source": "fictitious", name: value + 1}}))
        assert line == f"tasks.t.{name}: found {value + 1}; must be at most {value}"


def test_limits_of_the_tokenizer() -> None:
    smallest = 256 + len(SPECIALS)  # every byte has a token
    ScratchModel(source="scratch", vocab_size=smallest)
    (line,) = errors(small(models={"m": {"source": "scratch", "vocab_size": smallest - 1}}))
    assert line.endswith(f"must be at least {smallest}")


def test_prompts_are_taken_as_they_are() -> None:
    for model in (ScratchModel(source="scratch"), HubModel(source="hub", id="a/b", revision=COMMIT)):
        taken = PromptFormat(**dict(model.prompt)).to_dict()
        unset = {"add_bos": None, "chat_template": None, "date": None}
        assert taken == {**unset, **model.prompt.model_dump(), "instruction": ""}


def test_splits_that_limits_may_name() -> None:
    task = sources()["fictitious"](
        source="fictitious", n_authors=4, questions_per_author=2, forget_authors=1, n_facts=2
    )
    assert list(task.evaluated_splits()) == task.load().evaluate
    held_out = task.model_copy(update={"holdout_authors": 2})
    assert list(held_out.evaluated_splits()) == held_out.load().evaluate
    tofu = sources()["tofu"](source="tofu")
    assert tofu.model_copy(update={"holdout_authors": 2}).evaluated_splits()[-1] == "holdout"
    assert tofu.evaluated_splits() == ("forget", "retain_eval", "real_authors", "world_facts")
    assert tofu.model_copy(update={"retain_authors": 18}).evaluated_splits()[1] == "retain"
    assert "facts" not in sources()["files"](source="files", folder="x").evaluated_splits()
