"""Settings of models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline_lib.blocks import (
    Block,
    Count,
    Faults,
    HubId,
    Positive,
    Revision,
    Switch,
    Text,
)

TEMPLATE = "Question: {prompt}\nAnswer:"


class PromptSettings(Block):
    """How a prompt becomes tokens: an explicit template, or the tokenizer's chat template."""

    kind: Literal["template", "chat"] = "template"
    template: Text | None = Field(
        None, description=f"Text around {{prompt}}; template only, where the default is {TEMPLATE!r}"
    )
    system: str | None = Field(None, description="System message; chat only")
    answer_prefix: str = Field(
        "", description="Text that is learned as the answer's beginning; a space by default for a template"
    )
    add_bos: Switch = Field(False, description="Begin with the tokenizer's begin token; template only")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_kind(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        kind = value.get("kind", cls.model_fields["kind"].default)
        return {"template": TEMPLATE, "answer_prefix": " ", **value} if kind == "template" else value

    @model_validator(mode="after")
    def _fits_kind(self) -> PromptSettings:
        faults = []
        if self.kind == "template":
            if (self.template or "").count("{prompt}") != 1:
                faults.append(("template", f"found {self.template!r}; must hold {{prompt}} exactly once"))
            if self.system is not None:
                faults.append(("system", "goes with `kind: chat`; write it into `template` instead"))
        else:
            if self.template is not None:
                faults.append(("template", "goes with `kind: template`, and this prompt is of kind chat"))
            if self.add_bos:
                faults.append(("add_bos", "goes with `kind: template`; a chat template brings its own"))
        if faults:
            raise Faults(faults)
        return self


class PretrainedPromptSettings(PromptSettings):
    """How a prompt becomes tokens: the chat template that the tokenizer brings, or a template given here."""

    kind: Literal["template", "chat"] = "chat"


class ScratchModel(Block):
    """A small Llama and a byte-level BPE tokenizer, both made from the suite's own data."""

    source: Literal["scratch"]
    vocab_size: Annotated[Count, Field(ge=261, description="256 bytes, 5 control tokens, merges")] = 2048
    hidden_size: Count = 128
    intermediate_size: Count = 384
    layers: Count = 4
    heads: Count = 4
    kv_heads: Count = 4
    max_length: Count = 128
    prompt: PromptSettings = PromptSettings(template="<user>{prompt}<assistant>", answer_prefix="")

    @model_validator(mode="after")
    def _heads_fit(self) -> ScratchModel:
        faults = []
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


class HubModel(Block):
    """A model of the hub at a pinned revision. `$PIPELINE_MODELS` may hold a local copy."""

    source: Literal["hub"]
    id: HubId
    revision: Revision
    max_length: Count = 512
    shape: ModelShape | None = Field(None, description="For estimates; default: from its config.json")
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


class FolderModel(Block):
    """A local model folder (safetensors and tokenizer). `$VARIABLES` in the path are expanded."""

    source: Literal["folder"]
    path: Text
    max_length: Count = 512
    shape: ModelShape | None = Field(None, description="For estimates; default: from its config.json")
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


class GgufModel(Block):
    """A local GGUF file, dequantised to fp32 when loaded."""

    source: Literal["gguf"]
    path: Text
    max_length: Count = 512
    shape: ModelShape | None = Field(None, description="For estimates; default: from its config.json")
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


ModelSettings = Annotated[ScratchModel | HubModel | FolderModel | GgufModel, Field(discriminator="source")]
