"""Generated texts are data: what a study was published with must come out of every later version."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from pipeline_lib.data.records import row_of
from pipeline_lib.tasks import task_settings

DIGESTS = [
    (
        {
            **{"source": "passages", "book": "generated", "retain": {"source": "generated", "n": 6}},
            **{"n_chunks": 8, "unseen_chunks": 4, "holdout_chunks": 2, "chunk_tokens": 40},
            "prompt_tokens": [10, 20],
        },
        "233e591ade9fe79b",
    ),
    ({"source": "fictitious", "holdout_authors": 2}, "721500b252aa991f"),
    ({"source": "manners", "holdout": 10}, "40064f1357905307"),
]


def digest(raw: dict[str, Any]) -> str:
    splits = task_settings(raw).load().splits
    rows = {name: [row_of(record) for record in records] for name, records in splits.items()}
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize(("raw", "expected"), DIGESTS)
def test_the_same_settings_give_the_same_texts(raw: dict[str, Any], expected: str) -> None:
    assert digest(raw) == expected
