"""Small logs and records whose numbers can be worked out by hand. Losses are multiples of log 2."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

from pipeline_lib.peers.tofu_log import PARTS

BIT = log(2)


def tofu_log(forget: int = 4, first: int = 0, shift: float = 0.0) -> dict[str, Any]:
    """A TOFU log: two rows in each part but the forget part, which asks questions `first` and on.

    Every row: P(answer) 1/2, P(paraphrase) 1/2, P(wrong) 1/4 and 1/16, so R = 4, or 3.2 in the arithmetic
    form; ROUGE-L 1 and 0 in turn. `shift` makes the forget set's wrong answers less likely.
    """
    return {
        file: _part(file, range(first, first + forget), shift) if name == "Forget" else _part(file, range(2))
        for name, file in PARTS.items()
    }


def _part(file: str, questions: range, shift: float = 0.0) -> dict[str, Any]:
    rows = {str(i): question for i, question in enumerate(questions)}
    return {
        "avg_gt_loss": dict.fromkeys(rows, BIT),
        "avg_paraphrased_loss": dict.fromkeys(rows, BIT),
        "average_perturb_loss": {
            row: [2 * BIT + shift + 0.001 * q, 4 * BIT + shift] for row, q in rows.items()
        },
        "rougeL_recall": {row: float(int(row) % 2 == 0) for row in rows},
        "generated_text": {
            row: [f"[INST] {file} {q}? [/INST]", "It is.", f"A{q}"] for row, q in rows.items()
        },
    }


def save(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def record(split: str, i: int, **changed: Any) -> dict[str, Any]:
    """A row of records.jsonl: two answer tokens and the end token, all right but the first."""
    row = {
        "id": f"{split}-{i}",
        "group": f"author{i // 2}",
        "split": split,
        "prompt": f"Question {i}?",
        "answer": "It is in Oslo",
        "generation": "It is in Rome" if i % 2 else "It is in Oslo",
        "answer_nll": 3 * BIT,
        "answer_tokens": 3,
        "paraphrase_nll": 2 * BIT + 0.01 * i,
        "paraphrase_tokens": 2,
        "distractor_nll": [4 * BIT, 4 * BIT],
        "distractor_tokens": [2, 1],
        "token_nll": [2 * BIT, 0.5 * BIT, 0.5 * BIT],
        "argmax_correct": [0, 1, 1],
    }
    return row | changed


MANIFEST: dict[str, Any] = {
    "evaluate": ["forget", "retain", "real_authors", "world_facts", "holdout"],
    "utility": ["retain", "real_authors", "world_facts"],
    "multiple_choice": ["real_authors", "world_facts"],
    "likelihood_only": ["holdout"],
    "membership": {"members": "forget", "nonmembers": "holdout"},
}


def records(known: float = 1.0) -> list[dict[str, Any]]:
    """A whole run. `known`: by how much the forget answers are likelier than the holdout's."""
    rows = [
        record(split, i) for split in ("forget", "retain", "real_authors", "world_facts") for i in range(4)
    ]
    for i in range(4):
        row = record("holdout", i, token_nll=[(2 + known + 0.1 * i) * BIT, 0.5 * BIT, 0.5 * BIT])
        row["answer_nll"] = sum(row["token_nll"])
        for name in ("generation", "distractor_nll", "distractor_tokens"):
            del row[name]
        rows.append(row)
    return rows
