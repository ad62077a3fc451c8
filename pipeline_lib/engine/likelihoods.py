"""Log-likelihoods of the answer, paraphrase and wrong answers of every record.

The texts of a batch are read as one tree (models/token_tree.py): for TOFU's seven answers a question these
are about half the tokens, and what the chat template puts before each question is read once for all of them.
Models that do not read trees are given one sequence a text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.engine.forward_pass import Reading, TextLikelihood, read_texts, read_tokens
from pipeline_lib.engine.rows import Row, likelihood_row
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.forward import pad_token
from pipeline_lib.models.memory import halve_on_out_of_memory
from pipeline_lib.models.token_tree import count_nodes
from pipeline_lib.models.tree_attention import reads_trees

if TYPE_CHECKING:
    from pipeline_lib.engine.cache import States
    from pipeline_lib.models.prompt import PromptFormat

# Larger batches are hardly faster, and padding costs as much as text. On a CPU, a larger batch of texts of
# one length only takes memory.
ENOUGH_TOKENS = 256
ENOUGH_TOKENS_GPU = 1024
FULL = 4  # a CPU's batch ends at so many times ENOUGH_TOKENS

Part = tuple[int, range]  # number of a group, and which of its texts


class NotFiniteError(UserError):
    """The model gives a log-probability that is not a finite number."""


class LikelihoodReader:
    """Records of a split as tokens, which one model reads, or several, or one at several of its steps.

    `UserError` for a record that is too long.
    """

    def __init__(
        self,
        tokenizer,
        prompt_format: PromptFormat,
        split: str,
        records: Sequence[Record],
        settings: ScoringSettings,
    ) -> None:
        self._split, self._records = split, records
        self._sequences = [
            encode_texts(tokenizer, prompt_format, split, record, record_texts(record), settings.max_length)
            for record in records
        ]
        self._max_tokens, self._pad_id = settings.max_tokens_per_batch, pad_token(tokenizer)

    def likelihoods(self, model) -> list[list[TextLikelihood]]:
        """Of each record's texts: answer, paraphrase (if it has one), then its distractors.

        Results do not depend on the size of a batch beyond rounding. Raises `NotFiniteError`.
        """
        found = group_likelihoods(
            model, self._sequences, max_tokens_per_batch=self._max_tokens, pad_id=self._pad_id
        )
        for record, of_texts in zip(self._records, found, strict=True):
            check_finite(f"split {self._split!r}, record {record.id!r}", of_texts)
        return found

    def rows(self, model) -> list[Row]:
        """Rows as in records.jsonl, without generated answers."""
        return [
            likelihood_row(self._split, record, texts)
            for record, texts in zip(self._records, self.likelihoods(model), strict=True)
        ]


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
    begins. States are None where a group was not read in one pass, or the model's layers keep no plain keys
    and values.
    """
    by_part: dict[Part, tuple[list[TextLikelihood], States | None]] = {}

    def read(here: Sequence[Part]) -> list[tuple[list[TextLikelihood], States | None]]:
        pairs = [(number, place) for number, places in here for place in places]
        described = [distribution and place == 0 for _, place in pairs]
        texts = [groups[number][place] for number, place in pairs]
        reading = read_texts(model, texts, described, pad_id, wanted is not None)
        found: list[tuple[list[TextLikelihood], States | None]] = []
        first = 0
        for number, places in here:
            own, kept = reading.likelihoods[first : first + len(places)], None
            if wanted is not None and len(places) == len(groups[number]):
                kept = _states(reading, first, groups[number], wanted(number, own))
            found.append((own, kept))
            first += len(places)
        return found

    for batch in _batches(model, groups, max_tokens_per_batch):
        by_part.update(zip(batch, halve_on_out_of_memory(batch, read), strict=True))
        on_progress(sum(places.start == 0 for _, places in batch))
    results: list[list[TextLikelihood]] = [[] for _ in groups]
    states: list[States | None] = [None] * len(groups)
    for number, places in sorted(by_part, key=lambda part: (part[0], part[1].start)):
        own, states[number] = by_part[number, places]
        results[number] += own
    return results, states


def _states(reading: Reading, first: int, group: Sequence[Example], tokens: Sequence[int]) -> States | None:
    """Keys and values of `tokens`, with which one of a group's texts begins; `first`: the group's first text.

    The last token of a text is not read: there the states end too.
    """
    for place, text in enumerate(group):
        if len(tokens) < len(text.tokens) and text.tokens[: len(tokens)] == tuple(tokens):
            return reading.states(first + place, len(tokens))
    raise ValueError(f"none of {len(group)} texts begins with these {len(tokens)} tokens")


def tokens_read(group: Sequence[Example]) -> int:
    """How many tokens of a group a model reads, those once that its texts share from the start."""
    return count_nodes([read_tokens(text) for text in group])


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


def answers_only(records: Sequence[Record], options: bool = False) -> list[Record]:
    """The records with their true answers as the only texts; with `options`, beside the wrong ones."""
    return [
        record if options else replace(record, paraphrased_answer=None, distractors=()) for record in records
    ]


def _batches(model, groups: Sequence[Sequence[Example]], max_tokens: int) -> list[list[Part]]:
    """What is read together: groups, or parts of a group that is larger than a batch may be.

    Those with the longest texts come first, so that what does not fit in memory fails early. Texts laid out
    side by side, each as long as the longest, stay within `max_tokens`. A batch ends earlier where more
    tokens would not make the pass faster and, where a model reads texts apart, where padding would grow.
    """
    on_cpu = model.get_input_embeddings().weight.device.type == "cpu"
    enough, most = (ENOUGH_TOKENS, FULL * ENOUGH_TOKENS) if on_cpu else (ENOUGH_TOKENS_GPU, max_tokens)
    shared = reads_trees(model)
    longest = [max(len(read_tokens(text)) for text in group) for group in groups]
    batches: list[list[Part]] = []
    width = texts = tokens = 0  # of the last batch
    for number in sorted(range(len(groups)), key=lambda i: (-longest[i], i)):
        group, length = groups[number], longest[number]
        size = max(1, max_tokens // length)
        for start in range(0, len(group), size):
            places = range(start, min(start + size, len(group)))
            full = (texts + len(places)) * width > max_tokens or tokens >= most
            if not batches or full or (not shared and tokens >= enough and length < 0.9 * width):
                batches.append([])
                width, texts, tokens = length, 0, 0
            batches[-1].append((number, places))
            texts += len(places)
            tokens = tokens + tokens_read(group[start : places.stop]) if shared else texts * width
    return batches
