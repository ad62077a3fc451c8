"""A row of records.jsonl as the engine writes it, for scoring."""

from __future__ import annotations

from typing import Any


def make_row(id: str, split: str, group: str = "g", **changes: Any) -> dict[str, Any]:
    """Per token: answer 0.1 nats, paraphrase 0.5, wrong answers 1.0 and 2.0."""
    row: dict[str, Any] = {
        "id": id,
        "group": group,
        "split": split,
        "prompt": "Who?",
        "answer": "Ada Lovelace wrote it",
        "generation": "Ada wrote it",
        "answer_nll": 0.4,
        "answer_tokens": 4,
        "paraphrase_nll": 2.0,
        "paraphrase_tokens": 4,
        "distractor_nll": [5.0, 6.0],
        "distractor_tokens": [5, 3],
        "token_nll": [0.1, 0.1, 0.1, 0.1],
        "argmax_correct": [1, 0, 1, 1],
        "generation_tokens": 4,
        "generation_ended": True,
    }
    return row | changes
