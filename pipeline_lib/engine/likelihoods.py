"""Log-likelihoods of the answer, paraphrase and wrong answers of every record.

The texts that follow one prompt are read in one pass, as a tree (see trees.py): for TOFU's seven answers a
question these are 2.4 times fewer tokens than with one sequence an answer. Models for which a quick check
shows a difference (attention that ignores a given mask) are read the plain way, one sequence a text.

Shapes: B trees or sequences, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example, token_budget_batches
from pipeline_lib.data.records import Record
from pipeline_lib.engine.forward_pass import TextLikelihood, tree_likelihoods_and_states
from pipeline_lib.engine.rows import Row, likelihood_row
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.engine.trees import PrefixTree, build_tree
from pipeline_lib.models.attention import attends_to_all, takes_positions
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.forward import pad_token
from pipeline_lib.models.memory import halve_on_out_of_memory

if TYPE_CHECKING:
    from pipeline_lib.engine.cache import States
    from pipeline_lib.models.prompt import PromptFormat

TREE_TOLERANCE = 1e-3  # nats a token; rounding is below 1e-5, a mask that is ignored far above

# Larger batches are hardly faster, and padding costs as much as text. On a CPU, a larger batch of texts of
# one length only takes memory.
ENOUGH_TOKENS = 256
ENOUGH_TOKENS_GPU = 1024
FULL = 4  # a CPU's batch ends at so many times ENOUGH_TOKENS

Key = tuple[int, int]  # number of a group, and the place in it of a sequence that is read alone, or WHOLE
WHOLE = -1


class NotFiniteError(UserError):
    """The model gives a log-probability that is not a finite number."""


def record_likelihoods(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    split: str,
    records: Sequence[Record],
    settings: ScoringSettings,
) -> list[list[TextLikelihood]]:
    """Likelihoods of each record's texts: answer, paraphrase (if it has one), then its distractors.

    Results do not depend on the size of a batch beyond rounding. Raises `NotFiniteError`.
    """
    sequences = [
        encode_texts(tokenizer, prompt_format, split, record, record_texts(record), settings.max_length)
        for record in records
    ]
    likelihoods = group_likelihoods(
        model,
        sequences,
        max_tokens_per_batch=settings.max_tokens_per_batch,
        pad_id=pad_token(tokenizer),
    )
    for record, of_texts in zip(records, likelihoods, strict=True):
        check_finite(f"split {split!r}, record {record.id!r}", of_texts)
    return likelihoods


def likelihood_rows(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    split: str,
    records: Sequence[Record],
    settings: ScoringSettings,
) -> list[Row]:
    """Rows as in records.jsonl, without generated answers."""
    likelihoods = record_likelihoods(model, tokenizer, prompt_format, split, records, settings)
    return [likelihood_row(split, record, texts) for record, texts in zip(records, likelihoods, strict=True)]


def encode_texts(
    tokenizer,
    prompt_format: PromptFormat,
    split: str,
    record: Record,
    texts: Sequence[str],
    max_length: int,
) -> list[Example]:
    """The texts after the record's prompt, as tokens. `UserError` for one that is too long."""
    asked = [replace(record, answer=text) for text in texts]
    try:
        return encode_records(asked, tokenizer, prompt_format, max_length, learn=False)
    except UserError as error:
        raise UserError(f"split {split!r}, {error}") from None


def group_likelihoods(
    model,
    groups: Sequence[Sequence[Example]],
    *,
    max_tokens_per_batch: int,
    pad_id: int,
    distribution: bool = False,
    on_progress: Callable[[int], object] = lambda groups: None,
) -> list[list[TextLikelihood]]:
    """Likelihoods of the sequences of each group; the sequences of one group begin alike.

    With `distribution` the first sequence of each group gets `token_mean` and `token_std`.
    """
    return likelihoods_and_states(
        model,
        groups,
        None,
        max_tokens_per_batch=max_tokens_per_batch,
        pad_id=pad_id,
        distribution=distribution,
        on_progress=on_progress,
    )[0]


def likelihoods_and_states(
    model,
    groups: Sequence[Sequence[Example]],
    wanted: Callable[[int, list[TextLikelihood]], Sequence[int]] | None,
    *,
    max_tokens_per_batch: int,
    pad_id: int,
    distribution: bool,
    on_progress: Callable[[int], object],
) -> tuple[list[list[TextLikelihood]], list[States | None]]:
    """`group_likelihoods`, and of each group keys and values of the tokens that are `wanted`.

    `wanted` is given a group's number and likelihoods, and returns tokens with which one of its sequences
    begins. States are None where a group was not read as one tree, or the model's layers keep no plain keys
    and values.
    """
    trees = [build_tree(group, distribution) for group in groups]
    exact = _trees_are_exact(
        model, [g for g, tree in zip(groups, trees, strict=True) if not tree.is_chain], pad_id
    )
    # Chains take the model's own attention, which is faster. The texts of a tree above the budget are read
    # apart: it would need a large attention mask.
    parts: dict[bool, dict[Key, PrefixTree]] = {True: {}, False: {}}  # is it a chain?
    for number, (group, tree) in enumerate(zip(groups, trees, strict=True)):
        if tree.is_chain or (exact and len(tree.tokens) <= max_tokens_per_batch):
            parts[tree.is_chain][number, WHOLE] = tree
        else:
            for place, sequence in enumerate(group):
                parts[True][number, place] = build_tree([sequence], distribution and place == 0)
    by_key = {
        key: found
        for part in (parts[False], parts[True])
        for key, found in _of_trees(model, part, wanted, max_tokens_per_batch, pad_id, on_progress).items()
    }
    results: list[list[TextLikelihood]] = [[] for _ in groups]
    states: list[States | None] = [None] * len(groups)
    for number, place in sorted(by_key):
        likelihoods, kept = by_key[number, place]
        results[number] += likelihoods
        if place == WHOLE:
            states[number] = kept
    return results, states


