"""What the engine writes with everything switched on is what scoring reads: each metric of rows comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline_lib.data.records import Record
from pipeline_lib.evaluation.engine import evaluate_model
from pipeline_lib.evaluation.metrics import METRICS
from pipeline_lib.evaluation.metrics.tables import FAMILIES
from pipeline_lib.evaluation.score import score_run
from tests.evaluation.conftest import SETTINGS

MANIFEST = {
    "evaluate": ["forget", "retain", "facts", "passages", "holdout"],
    "utility": ["retain", "facts"],
    "multiple_choice": ["facts"],
    "likelihood_only": ["holdout"],
    "membership": {"members": "forget", "nonmembers": "holdout"},
    "preference": ["forget"],
}
# measured apart, or only for 40 questions, 100 non-members and answers beyond ASCII
NOT_OF_ROWS = {
    metric.name for name in ("Toxicity", "Benchmarks", "At equal retention") for metric in FAMILIES[name]
}
NOT_OF_ROWS |= {name for name in METRICS if name.endswith(("_n40", "_tpr_at_1_fpr")) or "toxicity" in name}
NOT_OF_ROWS.add("unicode_answers")


@pytest.fixture
def rows(tiny, records, tmp_path):
    model, tokenizer, prompt_format = tiny
    splits = {
        split: [
            replace(record, id=f"{split}-{record.id}", paraphrased_prompt=f"Tell me: {record.prompt}")
            for record in records
        ]
        for split in MANIFEST["evaluate"]
    }
    splits["passages"] = [Record(f"p{i}", "The book of", f" river {i}.", "p", form="text") for i in (1, 2)]
    settings = SETTINGS | {
        "likelihood_only": ["holdout"],
        "distribution_splits": ["forget", "holdout"],
        "grad_norm_splits": ["forget", "holdout"],
        "samples": {"n": 2, "temperature": 1.0, "top_p": 1.0, "splits": ["forget"]},
        "as_released": True,
    }

    def embed(texts):
        vectors = np.random.default_rng(0).normal(size=(len(texts), 4))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return evaluate_model(
        model, tokenizer, prompt_format, splits, settings, tmp_path, "tiny", embed=embed, progress=False
    )


def test_every_metric_of_rows_comes_out_of_the_engines_rows(rows):
    metrics = score_run(rows, rows, MANIFEST)
    assert {row["metric"] for row in metrics} == set(METRICS) - NOT_OF_ROWS
    for row in metrics:
        low, high = METRICS[row["metric"]].range
        assert low <= row["value"] <= high, row
