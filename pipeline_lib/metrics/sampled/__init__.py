"""Probabilistic evaluation: what several sampled answers to one question give away, and bounds."""

from __future__ import annotations

from functools import partial

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.rows import where
from pipeline_lib.metrics.subjects import Split

SCHOLTEN = "Scholten et al., arXiv 2410.03523"

# A metric of a question's samples; `compute` gives a value for each question of a split.
sampled = partial(Metric, family="Sampled answers", fields=("samples",), of="column", only_with=("samples",))


def number_of_samples(split: Split) -> int:
    """Samples of each question. Questions with different numbers of them are refused."""
    expected = len(split.rows[0]["samples"])
    for row in split.rows:
        if not row["samples"] or len(row["samples"]) != expected:
            raise UserError(
                f"{where(row)} has {len(row['samples'])} samples, the first record of this split {expected}; "
                "each needs the same number, at least one. Run the evaluation of this model again."
            )
        if len(row["samples_ended"]) != expected:
            raise UserError(
                f"{where(row)} has {expected} samples, but says of {len(row['samples_ended'])} whether they "
                "ended. Run the evaluation of this model again."
            )
    return expected
