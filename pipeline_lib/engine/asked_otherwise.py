"""The rows of a model that is asked in other ways than its own (stages/ask.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.asked import Way, ways_of
from pipeline_lib.data.records import Record
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import EvaluationSettings, SplitSampling
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.models.prompt import PromptFormat

Splits = dict[str, list[Record]]
Evaluated = Callable[[PromptFormat, Splits, EvaluationSettings], list[Row]]
TOP_P = 0.9  # of answers drawn under attack (Scholten et al. 2024, arXiv 2410.03523, section 5)


@dataclass(frozen=True)
class Asking:
    """`settings`: those of a stage `ask`. `context`: how many tokens the model reads; None if unbounded."""

    settings: Mapping[str, Any]
    prompt_format: PromptFormat
    context: int | None

    def rows(self, splits: Splits, evaluation: EvaluationSettings, evaluated: Evaluated) -> list[Row]:
        """Rows as of a plain evaluation; of several phrasings each record's most likely answer.

        `phrasing` in a row says which, from 0. `UserError` where no forget question is asked otherwise.
        """
        ways = ways_of(self.settings)
        told = self.settings["instruction"]
        asked = replace(self.prompt_format, instruction=told) if told else self.prompt_format
        found = [evaluated(asked, self._asked(way, splits), self._evaluation(evaluation)) for way in ways]
        return found[0] if len(ways) == 1 else [_worst(rows) for rows in zip(*found, strict=True)]

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
