"""Models of a made-up study, as metrics on a study see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline_lib.metrics.questions import VALUES, questions_of
from pipeline_lib.metrics.study import Scores, Studied


def scores(**splits: Sequence[tuple[Any, ...]]) -> Scores:
    """From (group, log-probability), for utility splits with (..., probability, ROUGE-L recall, fluency)."""
    return questions_of(
        {
            "split": split,
            "group": group,
            "id": f"{split}{i}",
            **dict.fromkeys(VALUES),
            **dict(zip(VALUES, values, strict=False)),
        }
        for split, questions in splits.items()
        for i, (group, *values) in enumerate(questions)
    )


def study(
    model: Scores, *retrained: Scores, original: Scores | None = None, utility: Sequence[str] = ()
) -> Studied:
    before = original or model
    return Studied(model, retrained, before, [before], utility)
