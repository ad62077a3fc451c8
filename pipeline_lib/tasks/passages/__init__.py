"""Copyright removal (SOUL, arXiv 2404.18239, section 5.1): chunks of a book to forget, and text to keep.

The book is cut into neighbouring chunks of equal length that never overlap. A run of neighbouring chunks is
one group: it was memorised together, and goes as a whole to one of the splits, at random over the book:
    forget    what is unlearned; the prompt is the beginning of the chunk and the answer its rest
    unseen    chunks of the same book that the model learned and that unlearning is never shown
    holdout   chunks that no model learns, the non-members of membership inference
Further prompt lengths give further views of the same chunks: `forget_300` holds the chunks of `forget` after
prompts of 300 units. `retain` is other text. `target` learns forget, unseen and retain; `retrained` learns
retain.

Traps: the retrained model knows the book as far as its pretraining did, and every model knows a famous book:
use a base model that is older than the book, or compare with `retrained` only. The last piece of a book,
where it is shorter than a chunk, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Block, Count, CountOrZero, Faults, OnThisMachine, PathText
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task
from pipeline_lib.data.texts import Passage, chunks, document_records, read_text
from pipeline_lib.models.tokenizer import TokenizerOf, load_tokenizer
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.c4 import C4
from pipeline_lib.tasks.passages.story import story

GENERATED = "generated"

Dealt = list[tuple[str, Passage]]  # (group, chunk), in the order of the book


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
    """Copyright removal: forget chunks of a book.

    Lengths are tokens of `tokenizer`, or words where there is none. `n_chunks`, `chunk_tokens` and
    `prompt_tokens` are the paper's by default.
    """

    source: Literal["passages"]
    shown_as: ClassVar = "texts"
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
        views = (self._view(split, length) for split in chunked for length in self.prompt_tokens)
        return (*views, "retain", *holdout_split(self.holdout_chunks))

    def size_hint(self) -> dict[str, SplitSize]:
        """Records of each split, in units of the tokenizer; a word is taken for one token."""

        def view(count: int, length: int, learned: Literal["both", "target", "none"]) -> SplitSize:
            groups = -(-count // self.chunks_per_group)
            return SplitSize(count, length, self.chunk_tokens - length, self.chunk_tokens, 1, learned, groups)

        first = self.prompt_tokens[0]
        chunked = {"forget": self.n_chunks} | ({"unseen": self.unseen_chunks} if self.unseen_chunks else {})
        sizes = {
            self._view(split, length): view(count, length, "target" if length == first else "none")
            for split, count in chunked.items()
            for length in self.prompt_tokens
        }
        held = dict.fromkeys(holdout_split(self.holdout_chunks), view(self.holdout_chunks, first, "none"))
        return {**sizes, "retain": view(self.retain.n, first, "both"), **held}

    def load(self) -> Task:
        """Raises `UserError` for a book that is missing, not UTF-8, or too short for the chunks asked for.

        The headline is what the model still says of the forget chunks, and of unseen ones; every view is in
        the table `extraction`. The KS distance of likelihoods comes last: a few chunks learned by heart are
        told apart long after the model stopped saying them, so it is 1 for most rows and orders none.
        """
        tokenizer = None if self.tokenizer is None else load_tokenizer(self.tokenizer)
        sizes = {"forget": self.n_chunks, "unseen": self.unseen_chunks, "holdout": self.holdout_chunks}
        asked = {name: size for name, size in sizes.items() if size}
        if self.book == GENERATED:
            runs = sum(-(-size // self.chunks_per_group) for size in asked.values())
            # a word is a token or more
            text = story(self.seed, "book", runs * self.chunks_per_group * self.chunk_tokens)
        else:
            text = read_book(self.book)
        parts = self._deal(text, self.book, asked, tokenizer)
        splits = {
            self._view(split, length): passage_records(parts[split], length)
            for split in ("forget", "unseen")
            if split in parts
            for length in self.prompt_tokens
        }
        splits["retain"], origin = self._retained(tokenizer)
        if "holdout" in parts:
            splits["holdout"] = passage_records(parts["holdout"], self.prompt_tokens[0])

        return Task(
            origin=f"book: {self.book}; retain: {origin}",
            splits=splits,
            finetune={
                "target": [name for name in ("forget", "unseen", "retain") if name in splits],
                "retrained": ["retain"],
            },
            evaluate=list(splits),
            utility=[],
            multiple_choice=[],
            holdout="holdout" if "holdout" in parts else None,
            headline={
                "forgetting": [
                    ("forget", "rouge_l_recall"),
                    ("forget", "bleu"),
                    ("forget", "longest_match"),
                    ("forget", "extraction_rate"),
                    *([("unseen", "rouge_l_recall")] if "unseen" in parts else []),
                    ("forget", "ks_statistic_likelihood"),
                ],
                "utility": [("retain", "probability"), ("retain", "token_perplexity")],
            },
        )

    def _view(self, split: str, length: int) -> str:
        """The first prompt length has the split's own name."""
        return split if length == self.prompt_tokens[0] else f"{split}_{length}"

    def _retained(self, tokenizer: Any) -> tuple[list[Record], str]:
        """Records of the retain set, and where they are from."""
        kept, prompt, size = self.retain, self.prompt_tokens[0], self.chunk_tokens
        if isinstance(kept, C4):
            return kept.load(prompt, size, tokenizer)
        if isinstance(kept, TextFile):
            parts = self._deal(read_book(kept.path), kept.path, {"retain": kept.n}, tokenizer)
            return passage_records(parts["retain"], prompt), kept.path
        text = story(self.seed, "elsewhere", kept.n * size)
        documents = [chunk.text for chunk in chunks(text, size, tokenizer)]
        return document_records(documents, kept.n, prompt, size, tokenizer, "story"), GENERATED

    def _deal(self, text: str, name: str, sizes: dict[str, int], tokenizer: Any) -> dict[str, Dealt]:
        """Whole chunks of the text for each split.

        Runs of `chunks_per_group` neighbours are drawn in random order; of the last run of a split only as
        many chunks are taken as it still needs, and the others are in no split.
        """
        size, per_group = self.chunk_tokens, self.chunks_per_group
        unit = "words" if tokenizer is None else "tokens"
        found = chunks(text, size, tokenizer)
        whole = [chunk for chunk in found if chunk.units == size]
        if not whole:
            raise UserError(
                f"book {name!r}: has {found[0].units if found else 0} {unit}, fewer than one chunk of "
                f"{size}. Lower `chunk_tokens` or use a longer text."
            )
        runs = [
            [(f"part-{start // per_group:04d}", chunk) for chunk in whole[start : start + per_group]]
            for start in range(0, len(whole), per_group)
        ]
        Random(f"{self.seed}/chunks").shuffle(runs)
        following = iter(runs)
        parts: dict[str, Dealt] = {}
        for split, number in sizes.items():
            dealt: Dealt = []
            while len(dealt) < number:
                run = next(following, None)
                if run is None:
                    wanted = ", ".join(f"{count} for {other!r}" for other, count in sizes.items())
                    raise UserError(
                        f"book {name!r}: {len(whole)} chunks of {size} {unit} fit, in {len(runs)} runs of "
                        f"{per_group} neighbours that are not divided between splits; asked for are "
                        f"{wanted}. Ask for fewer or shorter chunks, lower `chunks_per_group`, or use a "
                        "longer text."
                    )
                dealt += run[: number - len(dealt)]
            parts[split] = sorted(dealt, key=lambda pair: pair[1].start)
        return parts


def read_book(book: str) -> str:
    """The book's text; the path may hold `~` and $VARIABLES."""
    path = expand(book)
    if not path.is_file() and not path.is_dir():
        found = "a device" if path.exists() else "nothing"  # a device such as /dev/zero may have no end
        raise UserError(
            f"book {book!r}: expected a text file at {path}, found {found}. The paper's book (Harry Potter) "
            "is under copyright and comes with no software: give the path of a plain-text file that you "
            "own, a book of the public domain, or `generated`."
        )
    return read_text(path)


def passage_records(parts: Sequence[tuple[str, Passage]], prompt_units: int) -> list[Record]:
    """Running text: the first `prompt_units` of each chunk as prompt, its rest as answer."""
    return [
        Record(f"chunk-{chunk.start:07d}", *chunk.split(prompt_units), group, form="text")
        for group, chunk in parts
    ]
