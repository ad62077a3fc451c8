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

from pipeline_lib.engine.full_batches import FREE, Generation, Wanted, continue_rows, fitting
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.greedy_beginning import greedy_beginning
from pipeline_lib.engine.likelihoods import check_finite, likelihoods_and_states

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
        # those with most room come first, so that what does not fit in memory fails early
        self._rest = sorted(range(len(asked)), key=lambda i: (-self._row(i).room, i))

    def run(self) -> None:
        """Score all groups, and answer those that have a limit."""
        answered = any(asked.limit for asked in self._asked)
        if answered and self._decoding.compute == "fp32":
            self.answers |= continue_rows(self._model, self, None, self._decoding, self._bar.did)
            return
        self._score(self._rest, keep=False)
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

    def more(self) -> bool:
        return bool(self._rest)

    def take(self, batch: Sequence[Wanted]) -> list[Wanted]:
        taken: list[Wanted] = []
        while self._rest and not taken:
            rows = [self._row(i) for i in self._rest]
            free, whole = (
                fitting(self._model, beside, rows, self._decoding.max_tokens_per_batch)
                for beside in (batch, ())
            )
            if free < min(len(rows), max(1, int(FREE * whole))):
                break  # fewer groups are not scored fast
            part, self._rest = self._rest[:free], self._rest[free:]
            states = self._score(part, keep=True)
            self._bar.begin("answering", self._split)
            for i, own in zip(part, states, strict=True):
                if (row := self._begun(i, own)) is not None:
                    taken.append(row)
            self._bar.did(len(part) - len(taken))
        return taken

    def _row(self, number: int) -> Wanted:
        asked = self._asked[number]
        return Wanted(number, number, asked.prompt, asked.limit, asked.texts[0].prompt_length)

    def _score(self, part: Sequence[int], keep: bool) -> list[States | None]:
        """Score groups; with `keep` keys and values of the prompt and what is known of the answer."""
        self._bar.begin("scoring", self._split)

        def wanted(place: int, likelihoods: list[TextLikelihood]) -> list[int]:
            asked = self._asked[part[place]]
            return [*asked.prompt, *self._known(asked, likelihoods)][:-1]

        scores, states = likelihoods_and_states(
            self._model,
            [self._asked[i].texts for i in part],
            wanted if keep else None,
            max_tokens_per_batch=self._decoding.max_tokens_per_batch,
            pad_id=self._decoding.pad_id,
            distribution=self._distribution,
            on_progress=self._bar.did,
        )
        for i, own in zip(part, scores, strict=True):
            check_finite(f"split {self._split!r}, record {self._asked[i].record!r}", own)
            self.likelihoods[i] = own
        return states

    def _known(self, asked: Asked, likelihoods: Sequence[TextLikelihood]) -> list[int]:
        """The beginning of the greedy answer, as the scored texts after this prompt show it."""
        prompt = asked.prompt
        pairs = [
            (text.tokens[len(prompt) :], likelihood.argmax)
            for text, likelihood in zip(asked.texts, likelihoods, strict=True)
            if text.prompt_length == len(prompt) and text.tokens[: len(prompt)] == tuple(prompt)
        ]
        return greedy_beginning(
            [text for text, _ in pairs], [argmax for _, argmax in pairs], self._decoding.ends
        )

    def _begun(self, number: int, states: States | None) -> Wanted | None:
        """The row that goes on from what is known of the answer; None if that is all of it."""
        asked = self._asked[number]
        known = self._known(asked, self.likelihoods[number])
        row = begun(number, asked.prompt, known, asked.limit, states, self._decoding)
        if isinstance(row, Wanted):
            return row
        self.answers[number] = row
        return None


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
