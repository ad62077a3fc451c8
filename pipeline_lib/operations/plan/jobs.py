"""What the jobs with a model do, as far as memory and time depend on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline_lib.core.runs import ANCHORS, BASE, RunKey
from pipeline_lib.engine.settings import LIKELIHOOD_ONLY
from pipeline_lib.models.chosen_layers import chosen_layers
from pipeline_lib.models.settings import ScratchModel
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.operations.plan.device import device_of
from pipeline_lib.operations.plan.looking import Looking
from pipeline_lib.operations.plan.measuring import (
    Benchmarking,
    Combining,
    Continuing,
    Evaluating,
    Measuring,
)
from pipeline_lib.operations.plan.shape import Shape, shape_of
from pipeline_lib.operations.plan.sizes import Lengths, lengths_of, together
from pipeline_lib.operations.plan.softening import Softening
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.operations.plan.training_memory import Memory, largest, training_memory
from pipeline_lib.operations.plan.training_time import training_seconds
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.stages.ask import Ask
from pipeline_lib.study.evaluation import Evaluation, Samples, by_likelihood
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import Job
from pipeline_lib.study.runs import Run
from pipeline_lib.study.stages import StagedRow
from pipeline_lib.study.suite import Suite
from pipeline_lib.tasks.base import HOLDOUT, TaskSettings
from pipeline_lib.training.pretrain_settings import as_fine_tuning
from pipeline_lib.training.settings import FineTune

PROMPT_TOKENS = 15.0  # of a toxicity prompt
MOST = 2**31  # records of a split, where a suite does not limit them

Work = Training | Measuring


def memory_of(work: Work) -> Memory:
    """What the job holds at its peak, part by part."""
    return training_memory(work) if isinstance(work, Training) else largest(work.device, work.phases())


def seconds_of(work: Work) -> float:
    """How long the job takes."""
    return training_seconds(work) + work.judging if isinstance(work, Training) else work.seconds()


def planned_jobs(suite: Suite) -> Iterator[tuple[Job, Work | None]]:
    """The jobs with a model, each with its work; None where the model's sizes are unknown."""
    shapes = {label: shape_of(settings) for label, settings in suite.models.items()}
    graph = Graph(suite)
    rows = {key.row: made for key, made in graph.models.items()}
    for job in graph.study():
        if job.needs in ("training", "model") and job.row is not None:
            shape = shapes[job.row.model]
            yield job, None if shape is None else _work(suite, job, rows.get(job.row), shape)


def _work(suite: Suite, job: Job, made: Run | StagedRow | None, shape: Shape) -> Work:
    if job.run is None:
        return _pretrain(suite, job.name, shape)
    key = job.run
    if (asking := _asking(suite, job, key, made, shape)) is not None:
        return asking
    if isinstance(made, StagedRow):
        work, points = _stage(suite, key, made, shape), made.stage.judged()
    elif made is not None:
        judged = suite.judged(made)
        work, points = _unlearn(suite, made, shape), None if judged is None else judged.points
    else:
        return _anchor(suite, key, shape)
    if points is None or not isinstance(work, Training):
        return work
    once = _evaluate(suite, key, by_likelihood(suite.evaluation_of(key.task)), shape, alone=True)
    return replace(work, judging=min(points, work.steps) * (once.seconds() - once.loading))


def _asking(
    suite: Suite, job: Job, key: RunKey, made: Run | StagedRow | None, shape: Shape
) -> Measuring | None:
    """What a job does that asks a finished model; None for one that makes a model."""
    evaluation = suite.evaluation_of(key.task)
    if job.rule == "evaluate":
        asked = made.stage if isinstance(made, StagedRow) and isinstance(made.stage, Ask) else None
        alone = bool(job.settings.get(LIKELIHOOD_ONLY))
        return _evaluate(suite, key, by_likelihood(evaluation) if alone else evaluation, shape, asked, alone)
    if job.rule == "standard_benchmarks":
        assert evaluation.benchmarks is not None
        return Benchmarking(shape, device_of(suite.resources), evaluation, evaluation.benchmarks)
    if job.rule == "toxicity":
        return _toxicity(suite, key, evaluation, shape)
    if job.rule == "inside":
        return _inside(suite, key, evaluation, shape, patched="original" in job.inputs)
    return None


def _pretrain(suite: Suite, label: str, shape: Shape) -> Training:
    """Each step sees other windows: a text that is read again costs what new text costs."""
    model = suite.models[label]
    assert isinstance(model, ScratchModel) and model.pretrain is not None
    steps, context = model.pretrain.steps_in(model.max_length), model.pretrain.context_in(model.max_length)
    windows = steps * model.pretrain.size
    lengths = Lengths(windows, 1, context - 1, context, 1, "both")
    training = _plain_training(suite, as_fine_tuning(model.pretrain, steps, windows), [lengths], shape)
    return replace(training, block=f"models.{label}.pretrain")


