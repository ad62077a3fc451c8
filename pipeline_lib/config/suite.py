"""The suite: one typed description of a whole study, and the table of runs it stands for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from pipeline_lib.config.base import Block, Count, Name, NonNegative, Positive, Share, suggestion
from pipeline_lib.config.components import (
    OBJECTIVE_KINDS,
    OPTIMIZER_KINDS,
    SECOND_ORDER,
    ModelSettings,
    ObjectiveSettings,
    OptimizerSettings,
    TaskSettings,
)

_OBJECTIVE: TypeAdapter[Any] = TypeAdapter(ObjectiveSettings)
_OPTIMIZER: TypeAdapter[Any] = TypeAdapter(OptimizerSettings)


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
    max_records: Count | None = Field(None, description="At most this many a split, spread over its groups")
    max_tokens_per_batch: Count = 4096
    compute: Literal["fp32", "bf16"] = "fp32"


class Resources(Block):
    """What one job asks for."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: Annotated[int, Field(ge=0)] = Field(0, description="GPUs a training or evaluation job requests")
    threads: Count = 1
    memory_mb: Count = 2000
    minutes: Count = 60
    keep_models: bool = Field(True, description="False deletes unlearned models once they are evaluated")


class RunBlock(Block):
    """A grid of runs, with settings that hold for this grid only."""

    methods: list[str] = Field(min_length=1)
    optimizers: list[str] = Field(min_length=1)
    objective: dict[str, Any] = Field({}, description="Overrides of the objectives' settings")
    optimizer: dict[str, Any] = Field({}, description="Overrides of the optimisers' settings")
    unlearn: dict[str, Any] = Field({}, description="Overrides of the block `unlearn`")


@dataclass(frozen=True)
class Run:
    """One row of the run table, every setting resolved."""

    task: str
    model: str
    method: str
    optimizer: str
    seed: int
    objective: dict[str, Any]
    optimizer_settings: dict[str, Any]
    unlearn: dict[str, Any]

    @property
    def order(self) -> str:
        """FO = first-order, SO = second-order optimiser."""
        return "SO" if self.optimizer_settings["kind"] in SECOND_ORDER else "FO"


class Suite(Block):
    """One study."""

    suite: Name
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field([0], min_length=1)
    models: dict[Name, ModelSettings] = Field(min_length=1)
    tasks: dict[Name, TaskSettings] = Field(min_length=1)
    finetune: FineTune = FineTune()
    unlearn: Training = Training()
    objectives: dict[Name, ObjectiveSettings] = Field(min_length=1)
    optimizers: dict[Name, OptimizerSettings] = Field(min_length=1)
    runs: list[RunBlock] | None = Field(None, description="Default: every objective with every optimiser")
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()

    @model_validator(mode="before")
    @classmethod
    def _kinds_from_labels(cls, value: Any) -> Any:
        """`adamw: {...}` means `adamw: {kind: adamw, ...}`; an empty block means all defaults."""
        if not isinstance(value, dict):
            return value
        value = dict(value)
        for family, kinds in (("objectives", OBJECTIVE_KINDS), ("optimizers", OPTIMIZER_KINDS)):
            if not isinstance(value.get(family), dict):
                continue
            value[family] = {k: _with_kind(family, k, v, kinds) for k, v in value[family].items()}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        if len(set(self.seeds)) != len(self.seeds):
            raise PydanticCustomError("seeds", "seeds: the same seed stands there twice")
        for label in self.objectives:
            if label in ("original", "retrained"):
                raise PydanticCustomError(
                    "label", "objectives.{label}: this name is reserved", {"label": label}
                )
        seen = set()
        for run in self._runs_of_one_seed():
            key = (run.task, run.model, run.method, run.optimizer)
            if key in seen:
                raise PydanticCustomError(
                    "runs", "runs: {key} is described twice", {"key": f"{run.method} x {run.optimizer}"}
                )
            seen.add(key)
        return self

    def run_table(self) -> list[Run]:
        """All unlearning runs: task x model x (method, optimizer) x seed, in a fixed order."""
        return [Run(**{**vars(run), "seed": seed}) for run in self._runs_of_one_seed() for seed in self.seeds]

    def _runs_of_one_seed(self) -> Iterator[Run]:
        blocks = self.runs or [RunBlock(methods=list(self.objectives), optimizers=list(self.optimizers))]
        for number, block in enumerate(blocks):
            for task in self.tasks:
                for model in self.models:
                    for method in block.methods:
                        for optimizer in block.optimizers:
                            yield self._resolve(f"runs.{number}", block, task, model, method, optimizer)

    def _resolve(
        self, where: str, block: RunBlock, task: str, model: str, method: str, optimizer: str
    ) -> Run:
        def merged(adapter: TypeAdapter[Any], base: Block, changes: dict[str, Any]) -> dict[str, Any]:
            return adapter.validate_python({**base.model_dump(), **changes}).model_dump()

        objective = _lookup(f"{where}.methods", method, self.objectives)
        settings = _lookup(f"{where}.optimizers", optimizer, self.optimizers)
        return Run(
            task=task,
            model=model,
            method=method,
            optimizer=optimizer,
            seed=self.seeds[0],
            objective=merged(_OBJECTIVE, objective, block.objective),
            optimizer_settings=merged(_OPTIMIZER, settings, block.optimizer),
            unlearn=merged(TypeAdapter(Training), self.unlearn, block.unlearn),
        )


def _with_kind(family: str, label: Any, block: Any, kinds: tuple[str, ...]) -> Any:
    block = {} if block is None else block
    if not isinstance(block, dict) or "kind" in block:
        return block
    if label not in kinds:
        raise PydanticCustomError(
            "kind",
            "{family}.{label}: no `kind` given and {label} is not one; {hint}",
            {"family": family, "label": str(label), "hint": suggestion(str(label), kinds)},
        )
    return {"kind": label, **block}


def _lookup(where: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise PydanticCustomError(
            "unknown_name",
            "{where}: unknown name {name}; {hint}",
            {"where": where, "name": repr(name), "hint": suggestion(name, known)},
        )
    return known[name]
