"""The rows of a model that is asked in other ways than its own (stages/ask.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.asked import Way, ways_of
from pipeline_lib.data.records import Record
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import EvaluationSettings, ScoringSettings, SplitSampling
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.models.prompt import PromptFormat

Splits = dict[str, list[Record]]
Evaluated = Callable[[PromptFormat, Splits, EvaluationSettings], list[Row]]
# From the forget questions to a context with another prompt format, and what rows say of those learned, by id
Softened = Callable[
    [PromptFormat, Sequence[Record], ScoringSettings],
    AbstractContextManager[tuple[PromptFormat, Mapping[str, Row]]],
]
TOP_P = 0.9  # of answers drawn under attack (Scholten et al. 2024, arXiv 2410.03523, section 5)


@dataclass(frozen=True)
class Asking:
    """`settings`: those of a stage `ask`. `context`: how many tokens the model reads; None if unbounded.

    `softened`: how a soft prompt is learned for a way of asking (soft_prompt.py); None: there is none.
    """

    settings: Mapping[str, Any]
    prompt_format: PromptFormat
    context: int | None
    softened: Softened | None = None

    def rows(self, splits: Splits, evaluation: EvaluationSettings, evaluated: Evaluated) -> list[Row]:
        """Rows as of a plain evaluation; of several phrasings each record's most likely answer.

        `phrasing` in a row says which, from 0; `soft_prompt` in the row of a question on which a soft prompt
        was learned, how likely its target became. `UserError` where no forget question is asked otherwise.
        """
        ways = ways_of(self.settings)
        found = [
            self._rows(self._asked(way, splits), self._evaluation(evaluation), evaluated) for way in ways
        ]
        return found[0] if len(ways) == 1 else [_worst(rows) for rows in zip(*found, strict=True)]

    def _rows(self, asked: Splits, evaluation: EvaluationSettings, evaluated: Evaluated) -> list[Row]:
        told = self.settings["instruction"]
        prompt = replace(self.prompt_format, instruction=told) if told else self.prompt_format
        if self.softened is None:
            return evaluated(prompt, asked, evaluation)
        with self.softened(prompt, asked[FORGET_SPLIT], evaluation) as (soft, learned):
            rows = evaluated(soft, asked, evaluation)
        return [
            {**row, "soft_prompt": learned[row["id"]]}
            if row["split"] == FORGET_SPLIT and row["id"] in learned
            else row
            for row in rows
        ]

    def _asked(self, way: Way, splits: Splits) -> Splits:
        found = {split: way.of(records) for split, records in splits.items()}
        changes = way != Way()
        if changes and found[FORGET_SPLIT] == splits[FORGET_SPLIT]:
            raise UserError(
                "asking in this way changes no forget question: they are running text, have no paraphrase, "
                "or no other question of their group. Leave the attack out of this task (`tasks`)."
            )
        return found

    def _evaluation(self, evaluation: EvaluationSettings) -> EvaluationSettings:
        """Without the paper's own protocol, which asks in a way of its own; longer prompts have room."""
        drawn = self.settings["samples"]
        samples = evaluation.samples
        if drawn is not None:
            samples = SplitSampling(n=drawn, temperature=1.0, top_p=TOP_P, splits=[FORGET_SPLIT])
        length = evaluation.max_length if self.context is None else max(self.context, evaluation.max_length)
        return replace(evaluation, as_released=False, samples=samples, max_length=length)


def _worst(rows: Sequence[Row]) -> Row:
    """Of one record under several phrasings: the row under which its answer is most likely, per token."""
    best = min(range(len(rows)), key=lambda i: rows[i]["answer_nll"] / rows[i]["answer_tokens"])
    return {**rows[best], "phrasing": best}
