"""Settings of models and tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline_lib.config.base import (
    Block,
    Count,
    CountOrZero,
    Faults,
    HubId,
    Revision,
    Switch,
    Text,
)

# --- models -----------------------------------------------------------------------------------

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


class HubModel(Block):
    """A model of the hub at a pinned revision. `$PIPELINE_MODELS` may hold a local copy."""

    source: Literal["hub"]
    id: HubId
    revision: Revision
    max_length: Count = 512
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


class FolderModel(Block):
    """A local model folder (safetensors and tokenizer). `$VARIABLES` in the path are expanded."""

    source: Literal["folder"]
    path: Text
    max_length: Count = 512
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


class GgufModel(Block):
    """A local GGUF file, dequantised to fp32 when loaded."""

    source: Literal["gguf"]
    path: Text
    max_length: Count = 512
    prompt: PretrainedPromptSettings = PretrainedPromptSettings()


ModelSettings = Annotated[ScratchModel | HubModel | FolderModel | GgufModel, Field(discriminator="source")]


# --- tasks ------------------------------------------------------------------------------------


MOST_AUTHORS = 480  # so many surnames can be made
HOLDOUT = "holdout"  # the split of records that no model learns; only likelihoods are measured on it


def _holdout(present: object) -> tuple[str, ...]:
    return (HOLDOUT,) if present else ()


class FictitiousTask(Block):
    """Generated authors; the last `forget_authors` are to be forgotten."""

    source: Literal["fictitious"]
    n_authors: Annotated[Count, Field(ge=4, le=MOST_AUTHORS)] = 40
    questions_per_author: Annotated[Count, Field(le=14)] = 10
    forget_authors: Count = 4
    holdout_authors: CountOrZero = Field(
        0, description="Further authors whom no model learns: the non-members of membership inference"
    )
    n_facts: Annotated[Count, Field(le=120)] = 60
    seed: CountOrZero = 0

    @model_validator(mode="after")
    def _some_remain(self) -> FictitiousTask:
        if self.forget_authors >= self.n_authors:
            allowed = f"must be smaller than `n_authors` ({self.n_authors}), so that some remain"
            raise Faults([("forget_authors", f"found {self.forget_authors}; {allowed}")])
        if self.n_authors + self.holdout_authors > MOST_AUTHORS:
            allowed = f"with `n_authors` ({self.n_authors}) it must be at most {MOST_AUTHORS}"
            raise Faults([("holdout_authors", f"found {self.holdout_authors}; {allowed}")])
        return self

    def evaluated_splits(self) -> tuple[str, ...]:
        return ("forget", "retain", "facts", *_holdout(self.holdout_authors))


class TofuTask(Block):
    """TOFU (Maini et al. 2024, arXiv 2401.06121) from the hub or a folder of its JSON-lines files."""

    source: Literal["tofu"]
    hub: HubId = "locuslab/TOFU"
    revision: Revision = "324592d84ae4f482ac7249b9285c2ecdb53e3a68"
    folder: Text | None = None
    forget: Literal["forget01", "forget05", "forget10"] = "forget10"
    retain_authors: Annotated[Count, Field(le=20)] | None = Field(
        None, description="Only this many of the first 20 authors, instead of the whole retain set"
    )
    holdout_authors: Annotated[CountOrZero, Field(le=100)] = Field(
        0,
        description="The authors just before the forget set, whom no model learns: the non-members of "
        "membership inference. They leave the retain set, so that it is smaller than TOFU's",
    )

    def evaluated_splits(self) -> tuple[str, ...]:
        """Of the whole retain set only `retain_eval`, the first 20 authors, has wrong answers to judge by."""
        retain = "retain_eval" if self.retain_authors is None else "retain"
        return ("forget", retain, "real_authors", "world_facts", *_holdout(self.holdout_authors))


class FilesTask(Block):
    """Own data: JSON-lines files of records (id, prompt, answer, group, ...) in one folder."""

    source: Literal["files"]
    folder: Text
    forget: Text = "forget.jsonl"
    retain: Text = "retain.jsonl"
    facts: Text | None = None
    holdout: Text | None = Field(
        None, description="Records like those to be forgotten that no model learns, for membership inference"
    )

    def evaluated_splits(self) -> tuple[str, ...]:
        """Both names of the retain set: which of them is judged shows only in the files."""
        facts = () if self.facts is None else ("facts",)
        return ("forget", "retain", "retain_eval", *facts, *_holdout(self.holdout))


TaskSettings = Annotated[FictitiousTask | TofuTask | FilesTask, Field(discriminator="source")]
