"""The suite: one typed description of a whole study, and the table of its runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import (
    Block,
    CountOrZero,
    Fault,
    Faults,
    Name,
)
from pipeline_lib.core.families import Family
from pipeline_lib.core.runs import ANCHORS, BASE, FINE_TUNED, NO_OPTIMIZER, RowKey, RunKey, split_stages
from pipeline_lib.metrics.definition import FRONT_GAP
from pipeline_lib.models.settings import ModelSettings, ScratchModel
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.stages.base import STAGES
from pipeline_lib.study.attacks import Attacked, Attacks, attack_stages
from pipeline_lib.study.comparisons import Comparison, comparison_faults, stage_faults
from pipeline_lib.study.draws import draw_faults, drawn, drawn_name, parted
from pipeline_lib.study.evaluation import Evaluation, Trajectory, fitting, split_faults, unfit_faults
from pipeline_lib.study.resources import Resources, Tracking
from pipeline_lib.study.runs import Run, RunBlock, changed, expand, sharding_faults
from pipeline_lib.study.stages import applied, label_faults, place_faults
from pipeline_lib.study.tune import Families, Tune, seed_faults, tune_faults
from pipeline_lib.tasks import sources
from pipeline_lib.training.settings import FineTune, Unlearn

if TYPE_CHECKING:
    from pipeline_lib.objectives import Objective
    from pipeline_lib.optimizers import Optimizer
    from pipeline_lib.stages.base import Stage as StageSettings
    from pipeline_lib.tasks.base import TaskSettings
else:  # the union of all kinds of each
    Objective, Optimizer, StageSettings = OBJECTIVES.union(), OPTIMIZERS.union(), STAGES.union()
    TaskSettings = Annotated[Union[tuple(sources().values())], Field(discriminator="source")]  # noqa: UP007

B = TypeVar("B", Evaluation, FineTune)
FAMILIES: dict[str, Family[Any]] = {"objectives": OBJECTIVES, "optimizers": OPTIMIZERS, "stages": STAGES}

# family or field -> names that have a meaning of their own in the results
RESERVED = {
    "suite": ("reference",),
    "objectives": ANCHORS,
    "optimizers": (NO_OPTIMIZER,),
}


class Suite(Block):
    """One study."""

    suite: Name
    seeds: list[CountOrZero] = Field([0], min_length=1)
    retrained_seeds: list[CountOrZero] = Field(
        [],
        description="Further seeds of `retrained` alone: with them the study says how far two models "
        "that never "
        "saw the data are apart, and so which row is like one of them",
    )
    models: dict[Name, ModelSettings] = Field(min_length=1)
    tasks: dict[Name, TaskSettings] = Field(min_length=1)
    finetune: FineTune = FineTune()
    unlearn: Unlearn = Unlearn()
    objectives: dict[Name, Objective] = Field(min_length=1)
    optimizers: dict[Name, Optimizer] = Field(min_length=1)
    runs: Annotated[list[RunBlock], Field(min_length=1)] | None = Field(
        None, description="Default: every objective with every optimiser"
    )
    tune: Tune | None = Field(None, description="Default: settings are as written")
    attacks: Attacks | None = Field(
        None, exclude=True, description="Does it stay forgotten? Written out, these are `stages`"
    )
    stages: dict[Name, StageSettings] = Field(
        {},
        description="What is done to models afterwards, by label; each stage makes new models",
        exclude_if=lambda stages: not stages,
    )
    evaluation: Evaluation = Evaluation()
    comparisons: Annotated[list[Comparison], Field(min_length=1)] | None = Field(
        None, description="Default: every second-order with every first-order optimiser"
    )
    resources: Resources = Resources()
    # Not part of the study, so it is left out of the suite that is kept with the results.
    tracking: Tracking | None = Field(None, exclude=True, description="Default: no experiment tracker")

    @model_validator(mode="before")
    @classmethod
    def _kinds_from_labels(cls, value: Any) -> Any:
        """`adamw: {...}` means `adamw: {kind: adamw, ...}`; an empty block means all defaults."""
        if not isinstance(value, dict):
            return value
        value = dict(value)
        for family, methods in FAMILIES.items():
            if isinstance(value.get(family), dict):
                value[family] = {k: _with_kind(k, v, methods.kinds()) for k, v in value[family].items()}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        runs, wrong = self._expanded()
        misaimed: list[Fault] = []
        if self.attacks is not None and not wrong:
            aimed = Attacked(self.tasks, self.models, self.rows(), self.stages)
            attacked, misaimed = attack_stages(self.attacks, aimed)
            self.stages.update(attacked)  # a kept suite spells them out
        trained = [run for run in runs if run.order != "none"]
        pairs = None if wrong else {(run.method, run.optimizer) for run in trained}
        others = (*map(self.finetune_of, self.tasks), *(stage.training() for stage in self.stages.values()))
        faults = [
            *seed_faults(self.seeds, "seeds"),
            *self._retrained_faults(),
            *self._label_faults(),
            *self._task_faults(),
            *(wrong or self._unused_faults(runs)),
            *self._run_faults(runs),
            *comparison_faults(self.comparisons, self.optimizers, pairs),
            *self._tune_faults([] if wrong else trained),
            *misaimed,
            *([] if wrong else self._stage_faults()),
            *sharding_faults(self.resources, runs, filter(None, others)),
        ]
        if faults:
            raise Faults(dict.fromkeys(faults))
        return self

    def run_table(self) -> list[Run]:
        """All unlearning runs in the suite's order: block, task, model, method, optimizer, seed."""
        return [replace(run, seed=seed) for run in self._expanded()[0] for seed in self.seeds]

    def matched_table(self) -> list[Run]:
        """The runs that are made again, up to where they cross the utility of comparison."""
        return [replace(run, matched=True) for run in self.run_table() if self._matched(run)]

    def judged(self, run: Run) -> Trajectory | None:
        """How the run is judged on its way; None where that is off or there is no way."""
        return self.path_of(run.task, run.optimizer_settings)

    def path_of(self, task: str, optimizer: Optimizer | None) -> Trajectory | None:
        """The same of any run with this optimiser."""
        steps = optimizer is not None and not optimizer.one_shot
        return self.evaluation_of(task).trajectory if steps else None

    def _matched(self, run: Run) -> bool:
        judged = self.judged(run)
        return judged is not None and judged.matched

    def learned_groups(self, task: str) -> dict[str, float]:
        """Label of a stage -> how many of the task's forget groups it teaches, or which share of them.

        Only those that teach some.
        """
        found = {label: stage.learned_groups(task) for label, stage in self.stages.items()}
        return {label: groups for label, groups in found.items() if groups}

    def rows(self) -> list[RowKey]:
        """All that is trained, without seeds: the anchors of each task and model in use, then the runs."""
        runs = self._expanded()[0]
        used = {(run.task, run.model) for run in runs}
        places = [(task, model) for task in self.tasks for model in self.models if (task, model) in used]
        anchors = [
            RowKey(*place, anchor, NO_OPTIMIZER)
            for place in places
            for anchor in (*self.anchors(place[0]), *([BASE] if self.has_base(*place) else []))
        ]
        again = [replace(run, matched=True) for run in runs if self._matched(run)]
        return [*anchors, *dict.fromkeys(run.row for run in (*runs, *again))]

    def seeds_of(self, row: RowKey) -> list[int]:
        """The seeds of a row's models. A base does not depend on any: it stands beside the lowest one.

        Stages have every seed of `retrained`, unless they mix it with a model that has no such seed.
        """
        if row.anchor and row.method == BASE:
            return [min(self.seeds)]
        stages = [self.stages[label] for label in split_stages(row.after)[1].split("/") if label]
        if row.method != "retrained" or any(stage.partners() for stage in stages):
            return list(self.seeds)
        chosen = [stage.retrained_seeds for stage in stages if stage.retrained_seeds is not None]
        further = [seed for seed in self.retrained_seeds if all(seed in seeds for seeds in chosen)]
        return [*self.seeds, *further]

    def anchors(self, task: str) -> tuple[str, ...]:
        """The fine-tuned models that others are compared with; not every task can have a `retrained`."""
        return FINE_TUNED if self.settings_of(task).has_retrained() else FINE_TUNED[:1]

    def has_base(self, task: str, model: str) -> bool:
        """Whether the model before fine-tuning is evaluated: it is pretrained, and the task teaches it."""
        settings = self.models[model]
        pretrained = not isinstance(settings, ScratchModel) or settings.pretrain is not None
        return pretrained and self.settings_of(task).is_taught() and self.evaluation_of(task).base

    def beside(self, row: RowKey, seed: int) -> RunKey:
        """The model of a row that stands beside the others of a seed."""
        seeds = self.seeds_of(row)
        return row.seeded(seed if seed in seeds else seeds[0])

    def settings_of(self, task: str) -> TaskSettings:
        """The settings of a task by its name, be it one of `tasks` or one that only tuning works on."""
        label, draw = parted(task)
        return self.tasks[label] if draw is None else drawn(self.tasks[label], draw)

    def tuned_on(self, task: str) -> str:
        """The name of the task on whose forget groups the rows of `task` are tuned."""
        draw = None if self.tune is None else self.tune.forget_draw
        return task if draw is None else drawn_name(task, draw)

    def _expanded(self) -> tuple[list[Run], list[Fault]]:
        blocks = self.runs or [RunBlock(methods=list(self.objectives), optimizers=list(self.optimizers))]
        return expand(blocks, self.tasks, self.models, self.objectives, self.optimizers, self.unlearn)

    def _unused_faults(self, runs: Sequence[Run]) -> Iterator[Fault]:
        """Tasks and models that no run block names."""
        for family, used in (("tasks", {r.task for r in runs}), ("models", {r.model for r in runs})):
            for label in (label for label in getattr(self, family) if label not in used):
                yield f"{family}.{label}", "has no run; name it in a block of `runs`, or leave it out"

    def _run_faults(self, runs: Sequence[Run]) -> Iterator[Fault]:
        """Objectives that need a layer the model lacks, or alternative answers the task lacks.

        Layers are checked only where the suite alone tells how many there are.
        """
        for run in runs:
            model, layer = self.models[run.model], getattr(run.objective, "layer", -1)
            if isinstance(model, ScratchModel) and layer >= model.layers:
                yield (
                    f"objectives.{run.method}.layer",
                    f"found {layer}; the model {run.model!r} has {model.layers} layers, counted from 0",
                )
            yield from self._path_faults(run)
            if run.objective.teaches == "records" and not self.tasks[run.task].has_alternatives():
                kinds = OBJECTIVES.kinds().items()
                refusing = [
                    kind for kind, found in kinds if found.model_construct(kind=kind).teaches == "refusals"
                ]
                yield (
                    f"objectives.{run.method}",
                    f"the task {run.task!r} brings no alternative answers; choose one that teaches refusals "
                    f"({', '.join(sorted(refusing))}), or leave the task out of its runs",
                )

    def _path_faults(self, run: Run) -> Iterator[Fault]:
        """Why the run cannot be judged on its way, where that is asked for."""
        if self.evaluation_of(run.task).trajectory is None or run.optimizer_settings is None:
            return
        where = "evaluation.trajectory"
        if run.unlearn.decay != "constant" and not run.optimizer_settings.one_shot:
            yield (
                where,
                f"needs `unlearn.decay: constant`, found {run.unlearn.decay!r}: with a falling rate the "
                "model after a step is not what a run of so many steps, with the same warm-up steps, "
                "would leave",
            )
        if self._matched(run) and not self.settings_of(run.task).has_retrained():
            yield (
                f"{where}.matched",
                f"the task {run.task!r} has no `retrained`, to which the least gap is; leave it out",
            )
        if run.unlearn.weights != "fp32":
            yield (
                where,
                f"needs `unlearn.weights: fp32`, found {run.unlearn.weights!r}: scores are those of fp32",
            )
        if run.objective.needs_original_weights and self.judged(run) is not None:
            yield (
                where,
                f"{run.method} changes the weights once more after its last step, so that the models on its "
                f"way are not what it makes; leave it out of the runs of {run.task!r}, or set `evaluation: "
                "{trajectory: null}` in the block of that task",
            )
        if self.resources.in_all > 1:
            yield where, "needs `resources.processes: 1`: a run in several processes is not judged on its way"

    def _tune_faults(self, runs: Sequence[Run]) -> list[Fault]:
        if self.tune is None:
            return []
        families: Families = {"objectives": self.objectives, "optimizers": self.optimizers}
        found = tune_faults(self.tune, [*self.seeds, *self.retrained_seeds], self.runs or [], runs, families)
        tuned = {task: self.tasks[task] for task in dict.fromkeys(run.task for run in runs)}
        found += self._select_faults(self.tune, list(tuned))
        if self.tune.select.forget in ("gap", FRONT_GAP):
            cure = "has no `retrained` to be compared with; leave `forget` out, and it selects by probability"
            found += [
                ("tune.select.forget", f"the task {task!r} {cure}")
                for task, settings in tuned.items()
                if not settings.has_retrained()
            ]
        return [*found, *draw_faults(self.tune.forget_draw, tuned)]

    def _select_faults(self, tune: Tune, tasks: Sequence[str]) -> Iterator[Fault]:
        """A choice by what nobody measures."""
        where, select = "tune.select.forget", tune.select
        for task in tasks:
            path = self.evaluation_of(task).trajectory
            if path is None and select.forget == FRONT_GAP:
                found = f"found {FRONT_GAP!r}; runs of {task} are not judged on their way"
                yield where, f"{found}; set `evaluation.trajectory`, or leave `forget` out"

    def _stage_faults(self) -> Iterator[Fault]:
        yield from label_faults(self.stages, self.objectives)
        rows = self.rows()
        staged, faults = applied(self.stages, rows)
        yield from faults
        if not faults:
            yield from stage_faults(self.comparisons, [*rows, *(row.key for row in staged)])
        yield from place_faults(self.stages, self.models, self.tasks, self.resources.in_all)

    def _retrained_faults(self) -> Iterator[Fault]:
        where = "retrained_seeds"
        yield from seed_faults(self.retrained_seeds, where)
        for seed in self.retrained_seeds:
            if seed in self.seeds:
                yield (
                    where,
                    f"found {seed}, which is in `seeds`; every one of these has a `retrained` already",
                )
        for label, stage in self.stages.items():
            if stage.retrained_seeds is not None and not any(
                n.startswith("retrained") for n in stage.of or ()
            ):
                yield (
                    f"stages.{label}.{where}",
                    "goes with `retrained` in `of`; add it there, or leave this out",
                )
            for seed in stage.retrained_seeds or ():
                if seed not in (*self.seeds, *self.retrained_seeds):
                    known = ", ".join(map(str, self.retrained_seeds)) or "none"
                    yield f"stages.{label}.{where}", f"found {seed}; the suite's `{where}` are: {known}"
        if self.retrained_seeds and not any(task.has_retrained() for task in self.tasks.values()):
            yield where, "no task of this suite can have a `retrained` model; leave it out"

    def _label_faults(self) -> Iterator[Fault]:
        if self.suite.lower() in RESERVED["suite"]:
            yield "suite", f"{self.suite!r} is reserved for results that are kept in git; choose another name"
        for family in ("models", "tasks", *FAMILIES):
            spelled: dict[str, str] = {}
            for label, settings in getattr(self, family).items():
                where, lower = f"{family}.{label}", label.lower()
                if lower in RESERVED.get(family, ()):
                    yield where, f"{label!r} has a meaning of its own in the results; choose another label"
                if lower in spelled:
                    yield (
                        where,
                        f"differs from {spelled[lower]!r} in case alone, and some disks mix these up",
                    )
                spelled[lower] = label
                if family in FAMILIES and label in FAMILIES[family].kinds() and settings.kind != label:
                    yield where, f"names a kind, but is of kind {settings.kind!r}; choose another label"

    def evaluation_of(self, task: str) -> Evaluation:
        """What is measured on the models of this task."""
        return fitting(self._for_task(self.evaluation, task, []), self.settings_of(task).evaluated_splits())

    def finetune_of(self, task: str) -> FineTune:
        """How the models before unlearning of this task are made."""
        return self._for_task(self.finetune, task, [])

    def resolved(self) -> dict[str, Any]:
        """The suite as plain values, every default and every task's own blocks spelled out."""
        values = self.model_dump(mode="json")
        for task, settings in values["tasks"].items():
            settings["evaluation"] = self.evaluation_of(task).model_dump(mode="json")
            settings["finetune"] = self.finetune_of(task).model_dump(mode="json")
        return values

    def _for_task(self, block: B, task: str, faults: list[Fault]) -> B:
        """The block with the changes that the task makes to the field of its name."""
        name = "evaluation" if isinstance(block, Evaluation) else "finetune"
        return changed(block, getattr(self.settings_of(task), name), f"tasks.{task}.{name}", faults) or block

    def _task_faults(self) -> Iterator[Fault]:
        """Faults in the changes that a task makes, and evaluations that ask for splits it does not have."""
        everywhere = {name for task in self.tasks.values() for name in task.evaluated_splits()}
        yield from split_faults(self.evaluation, Evaluation.model_fields, "evaluation", everywhere, "no task")
        for task, settings in self.tasks.items():
            faults: list[Fault] = []
            evaluation = self._for_task(self.evaluation, task, faults)
            self._for_task(self.finetune, task, faults)
            yield from faults
            where, known = f"tasks.{task}.evaluation", settings.evaluated_splits()
            yield from split_faults(evaluation, settings.evaluation, where, known, "this task never")
            yield from unfit_faults(evaluation, settings, task)


def _with_kind(label: Any, block: Any, kinds: Collection[str]) -> Any:
    block = {} if block is None else block
    if isinstance(block, dict) and "kind" not in block and label in kinds:
        return {"kind": label, **block}
    return block
