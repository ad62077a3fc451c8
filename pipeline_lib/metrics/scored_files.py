"""The metrics of one model from the files in which its evaluations left what they measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline_lib.core.files import read_object
from pipeline_lib.core.sealing import sealed_jsonl, sealed_object
from pipeline_lib.metrics.scores import Scored, score_all


def score_files(files: Mapping[str, Path | None]) -> Scored:
    """`score_all` of `records`, `manifest`, `equal_retain`, and where the study has them (else None)
    `reference`, the records of `retrained`, `toxicity`, `judge`, `benchmarks`, `inside` and that of
    `retrained`, `inside_reference`.
    """
    needed = {name: path for name, path in files.items() if path is not None}
    reference, toxicity, benchmarks, inside, inside_reference = (
        sealed_jsonl(needed[name]) if name in needed else None
        for name in ("reference", "toxicity", "benchmarks", "inside", "inside_reference")
    )
    return score_all(
        sealed_jsonl(needed["records"]),
        reference,
        read_object(needed["manifest"]),
        sealed_object(needed["equal_retain"], "status"),
        toxicity_rows=toxicity,
        judge=read_object(needed["judge"]) if "judge" in needed else None,
        benchmark_rows=benchmarks,
        inside=None if inside is None else (inside, inside_reference),
    )
