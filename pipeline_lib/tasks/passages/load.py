"""Copyright removal (SOUL, arXiv 2404.18239, section 5.1): chunks of a book to forget, and text to keep.

The book is cut into neighbouring chunks of equal length that never overlap. A run of neighbouring chunks is
one group: it was memorised together, and goes as a whole to one of the splits, at random over the book:
    forget    what is unlearned; the prompt is the beginning of the chunk and the answer its rest
    unseen    chunks of the same book that the model learned and that unlearning is never shown
    holdout   chunks that no model learns, the non-members of membership inference
Further prompt lengths give further views of the same chunks: `forget_300` are the chunks of `forget` after
prompts of 300 units. `retain` is other text. `target` learns forget, unseen and retain, `retrained` retain.

Traps: the retrained model knows the book as far as its pretraining did, and a famous book is known to every
model: use a base model that is older than the book, or compare with `retrained` only. The last piece of a
book, shorter than a chunk, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task
from pipeline_lib.data.texts import Passage, chunks, read_text
from pipeline_lib.tasks.passages.story import story

GENERATED = "generated"

# (units of a prompt, units of a document, tokenizer) -> records and where they are from
Retain = Callable[[int, int, Any], tuple[list[Record], str]]


def load(
    *,
    book: str,
    retain: Retain,
    n_chunks: int,
    unseen_chunks: int,
    holdout_chunks: int,
    chunk_tokens: int,
    prompt_tokens: Sequence[int],
    chunks_per_group: int,
    tokenizer: Any,
    seed: int,
) -> Task:
    """The task `passages`. `book`: path of a UTF-8 text, or "generated".

    Raises `UserError` for a book that is missing, not UTF-8, or too short for the chunks asked for.
    """
    sizes = {"forget": n_chunks, "unseen": unseen_chunks, "holdout": holdout_chunks}
    asked = {name: size for name, size in sizes.items() if size}
    if book == GENERATED:
        runs = sum(-(-size // chunks_per_group) for size in asked.values())
        text = story(seed, "book", runs * chunks_per_group * chunk_tokens)  # a word is a token or more
    else:
        text = read_book(book)
    unit = "words" if tokenizer is None else "tokens"
    parts = deal(
        chunks(text, chunk_tokens, tokenizer), asked, chunk_tokens, chunks_per_group, seed, book, unit
    )
    views = [(split, length) for split in ("forget", "unseen") if split in parts for length in prompt_tokens]
    splits = {
        view_name(split, length, prompt_tokens): passage_records(parts[split], length)
        for split, length in views
    }
    splits["retain"], origin = retain(prompt_tokens[0], chunk_tokens, tokenizer)
    if "holdout" in parts:
        splits["holdout"] = passage_records(parts["holdout"], prompt_tokens[0])
    learned: list[str] = [name for name in ("forget", "unseen", "retain") if name in splits]
    return Task(
        origin=f"book: {book}; retain: {origin}",
        splits=splits,
        finetune={"target": learned, "retrained": ["retain"]},
        evaluate=list(splits),
        utility=[],
        multiple_choice=[],
        holdout="holdout" if "holdout" in parts else None,
        headline=headline([view for view in splits if view not in ("retain", "holdout")]),
    )


def headline(views: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """What is still said of the forget chunks, and of unseen ones; every view is in the table `extraction`.

    The KS distance of likelihoods comes last: a few chunks learned by heart are told apart long after the
    model stopped saying them, so it is 1 for most rows and orders none.
    """
    said = ("rouge_l_recall", "bleu", "longest_match", "extraction_rate")
    return {
        "forgetting": [
            *(("forget", metric) for metric in said),
            *((view, "rouge_l_recall") for view in views if view == "unseen"),
            ("forget", "ks_statistic_likelihood"),
        ],
        "utility": [("retain", "probability"), ("retain", "token_perplexity")],
    }


def view_name(split: str, length: int, prompt_tokens: Sequence[int]) -> str:
    """The first prompt length has the split's own name."""
    return split if length == prompt_tokens[0] else f"{split}_{length}"


def read_book(book: str) -> str:
    """The book's text; the path may hold `~` and $VARIABLES."""
    path = expand(book)
    if not path.is_file() and not path.is_dir():
        found = (
            "a device" if path.exists() else "nothing"
        )  # one without an end, as /dev/zero, would be read on
        raise UserError(
            f"book {book!r}: expected a text file at {path}, found {found}. The paper's book (Harry Potter) "
            "is under copyright and comes with no software: give the path of a plain-text file that you "
            "own, a book of the public domain, or `generated`."
        )
    return read_text(path)


def deal(
    book: Sequence[Passage],
    sizes: dict[str, int],
    chunk_tokens: int,
    per_group: int,
    seed: int,
    name: str,
    unit: str,
) -> dict[str, list[tuple[str, Passage]]]:
    """Whole chunks for each split, as (group, chunk) in the order of the book.

    Runs of `per_group` neighbours are drawn in random order; of the last run of a split only as many chunks
    are taken as it still needs, and the others are in no split.
    """
    whole = [chunk for chunk in book if chunk.units == chunk_tokens]
    if not whole:
        length = book[0].units if book else 0
        raise UserError(
            f"book {name!r}: has {length} {unit}, fewer than one chunk of {chunk_tokens}. Lower "
            "`chunk_tokens` or use a longer text."
        )
    runs = [
        [(f"part-{start // per_group:04d}", chunk) for chunk in whole[start : start + per_group]]
        for start in range(0, len(whole), per_group)
    ]
    Random(f"{seed}/chunks").shuffle(runs)
    following = iter(runs)
    parts: dict[str, list[tuple[str, Passage]]] = {}
    for split, size in sizes.items():
        found: list[tuple[str, Passage]] = []
        while len(found) < size:
            run = next(following, None)
            if run is None:
                wanted = ", ".join(f"{count} for {other!r}" for other, count in sizes.items())
                raise UserError(
                    f"book {name!r}: {len(whole)} chunks of {chunk_tokens} {unit} fit, in {len(runs)} runs "
                    f"of {per_group} neighbours that are not divided between splits; asked for are {wanted}. "
                    "Ask for fewer or shorter chunks, lower `chunks_per_group`, or use a longer text."
                )
            found += run[: size - len(found)]
        parts[split] = sorted(found, key=lambda pair: pair[1].start)
    return parts


def passage_records(parts: Sequence[tuple[str, Passage]], prompt_units: int) -> list[Record]:
    """Running text: the first `prompt_units` of each chunk as prompt, its rest as answer."""
    records = []
    for group, chunk in parts:
        prompt, answer = chunk.split(prompt_units)
        records.append(Record(f"chunk-{chunk.start:07d}", prompt, answer, group, form="text"))
    return records
