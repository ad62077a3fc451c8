"""Settings of models, tasks, objectives and optimisers; with `suite.py`, every default of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline_lib.config.base import Block, Count, NonNegative, Positive, Share

Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
HubId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]


# --- models -----------------------------------------------------------------------------------


class PromptSettings(Block):
    """How a prompt becomes tokens: an explicit template, or the tokenizer's chat template."""

    kind: Literal["template", "chat"] = "template"
    template: str | None = "Question: {prompt}\nAnswer:"
    system: str | None = Field(None, description="System message; chat only")
    answer_prefix: str = Field(" ", description="Text between template and answer, learned with the answer")
    add_bos: bool = False

    @model_validator(mode="after")
    def _template_fits(self) -> PromptSettings:
        if self.kind == "template" and (self.template or "").count("{prompt}") != 1:
            raise ValueError("`template` must hold {prompt} exactly once")
        return self


class ScratchModel(Block):
    """A small Llama and a byte-level BPE tokenizer, both made from the suite's own data."""

    source: Literal["scratch"]
    vocab_size: Count = 2048
    hidden_size: Count = 128
    intermediate_size: Count = 384
    layers: Count = 4
    heads: Count = 4
    kv_heads: Count = 4
    max_length: Count = 128
    prompt: PromptSettings = PromptSettings()


class HubModel(Block):
    """A model of the hub at a pinned revision. `$PIPELINE_MODELS` may hold a local copy."""

    source: Literal["hub"]
    id: HubId
    revision: Revision
    max_length: Count = 512
    prompt: PromptSettings = PromptSettings(kind="chat", template=None, answer_prefix="")


class FolderModel(Block):
    """A local model folder (safetensors and tokenizer). `$VARIABLES` in the path are expanded."""

    source: Literal["folder"]
    path: str
    max_length: Count = 512
    prompt: PromptSettings = PromptSettings(kind="chat", template=None, answer_prefix="")


class GgufModel(Block):
    """A local GGUF file, dequantised to fp32 when loaded."""

    source: Literal["gguf"]
    path: str
    max_length: Count = 512
    prompt: PromptSettings = PromptSettings(kind="chat", template=None, answer_prefix="")


ModelSettings = Annotated[ScratchModel | HubModel | FolderModel | GgufModel, Field(discriminator="source")]


# --- tasks ------------------------------------------------------------------------------------


class FictitiousTask(Block):
    """Generated authors; the last `forget_authors` are to be forgotten."""

    source: Literal["fictitious"]
    n_authors: Annotated[int, Field(ge=4)] = 40
    questions_per_author: Annotated[int, Field(ge=2, le=10)] = 10
    forget_authors: Count = 4
    n_facts: Count = 60
    seed: int = 0

    @model_validator(mode="after")
    def _some_remain(self) -> FictitiousTask:
        if self.forget_authors >= self.n_authors:
            raise ValueError(f"`forget_authors` must be smaller than `n_authors` ({self.n_authors})")
        return self


class TofuTask(Block):
    """TOFU (Maini et al. 2024, arXiv 2401.06121) from the hub or a folder of its JSON-lines files."""

    source: Literal["tofu"]
    hub: HubId = "locuslab/TOFU"
    revision: Revision = "324592d84ae4f482ac7249b9285c2ecdb53e3a68"
    folder: str | None = None
    forget: Literal["forget01", "forget05", "forget10"] = "forget10"
    retain_authors: Annotated[int, Field(ge=1, le=20)] | None = Field(
        None, description="Only this many of the first 20 authors, instead of the whole retain set"
    )


class FilesTask(Block):
    """Own data: JSON-lines files of records (id, prompt, answer, group, ...) in one folder."""

    source: Literal["files"]
    folder: str
    forget: str = "forget.jsonl"
    retain: str = "retain.jsonl"
    facts: str | None = None


TaskSettings = Annotated[FictitiousTask | TofuTask | FilesTask, Field(discriminator="source")]


# --- objectives: one class for each entry of pipeline_lib.objectives.OBJECTIVES -----------------


class GradAscentSettings(Block):
    kind: Literal["GradAscent"]


class GradDiffSettings(Block):
    kind: Literal["GradDiff"]
    gamma: NonNegative = Field(1.0, description="Weight of the retain loss")


class KLSettings(Block):
    kind: Literal["KL"]
    gamma: NonNegative = Field(1.0, description="Weight of the divergence on the retain set")


class POSettings(Block):
    kind: Literal["PO"]
    gamma: NonNegative = Field(1.0, description="Weight of the retain loss")


class NPOSettings(Block):
    kind: Literal["NPO"]
    beta: Positive = 0.1
    alpha: NonNegative = Field(1.0, description="Weight of the retain loss")


ObjectiveSettings = Annotated[
    GradAscentSettings | GradDiffSettings | KLSettings | POSettings | NPOSettings,
    Field(discriminator="kind"),
]


# --- optimisers: one class for each entry of pipeline_lib.optimizers.OPTIMIZERS -----------------


class AdamWSettings(Block):
    kind: Literal["adamw"]
    learning_rate: Positive
    beta1: Share = 0.9
    beta2: Share = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0


class SignumSettings(Block):
    kind: Literal["signum"]
    learning_rate: Positive
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0


class SophiaSettings(Block):
    """Defaults are the published constants (arXiv 2305.14342, section 3.1, Sophia-G)."""

    kind: Literal["sophia"]
    learning_rate: Positive
    beta1: Share = 0.96
    beta2: Share = 0.99
    gamma: Positive = Field(0.05, description="Curvature scale; a larger one clips fewer coordinates")
    eps: Positive = 1e-12
    weight_decay: NonNegative = 0.0
    update_every: Count = Field(10, description="Steps between curvature estimates")
    curvature_data: Literal["forget", "retain", "both"] = "both"


class SophiaAsReleasedSettings(Block):
    """Defaults are the constants of SOUL's released code."""

    kind: Literal["sophia_as_released"]
    learning_rate: Positive
    beta1: Share = 0.9
    beta2: Share = 0.95
    rho: Positive = 0.04
    weight_decay: NonNegative = 0.0


OptimizerSettings = Annotated[
    AdamWSettings | SignumSettings | SophiaSettings | SophiaAsReleasedSettings,
    Field(discriminator="kind"),
]

OBJECTIVE_KINDS = ("GradAscent", "GradDiff", "KL", "PO", "NPO")
SECOND_ORDER = frozenset({"sophia", "sophia_as_released"})
OPTIMIZER_KINDS = ("adamw", "signum", "sophia", "sophia_as_released")
