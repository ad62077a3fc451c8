"""How a model made from scratch is pretrained, as a suite says it. Readable without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import (
    Block,
    Count,
    CountOrZero,
    Fault,
    Faults,
    Fraction,
    HubId,
    InsidePath,
    NonNegative,
    PathText,
    Positive,
    Revision,
    Share,
)
from pipeline_lib.core.locate import expand, hub_file


class RawText(Block):
    """Text to learn: of this machine, or one file of a data set of the hub at a pinned revision.

    Plain text, or documents: JSON lines or Parquet with a field `text`. Each may be packed (.gz, .xz).
    """

    path: PathText | None = Field(
        None, description="A file, or a folder of which every such file is read. `$VARIABLES` are expanded"
    )
    hub: HubId | None = Field(None, description="A data set of the hub; goes with `revision` and `file`")
    revision: Revision | None = None
    file: InsidePath | None = Field(None, description="Name of the file in the data set")
    documents: Count | None = Field(
        None, description="Only so many of the first documents; default: all of them"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> RawText:
        given = [name for name in ("hub", "revision", "file") if getattr(self, name) is not None]
        if (self.path is None) == (not given):
            raise Faults([("path", "give either `path`, or `hub` with `revision` and `file`")])
        if given and (missing := [name for name in ("hub", "revision", "file") if name not in given]):
            raise Faults([(name, f"goes with `{given[0]}`, and is missing") for name in missing])
        return self

    @property
    def name(self) -> str:
        """The place as the suite spells it, the same on every machine."""
        return self.path if self.path is not None else f"{self.hub}@{self.revision}/{self.file}"

    def place(self) -> Path:
        """The file or folder on this machine; a file of the hub is downloaded once."""
        if self.path is not None:
            return expand(self.path)
        assert self.hub is not None and self.revision is not None and self.file is not None
        return hub_file(self.hub, self.revision, self.file)


class Pretrain(Block):
    """The base is made once, with AdamW, and every task and seed of the study starts from it.

    It learns each next token of the text, which is cut into windows of `context` tokens. Its tokenizer is
    trained on the same text.
    """

    text: list[RawText] = Field(min_length=1)
    tokens: Count | None = Field(None, description="Tokens to learn from, repeated text counted again")
    steps: Count | None = Field(None, description="Steps to take, in place of `tokens`")
    context: Annotated[Count, Field(ge=2)] | None = Field(
        None, description="Tokens of a window; default: the model's `max_length`"
    )
    batch_size: Count = Field(16, description="Windows")
    accumulation: Count = 1
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.1
    warmup: Share = 0.05
    decay: Literal["constant", "linear", "cosine"] = "cosine"
    max_grad_norm: Positive = 1.0
    compute: Literal["fp32", "bf16", "auto"] = Field(
        "auto", description="As in `finetune`; the weights are fp32"
    )
    held_out: Fraction = Field(
        0.02, description="Share of the windows that is not learned; its perplexity is reported"
    )
    seed: CountOrZero = Field(0, description="Of the first weights and of the order of the windows")
    checkpoint_seconds: NonNegative = Field(300.0, description="Time between checkpoints; 0 = every step")

    @model_validator(mode="after")
    def _one_length(self) -> Pretrain:
        if (self.tokens is None) == (self.steps is None):
            raise Faults([("tokens", "give either `tokens` or `steps`")])
        return self

    @property
    def size(self) -> int:
        """Windows of a step."""
        return self.batch_size * self.accumulation

    def context_in(self, max_length: int) -> int:
        """Tokens of a window, for a model of this `max_length`."""
        return self.context or max_length

    def steps_in(self, max_length: int) -> int:
        """Steps of the whole training, for a model of this `max_length`."""
        if self.steps is not None:
            return self.steps
        assert self.tokens is not None
        return max(1, round(self.tokens / (self.size * self.context_in(max_length))))

    def faults(self, max_length: int) -> list[Fault]:
        """Fields that do not fit a model of this `max_length`."""
        if self.context is not None and self.context > max_length:
            return [("context", f"found {self.context}; must be at most `max_length` ({max_length})")]
        return []
