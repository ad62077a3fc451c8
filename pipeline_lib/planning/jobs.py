"""Every job of a study that takes memory and time, with what it will need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline_lib.config.evaluation import Evaluation
from pipeline_lib.config.runs import Run
from pipeline_lib.config.suite import Suite
from pipeline_lib.config.table import Key, run_index, tuned_index
from pipeline_lib.planning.device import device_of
from pipeline_lib.planning.measuring import (
    Benchmarking,
    Continuing,
    Evaluating,
    Measuring,
    measuring_memory,
    measuring_seconds,
)
from pipeline_lib.planning.shape import Shape, shape_of
from pipeline_lib.planning.sizes import Lengths, lengths_of, together
from pipeline_lib.planning.training import Training
from pipeline_lib.planning.training_memory import Memory, training_memory
from pipeline_lib.planning.training_time import training_seconds
from pipeline_lib.tasks.base import HOLDOUT, TaskSettings

PROMPT_TOKENS = 15.0  # of a toxicity prompt


@dataclass(frozen=True)
class Job:
    """`kind`: the workflow's rule. `key`: task, model, method, optimizer, seed. `trial`: None, or its number.

    `work` is None where the model's sizes are unknown.
    """

    kind: str
    key: Key
    trial: int | None
    work: Training | Measuring | None


def memory_of(work: Training | Measuring) -> Memory:
    """What the job holds at its peak, part by part."""
    return training_memory(work) if isinstance(work, Training) else measuring_memory(work)


def seconds_of(work: Training | Measuring) -> float:
    """How long the job takes."""
    return training_seconds(work) if isinstance(work, Training) else measuring_seconds(work)


def jobs_of(suite: Suite) -> Iterator[Job]:
    """All jobs, in the order of the study's models: how each is made, then what is measured on it."""
    shapes = {label: shape_of(settings) for label, settings in suite.models.items()}
    index = run_index(suite)
    tuned = tuned_index(suite)
    seeds = [] if suite.tune is None else suite.tune.seeds
    places = {key[:2] for key in index}
    for task, model in dict.fromkeys(key[:2] for key in index):
        if seeds and (task, model) in places:
            for key in [(task, model, "original", "none", seed) for seed in seeds]:
                yield Job("finetune", key, None, _finetune(suite, key, shapes[model]))
                yield Job("evaluate", key, None, _evaluate(suite, key, shapes[model]))
    for key, run in index.items():
        task, model, method, optimizer, seed = key
        shape = shapes[model]
        if run is None:
            yield Job("finetune", key, None, _finetune(suite, key, shape))
        else:
            row = tuned.get(key[:4])
            if row is not None and seed == suite.seeds[0]:
                for tuning_seed in seeds:
                    for number in row.trials:
                        where = (task, model, method, optimizer, tuning_seed)
                        yield Job("trial", where, number, _unlearn(suite, run, shape))
            yield Job("unlearn", key, None, _unlearn(suite, run, shape))
        yield Job("evaluate", key, None, _evaluate(suite, key, shape))
        evaluation = suite.evaluation_of(task)
        if evaluation.benchmarks is not None:
            yield Job("standard_benchmarks", key, None, _benchmarks(suite, evaluation, shape))
        if evaluation.toxicity is not None:
            yield Job("toxicity", key, None, _toxicity(suite, key, evaluation, shape))


def _finetune(suite: Suite, key: Key, shape: Shape | None) -> Training | None:
    if shape is None:
        return None
    task, model, method = key[:3]
    learned = {"both", "target"} if method == "original" else {"both"}
    lengths = lengths_of(suite.tasks[task], suite.models[model])[0]
    splits = [split for split in lengths.values() if split.learned_by in learned]
    settings = suite.finetune_of(task)
    return Training(
        shape,
        device_of(suite.resources),
        None,
        together(splits),
        {"kind": "FineTuning"},
        {"kind": "adamw"},
        settings.weights,
        None if settings.lora is None else settings.lora.model_dump(),
        settings.batch_size,
        settings.accumulation,
        settings.epochs,
        settings.compute,
        settings.checkpoint_seconds,
        settings.checkpointing,
        settings.offload,
        None,  # made smaller only when it is trained
    )


def _unlearn(suite: Suite, run: Run, shape: Shape | None) -> Training | None:
    if shape is None:
        return None
    model = suite.models[run.model]
    lengths = lengths_of(suite.tasks[run.task], model)[0]
    return Training(
        shape,
        device_of(suite.resources),
        lengths["forget"],
        lengths.get("retain"),
        run.objective,
        run.optimizer_settings,
        run.unlearn["weights"],
        run.unlearn.get("lora"),
        run.unlearn["batch_size"],
        run.unlearn["accumulation"],
        run.unlearn["epochs"],
        run.unlearn["compute"],
        run.unlearn["checkpoint_seconds"],
        run.unlearn.get("checkpointing", False),
        run.unlearn.get("offload", False),
        None if model.base is None else model.base.kind,
    )


def _evaluated(task: TaskSettings, model: object, evaluation: Evaluation) -> dict[str, Lengths]:
    """Lengths of the splits that are evaluated, as many records as the suite wants."""
    lengths = lengths_of(task, model)[0]
    found = {}
    for name in task.evaluated_splits():
        if name in lengths:
            most = evaluation.max_records.get(name, lengths[name].records)
            found[name] = replace(lengths[name], records=min(most, lengths[name].records))
    return found


def _evaluate(suite: Suite, key: Key, shape: Shape | None) -> Evaluating | None:
    if shape is None:
        return None
    task, model, method = key[:3]
    evaluation = suite.evaluation_of(task)
    splits = _evaluated(suite.tasks[task], suite.models[model], evaluation)
    samples = evaluation.samples
    return Evaluating(
        shape,
        device_of(suite.resources),
        {name: lengths for name, lengths in splits.items() if name != HOLDOUT},
        {name: lengths for name, lengths in splits.items() if name == HOLDOUT},
        evaluation.max_new_tokens,
        evaluation.max_tokens_per_batch,
        evaluation.compute,
        {} if samples is None else dict.fromkeys(samples.splits, samples.n),
        evaluation.as_released,
        evaluation.grad_norm,
        evaluation.equal_retain is not None and method not in ("original", "retrained"),
        evaluation.embedder is not None,
    )


def _benchmarks(suite: Suite, evaluation: Evaluation, shape: Shape | None) -> Benchmarking | None:
    if shape is None or evaluation.benchmarks is None:
        return None
    asked = evaluation.benchmarks
    return Benchmarking(
        shape,
        device_of(suite.resources),
        tuple(asked.tasks),
        asked.limit,
        asked.mmlu_shots,
        evaluation.max_tokens_per_batch,
    )


def _toxicity(suite: Suite, key: Key, evaluation: Evaluation, shape: Shape | None) -> Continuing | None:
    if shape is None or evaluation.toxicity is None:
        return None
    asked, prompt = evaluation.toxicity, PROMPT_TOKENS
    count = asked.n_prompts
    if asked.prompts.source == "task":
        lengths = lengths_of(suite.tasks[key[0]], suite.models[key[1]])[0].get(asked.prompts.split)
        if lengths is not None:
            count, prompt = min(count, lengths.records), lengths.prompt
    return Continuing(
        shape,
        device_of(suite.resources),
        count,
        prompt,
        asked.samples,
        asked.max_new_tokens,
        evaluation.max_tokens_per_batch,
        evaluation.compute,
    )
