"""What the engine writes with everything switched on is what scoring reads: each metric of rows comes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline_lib.data.records import Record
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.settings import Parts
from pipeline_lib.metrics import declared
from tests.engine.conftest import SETTINGS, settings_of
from tests.metrics.scored import score_run

MANIFEST = {
    "evaluate": ["forget", "retain", "facts", "passages", "holdout"],
    "utility": ["retain", "facts"],
    "multiple_choice": ["facts"],
    "likelihood_only": ["holdout"],
    "membership": {"members": "forget", "nonmembers": "holdout"},
    "preference": ["forget"],
}
# measured apart, or only for 40 questions, 100 non-members and answers beyond ASCII
APART = {"Toxicity", "Benchmarks", "At equal retention", "Inside the model"}
NOT_OF_ROWS = {metric.name for metric in declared().values() if metric.family in APART}
NOT_OF_ROWS |= {name for name in declared() if name.endswith(("_n40", "_tpr_at_1_fpr")) or "toxicity" in name}
NOT_OF_ROWS.add("unicode_answers")
NOT_OF_ROWS |= {name for name, metric in declared().items() if metric.on == "study"}  # of all models together


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

    parts = Parts(tmp_path, "tiny")
    return evaluate_model(
        model, tokenizer, prompt_format, splits, settings_of(settings), parts, embed, progress=False
    )


def test_every_metric_of_rows_comes_out_of_the_engines_rows(rows):
    metrics = score_run(rows, rows, MANIFEST)
    assert {row["metric"] for row in metrics} == set(declared()) - NOT_OF_ROWS
    for row in metrics:
        low, high = declared()[row["metric"]].range
        assert low <= row["value"] <= high, row
