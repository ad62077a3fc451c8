"""The suite: one typed description of a whole study, and the table of runs it stands for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline_lib.config.base import (
    Block,
    Count,
    CountOrZero,
    Fault,
    Faults,
    Name,
    NonNegative,
    Positive,
    Share,
    Switch,
    suggestion,
)
from pipeline_lib.config.components import (
    OBJECTIVE_KINDS,
    OPTIMIZER_KINDS,
    ModelSettings,
    ObjectiveSettings,
    OptimizerSettings,
    TaskSettings,
)
from pipeline_lib.config.runs import Run, RunBlock, expand

KINDS = {"objectives": OBJECTIVE_KINDS, "optimizers": OPTIMIZER_KINDS}

# family or field -> names that have a meaning of their own among the results
RESERVED = {
    "suite": ("reference",),
    "objectives": ("original", "retrained"),
    "optimizers": ("none",),
}


class Training(Block):
    """How long and in what pieces a model is trained."""

    epochs: Positive = Field(5.0, description="Of the forget set; of the training data when fine-tuning")
    batch_size: Count = 8
    accumulation: Count = 1
    warmup: Share = 0.0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    max_grad_norm: Positive = 1.0
    compute: Literal["fp32", "bf16"] = Field("fp32", description="Parameters and states stay fp32")
    checkpoint_seconds: NonNegative = Field(300.0, description="Time between checkpoints; 0 = every step")


class FineTune(Training):
    """How the target and the retrained model are made, with AdamW."""

    epochs: Positive = 5.0
    learning_rate: Positive = 1e-5
    weight_decay: NonNegative = 0.0


class Evaluation(Block):
    """What is measured, and with how many records."""

    max_new_tokens: Count = 64
    max_records: dict[Name, Count] = Field(
        {}, description="Split -> at most this many of its records, spread over its groups"
    )
    max_tokens_per_batch: Count = 4096
    compute: Literal["fp32", "bf16"] = "fp32"


class Resources(Block):
    """What one job asks for."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: CountOrZero = Field(0, description="GPUs a training or evaluation job requests")
    threads: Count = 1
    memory_mb: Count = 2000
    minutes: Count = 60
    keep_models: Switch = Field(True, description="False deletes unlearned models once they are evaluated")


class Suite(Block):
    """One study."""

    suite: Name
    seeds: list[CountOrZero] = Field([0], min_length=1)
    models: dict[Name, ModelSettings] = Field(min_length=1)
    tasks: dict[Name, TaskSettings] = Field(min_length=1)
    finetune: FineTune = FineTune()
    unlearn: Training = Training()
    objectives: dict[Name, ObjectiveSettings] = Field(min_length=1)
    optimizers: dict[Name, OptimizerSettings] = Field(min_length=1)
    runs: Annotated[list[RunBlock], Field(min_length=1)] | None = Field(
        None, description="Default: every objective with every optimiser"
    )
    evaluation: Evaluation = Evaluation()
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
        ]
        if faults:
            raise Faults(dict.fromkeys(faults))
        return self

    def run_table(self) -> list[Run]:
        """All unlearning runs in the suite's order: block, task, model, method, optimizer, seed."""
        return [replace(run, seed=seed) for run in self._expanded()[0] for seed in self.seeds]

    def _expanded(self) -> tuple[list[Run], list[Fault]]:
        blocks = self.runs or [RunBlock(methods=list(self.objectives), optimizers=list(self.optimizers))]
        places = [(task, model) for task in self.tasks for model in self.models]
        return expand(blocks, places, self.objectives, self.optimizers, self.unlearn)

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
        for name in self.evaluation.max_records:
            if name not in known:
                where = f"evaluation.max_records.{name}"
                yield where, f"no task evaluates such a split; {suggestion(name, known)}"


def _with_kind(label: Any, block: Any, kinds: tuple[str, ...]) -> Any:
    block = {} if block is None else block
    if isinstance(block, dict) and "kind" not in block and label in kinds:
        return {"kind": label, **block}
    return block
