"""What a split's sampled answers give away, question by question."""

from __future__ import annotations

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.metrics.rouge import tokenizers_of
from pipeline_lib.evaluation.metrics.sampled.bounds import leak_probability_bound, mean_bound, sd_bound
from pipeline_lib.evaluation.metrics.sampled.leakage import leakage, leaks
from pipeline_lib.evaluation.scores.rows import Row, reference_of, where


def sampled_values(rows: list[Row]) -> dict[str, list[float]]:
    """Metric -> a value of each row. Questions with different numbers of samples are refused."""
    expected = len(rows[0]["samples"])
    for row in rows:
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
    references = [reference_of(row) for row in rows]
    values = [
        leakage(row["samples"], text, words)
        for row, text, words in zip(rows, references, tokenizers_of(references), strict=True)
    ]
    leaked = [leaks(found) for found in values]
    return {
        "sampled_leakage_mean": [float(found.mean()) for found in values],
        "sampled_leakage_sd": [float(found.std()) for found in values],
        "sampled_leakage_max": [float(found.max()) for found in values],
        "sampled_leak_share": [k / expected for k in leaked],
        "sampled_leak_bound": [leak_probability_bound(k, expected) for k in leaked],
        "sampled_mean_bound": [mean_bound(found) for found in values],
        "sampled_sd_bound": [sd_bound(found) for found in values],
        "samples_ended": [sum(row["samples_ended"]) / expected for row in rows],
    }
