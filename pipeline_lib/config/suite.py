"""The suite: one typed description of a whole study, and the table of runs it stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline_lib.blocks import (
    Block,
    CountOrZero,
    Fault,
    Faults,
    Name,
    suggestion,
)
from pipeline_lib.config.comparisons import Comparison, comparison_faults
from pipeline_lib.config.evaluation import Evaluation
from pipeline_lib.config.jobs import FineTune, Resources, Unlearn
from pipeline_lib.config.methods import (
    OBJECTIVE_KINDS,
    OPTIMIZER_KINDS,
    ObjectiveSettings,
    OptimizerSettings,
)
from pipeline_lib.config.models import ModelSettings
from pipeline_lib.config.runs import Run, RunBlock, expand
from pipeline_lib.config.tasks import TaskSettings
from pipeline_lib.config.tune import Tune, tune_faults
from pipeline_lib.tasks.base import HOLDOUT

KINDS = {"objectives": OBJECTIVE_KINDS, "optimizers": OPTIMIZER_KINDS}

# family or field -> names that have a meaning of their own among the results
RESERVED = {
    "suite": ("reference",),
    "objectives": ("original", "retrained"),
    "optimizers": ("none",),
}


class Suite(Block):
    """One study."""

    suite: Name
    seeds: list[CountOrZero] = Field([0], min_length=1)
    models: dict[Name, ModelSettings] = Field(min_length=1)
    tasks: dict[Name, TaskSettings] = Field(min_length=1)
    finetune: FineTune = FineTune()
    unlearn: Unlearn = Unlearn()
    objectives: dict[Name, ObjectiveSettings] = Field(min_length=1)
    optimizers: dict[Name, OptimizerSettings] = Field(min_length=1)
    runs: Annotated[list[RunBlock], Field(min_length=1)] | None = Field(
        None, description="Default: every objective with every optimiser"
    )
    tune: Tune | None = Field(None, description="Default: settings are as written")
    evaluation: Evaluation = Evaluation()
    comparisons: Annotated[list[Comparison], Field(min_length=1)] | None = Field(
        None, description="Default: every second-order with every first-order optimiser"
    )
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def _kinds_from_labels(cls, value: Any) -> Any:
        """`adamw: {...}` means `adamw: {kind: adamw, ...}`; an empty block means all defaults."""
        if not isinstance(value, dict):
            return value
        value = dict(value)
        for family, kinds in KINDS.items():
            if isinstance(value.get(family), dict):
                value[family] = {k: _with_kind(k, v, kinds) for k, v in value[family].items()}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        faults = [
            *self._seed_faults(),
            *self._label_faults(),
            *self._split_faults(),
            *self._expanded()[1],
            *self._comparison_faults(),
            *self._tune_faults(),
        ]
        if faults:
            raise Faults(dict.fromkeys(faults))
        return self

    @property
    def families(self) -> dict[str, Mapping[str, Block]]:
        """Settings of every label, by the name of the block that holds them."""
        return {"objectives": self.objectives, "optimizers": self.optimizers}

    def run_table(self) -> list[Run]:
        """All unlearning runs in the suite's order: block, task, model, method, optimizer, seed."""
        return [replace(run, seed=seed) for run in self._expanded()[0] for seed in self.seeds]

    def _expanded(self) -> tuple[list[Run], list[Fault]]:
        blocks = self.runs or [RunBlock(methods=list(self.objectives), optimizers=list(self.optimizers))]
        places = [(task, model) for task in self.tasks for model in self.models]
        return expand(blocks, places, self.objectives, self.optimizers, self.unlearn)

    def _comparison_faults(self) -> Iterator[Fault]:
        runs, faults = self._expanded()
        pairs = None if faults else {(run.method, run.optimizer) for run in runs}
        return comparison_faults(self.comparisons, self.optimizers, pairs)

    def _tune_faults(self) -> list[Fault]:
        if self.tune is None:
            return []
        runs, faults = self._expanded()
        return tune_faults(self.tune, self.seeds, self.runs or [], [] if faults else runs, self.families)

    def _seed_faults(self) -> Iterator[Fault]:
        for seed, times in Counter(self.seeds).items():
            if times > 1:
                yield "seeds", f"the seed {seed} stands there {times} times"

    def _label_faults(self) -> Iterator[Fault]:
        if self.suite.lower() in RESERVED["suite"]:
            yield "suite", f"{self.suite!r} is reserved for results that are kept in git; choose another name"
        for family in ("models", "tasks", "objectives", "optimizers"):
            spelled: dict[str, str] = {}
            for label, settings in getattr(self, family).items():
                where, lower = f"{family}.{label}", label.lower()
                if lower in RESERVED.get(family, ()):
                    yield where, f"{label!r} has a meaning of its own in the results; choose another label"
                if lower in spelled:
                    yield where, f"differs from {spelled[lower]!r} in case alone, and some disks mix these up"
                spelled[lower] = label
                if label in KINDS.get(family, ()) and settings.kind != label:
                    yield where, f"names a kind, but is of kind {settings.kind!r}; choose another label"

    def _split_faults(self) -> Iterator[Fault]:
        known = {name for task in self.tasks.values() for name in task.evaluated_splits()}
        evaluation = self.evaluation
        for name in evaluation.max_records:
            if name not in known:
                where = f"evaluation.max_records.{name}"
                yield where, f"no task evaluates such a split; {suggestion(name, known)}"
        answered = known - {HOLDOUT}
        if evaluation.samples is not None:
            for i, name in enumerate(evaluation.samples.splits):
                if name not in answered:
                    where = f"evaluation.samples.splits.{i}"
                    yield where, f"no task has such a split with answers; {suggestion(name, answered)}"
        if evaluation.grad_norm and HOLDOUT not in known:
            yield (
                "evaluation.grad_norm",
                "membership inference needs records that no model learns, and no task holds any out; set "
                "`holdout_authors` (or `holdout`) of a task",
            )


def _with_kind(label: Any, block: Any, kinds: tuple[str, ...]) -> Any:
    block = {} if block is None else block
    if isinstance(block, dict) and "kind" not in block and label in kinds:
        return {"kind": label, **block}
    return block