def _stage(suite: Suite, key: RunKey, made: StagedRow, shape: Shape) -> Work:
    settings = made.stage.training()
    if settings is None:
        return Combining(shape, device_of(suite.resources), len(made.parents))
    task = suite.settings_of(made.stage.data_of(key.task))
    lengths = lengths_of(task, suite.models[key.model])
    if (first := made.stage.first_groups()) is not None:
        lengths = {name: replace(of, records=_first(task, name, of, first)) for name, of in lengths.items()}
    learned = [lengths[name] for name in made.stage.splits() if name in lengths]
    return _plain_training(suite, settings, learned, shape)


def _first(task: TaskSettings, split: str, of: Lengths, groups: float) -> int:
    """How many records of a split so many first groups have, or which share of them."""
    size = (task.size_hint() or {}).get(split)
    if size is None or size.groups is None:
        return math.ceil(of.records * groups) if groups < 1 else of.records
    first = math.ceil(groups * size.groups) if groups < 1 else groups
    return math.ceil(of.records * min(first / size.groups, 1.0))


def _anchor(suite: Suite, key: RunKey, shape: Shape) -> Work:
    if key.method == BASE:
        return Combining(shape, device_of(suite.resources), 1)
    learned = {"both", "target"} if key.method == "original" else {"both"}
    lengths = lengths_of(suite.settings_of(key.task), suite.models[key.model])
    splits = [split for split in lengths.values() if split.learned_by in learned]
    return _plain_training(suite, suite.finetune_of(key.task), splits, shape)


def _plain_training(suite: Suite, settings: FineTune, splits: Sequence[Lengths], shape: Shape) -> Training:
    optimizer, device = AdamW(kind="adamw", learning_rate=settings.learning_rate), device_of(suite.resources)
    # A base is made smaller only when the model is trained.
    return Training(shape, device, None, together(splits), FineTuning(), optimizer, settings, None)


def _unlearn(suite: Suite, run: Run, shape: Shape) -> Training:
    model = suite.models[run.model]
    lengths = lengths_of(suite.settings_of(run.task), model)
    return Training(
        shape,
        device_of(suite.resources),
        lengths["forget"],
        lengths.get("retain"),
        run.objective,
        run.optimizer_settings,
        run.unlearn,
        None if model.base is None else model.base.kind,
    )


def asked_alike(evaluation: Evaluation, asked: Ask) -> Evaluation:
    """The evaluation of a model that is asked in another way."""
    drawn = evaluation.samples if asked.samples is None else Samples(n=asked.samples)
    return evaluation.model_copy(update={"samples": drawn, "as_released": False, "equal_retain": None})


def _evaluate(
    suite: Suite,
    key: RunKey,
    evaluation: Evaluation,
    shape: Shape,
    asked: Ask | None = None,
    alone: bool = False,
) -> Evaluating:
    """`asked`: the stage that asks each question in one or several other ways. `alone`: true answers are read
    and none written."""
    evaluation = evaluation if asked is None else asked_alike(evaluation, asked)
    task = suite.settings_of(key.task)
    lengths = lengths_of(task, suite.models[key.model])
    ways, hints = (1, 0) if asked is None else (asked.phrasings(), asked.hints)
    soft = 0 if asked is None else asked.soft_tokens()
    told = {
        name: replace(
            of,
            prompt=of.prompt + hints * of.whole + soft,
            longest=of.longest + soft,
        )
        for name, of in lengths.items()
    }
    splits = {
        name: replace(
            told[name], records=ways * min(told[name].records, evaluation.max_records.get(name, MOST))
        )
        for name in task.evaluated_splits()
        if name in told
    }
    others = {HOLDOUT: splits.pop(HOLDOUT)} if HOLDOUT in splits else {}
    if alone:
        every = {**splits, **others}.items()
        splits, others = {}, {name: of if of.multiple_choice else replace(of, texts=1) for name, of in every}
    mixed = evaluation.equal_retain is not None and key.method not in ANCHORS
    given = (shape, device_of(suite.resources), evaluation, splits, others, mixed)
    if asked is None or asked.soft_prompt is None:
        return Evaluating(*given)
    return Softening(*given, asked.soft_prompt, told["forget"], ways)


def _inside(suite: Suite, key: RunKey, evaluation: Evaluation, shape: Shape, patched: bool) -> Looking:
    asked = evaluation.inside
    assert asked is not None
    lengths = lengths_of(suite.settings_of(key.task), suite.models[key.model])["forget"]
    records = replace(lengths, records=min(lengths.records, asked.max_records))
    looked = len(chosen_layers(asked.layers, shape.layers))
    return Looking(shape, device_of(suite.resources), evaluation, looked, records, patched)


def _toxicity(suite: Suite, key: RunKey, evaluation: Evaluation, shape: Shape) -> Continuing:
    asked = evaluation.toxicity
    assert asked is not None
    count, prompt = asked.n_prompts, PROMPT_TOKENS
    if asked.prompts.source == "task":
        lengths = lengths_of(suite.settings_of(key.task), suite.models[key.model]).get(asked.prompts.split)
        if lengths is not None:
            count, prompt = min(count, lengths.records), lengths.prompt
    return Continuing(shape, device_of(suite.resources), evaluation, asked, count, prompt)
