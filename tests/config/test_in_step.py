"""The suite's settings against the code that takes them: no setting without effect, no limit of its own."""

from __future__ import annotations

import dataclasses
import inspect
from importlib import import_module
from typing import get_args

import pytest
import torch

from pipeline_lib.blocks import choices
from pipeline_lib.config import parse_suite
from pipeline_lib.config.evaluation import BenchmarkName, Benchmarks, Evaluation, Samples, Toxicity
from pipeline_lib.config.jobs import FineTune, Training
from pipeline_lib.config.methods import OBJECTIVE_KINDS, OPTIMIZER_KINDS, SECOND_ORDER
from pipeline_lib.config.models import (
    HubModel,
    ScratchModel,
)
from pipeline_lib.config.tasks import TaskSettings
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.benchmarks.readers import MOST_SHOTS
from pipeline_lib.evaluation.benchmarks.tasks import TASKS
from pipeline_lib.evaluation.settings import SAMPLES, EvaluationSettings
from pipeline_lib.evaluation.toxicity import ToxicitySettings
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.scratch import SMALLEST_VOCABULARY
from pipeline_lib.objectives import OBJECTIVES, make_objective
from pipeline_lib.optimizers import OPTIMIZERS, make_optimizer
from pipeline_lib.steps.standard_benchmarks import ENGINES
from pipeline_lib.tasks import sources
from pipeline_lib.tasks.fictitious import words
from pipeline_lib.tasks.fictitious.authors import AUTHOR_QUESTIONS
from pipeline_lib.tasks.fictitious.countries import COUNTRY_QUESTIONS
from pipeline_lib.tasks.fictitious.generate import COUNTRY_COUNT
from pipeline_lib.training.loop import TrainingSettings
from tests.config.suites import COMMIT, errors, small


def test_every_objective_and_optimizer_can_be_chosen() -> None:
    assert set(OBJECTIVE_KINDS) == set(OBJECTIVES)
    assert set(OPTIMIZER_KINDS) == set(OPTIMIZERS) | {"influence"}  # a single step, not an optimiser
    assert set(OPTIMIZER_KINDS) > SECOND_ORDER


@pytest.mark.parametrize("kind", OBJECTIVE_KINDS)
def test_objectives_take_their_settings(kind: str) -> None:
    settings = (
        parse_suite(small(objectives={kind: {"layer": 1} if kind == "RMU" else None}, runs=None))
        .objectives[kind]
        .model_dump()
    )
    make_objective(**settings)


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
def test_optimizers_take_their_settings(kind: str) -> None:
    settings = parse_suite(small(optimizers={kind: {"learning_rate": 1e-3}})).optimizers[kind].model_dump()
    for of_curvature in ("estimator", "update_every", "drift_target", "curvature_data", "curvature_examples"):
        settings.pop(of_curvature, None)  # taken by the training loop
    try:
        make_optimizer(model=torch.nn.Linear(2, 2), **settings)
    except UserError as error:  # an optional package is not there, or torch is too old
        if kind not in ("adamw_8bit", "muon"):
            raise
        pytest.skip(str(error))


def test_the_training_loop_takes_its_settings() -> None:
    taken = {field.name for field in dataclasses.fields(TrainingSettings)}
    of_model_and_optimizer = {"checkpointing", "offload"}
    assert set(Training.model_fields) == taken | of_model_and_optimizer
    own = {"learning_rate", "weight_decay", "weights", "lora", "encoding"}
    assert set(FineTune.model_fields) == taken | of_model_and_optimizer | own


def test_tasks_take_their_settings() -> None:
    assert choices(TaskSettings) == sources()
    for source, block in sources().items():
        loader = import_module(f"pipeline_lib.tasks.{source}.settings").load
        assert set(block.model_fields) - block.COMMON == set(inspect.signature(loader).parameters)


def test_every_benchmark_can_be_chosen() -> None:
    assert set(get_args(BenchmarkName)) == set(TASKS)
    (line,) = errors(small(evaluation={"benchmarks": {"tasks": ["mmlu"], "mmlu_shots": MOST_SHOTS + 1}}))
    assert line.endswith(f"must be at most {MOST_SHOTS}")


def test_every_engine_of_benchmarks_can_be_chosen() -> None:
    assert set(get_args(Benchmarks.model_fields["engine"].annotation)) == set(ENGINES)


def test_the_evaluation_takes_its_settings() -> None:
    """What steps pass on under the names of the suite, and what they make of the task's manifest."""
    taken = {field.name for field in dataclasses.fields(EvaluationSettings)}
    of_the_task = {"likelihood_only", "distribution_splits", "grad_norm_splits", "max_length"}
    apart = {"equal_retain", "embedder", "benchmarks", "toxicity", "grad_norm"}
    assert set(Evaluation.model_fields) - apart == taken - of_the_task
    assert set(Samples.model_fields) == SAMPLES
    assert set(Toxicity.model_fields) - {"classifier", "prompts", "labelled", "n_prompts"} == {
        field.name for field in dataclasses.fields(ToxicitySettings)
    } - {"as_released", "max_tokens_per_batch", "compute"}


def test_limits_of_the_generator() -> None:
    """Too many authors, questions or facts are refused with the suite, not by a job."""
    most = {
        "n_authors": len(set(words.joined(words.LAST_HEADS, words.LAST_TAILS))),
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
    ScratchModel(source="scratch", vocab_size=SMALLEST_VOCABULARY)
    (line,) = errors(small(models={"m": {"source": "scratch", "vocab_size": SMALLEST_VOCABULARY - 1}}))
    assert line.endswith(f"must be at least {SMALLEST_VOCABULARY}")


def test_prompts_are_taken_as_they_are() -> None:
    for model in (ScratchModel(source="scratch"), HubModel(source="hub", id="a/b", revision=COMMIT)):
        taken = PromptFormat.from_dict(model.prompt.model_dump()).to_dict()
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
