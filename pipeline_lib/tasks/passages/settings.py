"""Settings of the task `passages`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import (
    Block,
    Count,
    CountOrZero,
    Faults,
    HubId,
    OnThisMachine,
    PathText,
    Revision,
)
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task
from pipeline_lib.data.texts import chunks, document_records
from pipeline_lib.models.tokenizer import load_tokenizer
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.c4 import C4
from pipeline_lib.tasks.passages.load import deal, load, passage_records, read_book, view_name
from pipeline_lib.tasks.passages.story import story


class TokenizerOf(Block):
    """The tokenizer that measures chunks: of a model of the hub, or of a folder."""

    id: HubId | None = None
    revision: Revision | None = None
    path: PathText | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizerOf:
        if (self.id is None) == (self.path is None):
            raise Faults([("id", "give either `id` with `revision`, or `path`")])
        if (self.id is None) != (self.revision is None):
            raise Faults([("revision", "goes with `id`: the commit of the model")])
        return self


class TextFile(Block):
    """Chunks of a second text, drawn like those of the book."""

    source: Literal["text"]
    path: PathText
    n: Count = Field(200, description="Chunks")


class OtherStory(Block):
    """A generated story of another world than the generated book, one document a chunk."""

    source: Literal["generated"]
    n: Count = Field(40, description="Chunks")


class Settings(TaskSettings):
    """Copyright removal: forget chunks of a book. See load.py for the splits.

    Lengths are tokens of `tokenizer`, or words where there is none. `n_chunks`, `chunk_tokens` and
    `prompt_tokens` are the paper's by default.
    """

    source: Literal["passages"]
    book: Annotated[PathText, OnThisMachine(unless="generated")] = Field(
        description="Path of a UTF-8 text ($VARIABLES and ~ are filled in), or `generated`"
    )
    retain: Annotated[C4 | TextFile | OtherStory, Field(discriminator="source")] = C4()
    tokenizer: TokenizerOf | None = Field(None, description="What measures chunks; null: words")
    n_chunks: Count = Field(200, description="Chunks to forget")
    unseen_chunks: CountOrZero = Field(
        100, description="Further chunks that the model learned and unlearning is not shown"
    )
    holdout_chunks: CountOrZero = Field(
        0, description="Further chunks that no model learns: the non-members of membership inference"
    )
    chunk_tokens: Annotated[Count, Field(ge=2)] = 512
    prompt_tokens: list[Count] = Field([100, 300], min_length=1, description="A view of each chunk a length")
    chunks_per_group: Count = Field(
        5, description="Neighbouring chunks that count as memorised together and are resampled as one"
    )
    seed: CountOrZero = 0

    @model_validator(mode="after")
    def _lengths_fit(self) -> Settings:
        longest = max(self.prompt_tokens)
        if longest >= self.chunk_tokens:
            allowed = f"must be smaller than `chunk_tokens` ({self.chunk_tokens}), the whole"
            raise Faults([("prompt_tokens", f"found {longest}; {allowed}")])
        if len(set(self.prompt_tokens)) < len(self.prompt_tokens):
            raise Faults([("prompt_tokens", f"found {list(self.prompt_tokens)}; each length once")])
        return self

    def has_alternatives(self) -> bool:
        return False

    def evaluated_splits(self) -> tuple[str, ...]:
        chunked = ("forget", "unseen") if self.unseen_chunks else ("forget",)
        views = (
            view_name(split, length, self.prompt_tokens) for split in chunked for length in self.prompt_tokens
        )
        return (*views, "retain", *holdout_split(self.holdout_chunks))

    def size_hint(self) -> dict[str, SplitSize]:
        """Records of each split, in units of the tokenizer; a word is taken for one token."""

        def view(count: int, length: int, learned: Literal["both", "target", "none"]) -> SplitSize:
            return SplitSize(count, length, self.chunk_tokens - length, self.chunk_tokens, 1, learned)

        first = self.prompt_tokens[0]
        chunked = {"forget": self.n_chunks} | ({"unseen": self.unseen_chunks} if self.unseen_chunks else {})
        sizes = {
            view_name(split, length, self.prompt_tokens): view(
                count, length, "target" if length == first else "none"
            )
            for split, count in chunked.items()
            for length in self.prompt_tokens
        }
        sizes["retain"] = view(self.retain.n, first, "both")
        held = view(self.holdout_chunks, first, "none")
        return sizes | dict.fromkeys(holdout_split(self.holdout_chunks), held)

    def load(self) -> Task:
        settings = self.own()
        if self.tokenizer is not None:
            settings["tokenizer"] = load_tokenizer(**self.tokenizer.model_dump())
        return load(**{**settings, "retain": self._retain})

    def _retain(self, prompt_units: int, max_units: int, tokenizer: Any) -> tuple[list[Record], str]:
        """Records of the retain set, and where they are from."""
        kept = self.retain
        if isinstance(kept, C4):
            return kept.load(prompt_units, max_units, tokenizer)
        if isinstance(kept, TextFile):
            unit = "words" if tokenizer is None else "tokens"
            found = chunks(read_book(kept.path), max_units, tokenizer)
            sizes = {"retain": kept.n}
            parts = deal(found, sizes, max_units, self.chunks_per_group, self.seed, kept.path, unit)
            return passage_records(parts["retain"], prompt_units), kept.path
        text = story(self.seed, "elsewhere", kept.n * max_units)
        documents = [chunk.text for chunk in chunks(text, max_units, tokenizer)]
        return document_records(documents, kept.n, prompt_units, max_units, tokenizer, "story"), "generated"