def check_finite(where: str, likelihoods: Sequence[TextLikelihood]) -> None:
    """Raise a `NotFiniteError` that begins with `where` if a log-probability is not a finite number."""
    if not all(math.isfinite(likelihood.nll) for likelihood in likelihoods):
        raise NotFiniteError(
            f"{where}: the model gives a log-probability that is not a finite number. Its weights are broken "
            "(a diverged run, or an overflow in half precision): train it again with a lower learning rate "
            "or in fp32."
        )


def record_texts(record: Record) -> list[str]:
    """The texts read after the record's prompt, in the order of their likelihoods."""
    paraphrase = [] if record.paraphrased_answer is None else [record.paraphrased_answer]
    return [record.answer, *paraphrase, *record.distractors]


def answer_only(record: Record) -> Record:
    """The record with its true answer as the only text."""
    return replace(record, paraphrased_answer=None, distractors=())


def _trees_are_exact(model, groups: Sequence[Sequence[Example]], pad_id: int) -> bool:
    """Whether this model reads sequences that begin alike the same way as a tree and apart.

    Tried on two sequences of the group with the shortest first one, cut a few tokens after they part: any
    difference shows there.
    """
    config = model.config.get_text_config()
    # Flash kernels take no block mask. A given mask replaces a window's own, or a window counts places and
    # not depths.
    plain = config._attn_implementation in ("sdpa", "eager") and attends_to_all(config)
    if not (plain and takes_positions(model)):
        return False
    if not groups:
        return True
    shortest = min(groups, key=lambda group: len(group[0].tokens))
    pair = next(pair for pair in combinations(shortest, 2) if not build_tree(pair).is_chain)
    common = next(t for t, (a, b) in enumerate(zip(pair[0].tokens, pair[1].tokens, strict=False)) if a != b)
    short = [
        replace(
            sequence,
            tokens=sequence.tokens[: common + 8],
            prompt_length=max(1, min(sequence.prompt_length, common)),  # tokens after they part are scored
        )
        for sequence in pair
    ]
    apart = tree_likelihoods_and_states(model, [build_tree([sequence]) for sequence in short], pad_id)
    try:
        ((as_tree, _),) = tree_likelihoods_and_states(model, [build_tree(short)], pad_id)
    except (IndexError, TypeError, ValueError):  # Falcon with ALiBi counts tokens in the mask it is given
        return False
    return all(
        abs(a - b) <= TREE_TOLERANCE * max(1.0, abs(b)) or (math.isnan(a) and math.isnan(b))
        for one, ((other,), _) in zip(as_tree, apart, strict=True)
        for a, b in zip(one.token_nll, other.token_nll, strict=True)
    )


def _of_trees(
    model,
    trees: dict[Key, PrefixTree],
    wanted: Callable[[int, list[TextLikelihood]], Sequence[int]] | None,
    max_tokens: int,
    pad_id: int,
    on_progress: Callable[[int], object],
) -> dict[Key, tuple[list[TextLikelihood], States | None]]:
    """Likelihoods and states of each tree; progress counts the trees that are first in their group."""
    keys = list(trees)
    lengths = [Example(tuple(trees[key].tokens), 0, i) for i, key in enumerate(keys)]
    results: dict[Key, tuple[list[TextLikelihood], States | None]] = {}

    def read(here: Sequence[Key]) -> list[tuple[list[TextLikelihood], States | None]]:
        def of_tree(place: int, likelihoods: list[TextLikelihood]) -> Sequence[int]:
            number, part = here[place]
            return wanted(number, likelihoods) if wanted is not None and part == WHOLE else []

        return tree_likelihoods_and_states(
            model, [trees[key] for key in here], pad_id, None if wanted is None else of_tree
        )

    on_cpu = model.get_input_embeddings().weight.device.type == "cpu"
    enough, most = (ENOUGH_TOKENS, FULL * ENOUGH_TOKENS) if on_cpu else (ENOUGH_TOKENS_GPU, max_tokens)
    for batch in _little_padding(token_budget_batches(lengths, max_tokens), enough, most):
        here = [keys[example.index] for example in batch]
        results.update(zip(here, halve_on_out_of_memory(here, read), strict=True))
        on_progress(sum(place in (WHOLE, 0) for _, place in here))
    return results


def _little_padding(batches: list[list[Example]], enough: int, most: int) -> list[list[Example]]:
    """Batches cut where lengths, longest first, have fallen by a tenth and `enough` tokens stand before.

    They are also cut where `most` tokens stand before.
    """
    cut: list[list[Example]] = []
    for batch in batches:
        cut.append([])
        for example in batch:
            longest = len(cut[-1][0].tokens) if cut[-1] else 0
            tokens = len(cut[-1]) * longest
            if tokens >= most or (tokens >= enough and len(example.tokens) < 0.9 * longest):
                cut.append([])
            cut[-1].append(example)
    return cut
