"""Settings of a suite's models. Readable without torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import (
    Block,
    Count,
    Faults,
    Fraction,
    HubId,
    PathText,
    Positive,
    Revision,
)
from pipeline_lib.models.pretrain_settings import Pretrain
from pipeline_lib.models.prompt_settings import PretrainedPromptSettings, PromptSettings


class PrunedBase(Block):
    """The smallest weights of each linear layer are set to 0 before unlearning, and stay 0 during it."""

    kind: Literal["pruned"]
    sparsity: Fraction = Field(description="Share of each linear layer's weights that become 0")


class Int8Base(Block):
    """Linear layers are rounded to 8 bits before unlearning, which then trains adapters on them."""

    kind: Literal["int8"]


BaseSettings = Annotated[PrunedBase | Int8Base, Field(discriminator="kind")]


class Model(Block):
    """Settings of every model."""

    base: BaseSettings | None = Field(
        None,
        description="Make the fine-tuned model smaller before it is evaluated and unlearned "
        "(docs/large-models.md); default: as it is",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="before")
    @classmethod
    def _only_scratch_is_pretrained(cls, value: Any) -> Any:
        if isinstance(value, dict) and "pretrain" in value and "pretrain" not in cls.model_fields:
            message = "goes with `source: scratch`; other models are pretrained already, so leave it out"
            raise Faults([("pretrain", message)])
        return value


class ScratchModel(Model):
    """A small Llama and a byte-level BPE tokenizer, made from the suite's own data or from other text."""

    source: Literal["scratch"]
    vocab_size: Annotated[Count, Field(ge=261, description="256 bytes, 5 control tokens, merges")] = 2048
    hidden_size: Count = 128
    intermediate_size: Count = 384
    layers: Count = 4
    heads: Count = 4
    kv_heads: Count = 4
    max_length: Count = 128
    prompt: PromptSettings = PromptSettings(template="<user>{prompt}<assistant>", answer_prefix="")
    pretrain: Pretrain | None = Field(
        None,
        description="Learn other text first (docs/models.md); default: random weights are fine-tuned",
        exclude_if=lambda value: value is None,
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> ScratchModel:
        faults = []
        if self.pretrain is not None:
            found = self.pretrain.faults(self.max_length)
            faults += [(f"pretrain.{field}", message) for field, message in found]
        if self.hidden_size % (2 * self.heads):  # rotary positions turn pairs of coordinates within a head
            allowed = f"must be a multiple of {2 * self.heads}, twice the number of `heads`"
            faults.append(("hidden_size", f"found {self.hidden_size}; {allowed}"))
        if self.heads % self.kv_heads:
            faults.append(("kv_heads", f"found {self.kv_heads}; must divide `heads` ({self.heads})"))
        if faults:
            raise Faults(faults)
        return self


class ModelShape(Block):
    """Sizes by which memory and time are estimated where the model's config.json is not at hand."""

    parameters: Positive
    hidden_size: Count
    layers: Count
    vocab_size: Count
    intermediate_size: Count
    heads: Count
    kv_heads: Count | None = Field(None, description="Default: as many as `heads`")
    context: Count | None = Field(None, description="Longest sequence the model can read, in tokens")

    @model_validator(mode="after")
    def _fit_together(self) -> ModelShape:
        """Refuse sizes that no model has, which would spoil estimates; families differ by less than 3."""
        embedding = self.vocab_size * self.hidden_size
        width = self.hidden_size + (self.kv_heads or self.heads) * (self.hidden_size // self.heads)
        layer = 2 * self.hidden_size * width + 3 * self.hidden_size * self.intermediate_size
        whole = embedding + self.layers * layer
        if not max(embedding, whole / 3) < self.parameters < 3 * whole:
            message = f"found {self.parameters:,.0f}, and the other sizes make about {whole:,}; correct them"
            raise Faults([("parameters", message)])
        return self


class HubModel(Model):
    """A model of the hub at a pinned revision. `$PIPELINE_MODELS` may hold a local copy."""

    source: Literal["hub"]
    id: HubId
    revision: Revision
    max_length: Count = 512
    shape: ModelShape | None = Field(None, description="For estimates; default: from its config.json")
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


class FolderModel(Model):
    """A local model folder (safetensors and tokenizer). `$VARIABLES` in the path are expanded."""

    source: Literal["folder"]
    path: PathText
    max_length: Count = 512
    shape: ModelShape | None = Field(None, description="For estimates; default: from its config.json")
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


class GgufModel(Model):
    """A local GGUF file, dequantised to fp32 when loaded."""

    source: Literal["gguf"]
    path: PathText
    max_length: Count = 512
    shape: ModelShape | None = Field(None, description="For estimates; default: from its config.json")
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


PretrainedModel = HubModel | FolderModel | GgufModel
ModelSettings = Annotated[ScratchModel | PretrainedModel, Field(discriminator="source")]
