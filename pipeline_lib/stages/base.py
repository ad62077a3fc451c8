"""What every stage declares, receives and returns. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, StringConstraints

from pipeline_lib.core.blocks import PATTERNS, CountOrZero, Fault, Name, Switch
from pipeline_lib.core.families import Family, Method
from pipeline_lib.core.runs import NO_OPTIMIZER, RowKey

if TYPE_CHECKING:
    import torch

    from pipeline_lib.distributed.group import Group
    from pipeline_lib.models.prompt import PromptFormat
    from pipeline_lib.training.loop import Judge
    from pipeline_lib.training.settings import FineTune

# METHOD, METHOD+OPTIMIZER or the label of a stage, and what was done afterwards: NPO+adamw/other/average
_REFERENCE = r"^[A-Za-z0-9_.-]+(\+[A-Za-z0-9_.-]+)?(/[A-Za-z0-9_-]+)*$"
PATTERNS[_REFERENCE] = "expected the name of a model, such as NPO+adamw, retrained or NPO+adamw/other"
Reference = Annotated[str, StringConstraints(pattern=_REFERENCE, max_length=300)]


SELECTED = ("of", "tasks", "models", "retrained_seeds")  # settings that say what a stage is made of


def name_of(row: RowKey) -> str:
    """How a stage names a row of its task and model."""
    name = row.method if row.optimizer == NO_OPTIMIZER else f"{row.method}+{row.optimizer}"
    return f"{name}/{row.after}" if row.after else name


@dataclass(frozen=True)
class Loaded:
    """A finished model; `info`: the content of its run.json."""

    model: Any
    tokenizer: Any
    prompt_format: PromptFormat
    info: dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What a stage receives.

    `first`: the first of the models that it starts from, on the device; `others`: the folders of the rest,
    or of its partners.
    `data`: the folder of the prepared task. `folder`: a place for checkpoints; those with another `mark`
    belong to other settings or code. `judge`: of a stage that is judged on its way, from the number of its
    steps and the share of them that are warm-up to what the training loop asks after each step.
    """

    first: Loaded
    others: Sequence[Path]
    data: Path
    seed: int
    max_length: int
    folder: Path
    mark: str
    judge: Callable[[int, float], Judge] | None = None


@dataclass(frozen=True)
class Made:
    """What a stage returns, beside its first parent, which it changes in place.

    `read`: the splits of the task's data that it read. `log`: one row for each step, as in training.
    `status`: "ok", or "diverged" at `diverged_step`. `changed`: what run.json says of the new weights.
    """

    read: tuple[str, ...] = ()
    log: list[dict[str, Any]] = field(default_factory=list)
    status: str = "ok"
    diverged_step: int | None = None
    steps: int = 0
    train_time_s: float = 0.0
    trained_parameters: int = 0
    changed: dict[str, Any] = field(default_factory=dict)


class Stage(Method):
    """A step from one or several models to a new one. Subclasses add `kind: Literal["<name>"]` and settings.

    A stage of one model makes a new row from each model that `of` names, with its label in the column
    `after`. A stage of several models makes one row, with its label as method.
    """

    several: ClassVar[bool] = False
    asks: ClassVar[bool] = False  # it makes no model: its row is the parent, asked in another way

    of: Annotated[list[Reference], Field(min_length=1)] | None = Field(
        None,
        description="Models it starts from: METHOD+OPTIMIZER, original, retrained, base, a method that "
        "takes no step, the label of a stage, or one of these with what was done afterwards, as in "
        "NPO+adamw/other. Default: every unlearned model",
    )
    tasks: list[Name] | None = Field(None, min_length=1, description="Default: every task")
    models: list[Name] | None = Field(None, min_length=1, description="Default: every model")
    retrained_seeds: list[CountOrZero] | None = Field(
        None,
        description="Which further seeds of `retrained` go through it; default: all `retrained_seeds`",
        exclude_if=lambda seeds: seeds is None,
    )

    likelihood_only: Switch = Field(
        False,
        description="Judge the models after it by the likelihood of the true answers alone, which takes a "
        "fraction of the time: no answers are generated, no toxicity is measured",
        exclude_if=lambda alone: not alone,
    )

    def settings(self) -> dict[str, Any]:
        """The stage's own settings, without the selection of models and how these are judged."""
        return self.model_dump(exclude={*SELECTED, "likelihood_only"})

    def data_of(self, task: str) -> str:
        """The task whose data it reads, where it is applied to a model of `task`."""
        return task

    def draws_only(self) -> bool:
        """Whether it asks as always and draws answers: no likelihood differs from that of its parent."""
        return False

    def partners(self) -> dict[str, Reference]:
        """Further models that a stage of one model reads beside each of `of`, by the setting naming it."""
        return {}

    def splits(self) -> tuple[str, ...]:
        """The splits of those data that it learns."""
        return ()

    def first_groups(self) -> float | None:
        """How many groups of its split, the first ones, it learns, or which share; None: all of them."""
        return None

    def learned_groups(self, task: str) -> float:
        """How many of the task's forget groups, the first ones, it learns while the others judge.

        A whole number, or a share of them.
        """
        return 0

    def judged(self) -> int | None:
        """After how many of its steps the model is judged by likelihood alone; None: after none."""
        return None

    def training(self) -> FineTune | None:
        """How it trains, for the plan; None where it takes no gradient."""
        return None

    def faults(self, parents: int) -> Iterator[Fault]:
        """Field and message of each setting that does not fit a model made from this many parents."""
        yield from ()

    def on(self, device: torch.device, group: Group) -> Self:
        """The stage with the settings that only the machine of the job decides, such as `compute: auto`."""
        return self

    def make(self, work: Work) -> Made:
        """Change the first parent's model into the new one."""
        raise TypeError(f"{type(self).__name__} does not say how its model is made")


STAGES = Family("pipeline_lib.stages", Stage)
