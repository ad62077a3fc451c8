"""The groups of texts of a split, scored and answered.

One forward pass over a group gives its likelihoods, and how the greedy answer after its prompt begins: a
model that knows an answer word by word need not generate it. What is left of the answers goes on from the
keys and values of the scored texts, so that no prompt is read twice. These take room, so groups are scored
when the batch of answers has room for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_lib.engine.full_batches import FREE, continue_rows
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.greedy_beginning import greedy_beginning
from pipeline_lib.engine.likelihoods import check_finite, likelihoods_and_states
from pipeline_lib.engine.wanted import Generation, Wanted, fitting

if TYPE_CHECKING:
    from pipeline_lib.data.batching import Example
    from pipeline_lib.engine.cache import States
    from pipeline_lib.engine.forward_pass import TextLikelihood
    from pipeline_lib.engine.progress import Progress
    from pipeline_lib.engine.settings import Decoding


@dataclass(frozen=True)
class Asked:
    """Texts that are scored together, one tree, with a greedy answer after the prompt of the first."""

    record: str  # id, for errors
    texts: Sequence[Example]
    limit: int  # tokens of the answer at most; 0: no answer

    @property
    def prompt(self) -> list[int]:
        return list(self.texts[0].tokens[: self.texts[0].prompt_length])


class Asking:
    """Scores and answers of a split's groups; the source of the rows that are generated (see `Source`)."""

    def __init__(
        self, model, split: str, asked: Sequence[Asked], decoding: Decoding, distribution: bool, bar: Progress
    ):
        self._model, self._split, self._asked, self._bar = model, split, asked, bar
        self._decoding, self._distribution = decoding, distribution
        self.likelihoods: dict[int, list[TextLikelihood]] = {}
        self.answers: dict[int, Generation] = {}
        self._known: dict[int, list[int]] = {}  # how the greedy answers begin
        rows = [
            Wanted(i, i, group.prompt, group.limit, group.texts[0].prompt_length)
            for i, group in enumerate(asked)
        ]
        # those with most room come first, so that what does not fit in memory fails early
        self._rest = sorted(rows, key=lambda row: (-row.room, row.number))

    def run(self) -> None:
        """Score all groups, and answer those that have a limit."""
        answered = any(asked.limit for asked in self._asked)
        if answered and self._decoding.compute == "fp32":
            self.answers |= continue_rows(self._model, self, None, self._decoding, self._bar.did)
            return
        self._score([row.number for row in self._rest], keep=False)
        if answered:  # in bf16, whose arithmetic is another than that of the scores
            self._bar.begin("answering", self._split)
            found = generate(
                self._model,
                [asked.prompt for asked in self._asked],
                self._decoding,
                max_new_tokens=[asked.limit for asked in self._asked],
                on_progress=self._bar.did,
            )
            self.answers |= dict(enumerate(found))

    def free(self, batch: Sequence[Wanted], budget: int) -> int:
        size = fitting(self._model, batch, self._rest, budget)
        few = size < FREE * (len(batch) + size) and size < len(self._rest)  # which are not scored fast
        return 0 if few else size

    def take(self, count: int) -> list[Wanted]:
        part = [row.number for row in self._rest[:count]]
        states = self._score(part, keep=True)
        self._rest = self._rest[count:]
        self._bar.begin("answering", self._split, count)
        begun_rows = [self._begun(i, own) for i, own in zip(part, states, strict=True)]
        rows = [row for row in begun_rows if row is not None]
        self._bar.did(count - len(rows))
        return rows

    def _score(self, part: Sequence[int], keep: bool) -> list[States | None]:
        """Score groups; with `keep` keys and values of the prompt and what is known of the answer."""
        self._bar.begin("scoring", self._split)

        def read_on(place: int, likelihoods: list[TextLikelihood]) -> list[int]:
            group = self._asked[part[place]]
            self._known[part[place]] = _greedy_beginning(group, likelihoods, self._decoding)
            return [*group.prompt, *self._known[part[place]]][:-1]

        scores, states = likelihoods_and_states(
            self._model,
            [self._asked[i].texts for i in part],
            read_on if keep else None,
            max_tokens_per_batch=self._decoding.max_tokens_per_batch,
            pad_id=self._decoding.pad_id,
            distribution=self._distribution,
            on_progress=self._bar.did,
        )
        for i, own in zip(part, scores, strict=True):
            check_finite(f"split {self._split!r}, record {self._asked[i].record!r}", own)
            self.likelihoods[i] = own
        return states

    def _begun(self, number: int, states: States | None) -> Wanted | None:
        """The row that goes on from what is known of the answer; None if that is all of it."""
        group = self._asked[number]
        known = self._known.pop(number, None)
        if known is None:  # it was not read in one pass
            known = _greedy_beginning(group, self.likelihoods[number], self._decoding)
        row = begun(number, group.prompt, known, group.limit, states, self._decoding)
        if isinstance(row, Wanted):
            return row
        self.answers[number] = row
        return None


def _greedy_beginning(group: Asked, likelihoods: Sequence[TextLikelihood], decoding: Decoding) -> list[int]:
    """The beginning of the greedy answer, as the scored texts after the group's prompt show it."""
    prompt = group.prompt
    pairs = [
        (text.tokens[len(prompt) :], likelihood.argmax)
        for text, likelihood in zip(group.texts, likelihoods, strict=True)
        if text.prompt_length == len(prompt) and text.tokens[: len(prompt)] == tuple(prompt)
    ]
    texts, predicted = ([pair[i] for pair in pairs] for i in range(2))
    return greedy_beginning(texts, predicted, decoding.ends)


def begun(
    number: int,
    prompt: Sequence[int],
    known: Sequence[int],
    limit: int,
    states: States | None,
    decoding: Decoding,
) -> Wanted | Generation:
    """A row whose answer begins with `known`, or the answer if an end token or the limit is reached in it.

    `states`: keys and values of the prompt and the known tokens but the last.
    """
    end = next((t for t, token in enumerate(known[:limit]) if token in decoding.ends), None)
    if end is not None:
        return Generation(list(known[:end]), True)
    if len(known) >= limit:
        return Generation(list(known[:limit]), False)
    return Wanted(number, number, [*prompt, *known], limit - len(known), len(prompt), states=states)
