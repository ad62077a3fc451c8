"""Step: per-example records become metrics with intervals. Needs no model and no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.evaluation.score import score_all
from pipeline_lib.files import read_object, write_json
from pipeline_lib.made_of import made_of
from pipeline_lib.provenance import source_hash
from pipeline_lib.sealing import sealed_jsonl, sealed_object


def run(
    identity: dict[str, Any],
    run_path: Path,
    records_path: Path,
    equal_retain_path: Path,
    reference_path: Path | None,
    manifest_path: Path,
    out_path: Path,
    benchmarks_path: Path | None = None,
    toxicity_path: Path | None = None,
    judge_path: Path | None = None,
) -> None:
    """Write metrics.json of one run, held against the `retrained` model's records at `reference_path`.

    Without such a model (None) nothing is compared with it.
    `equal_retain_path`: the file that the evaluation wrote beside the records. `benchmarks_path` and
    `toxicity_path`: rows of these evaluations, where the study has them; `judge_path`: what was found
    out about the classifier of the latter.
    """
    info = read_object(run_path, "status", "diverged_step")
    diverged = info["status"] == "diverged"
    metrics, not_measured = (
        ([], [])
        if diverged
        else score_all(
            sealed_jsonl(records_path),
            None if reference_path is None else sealed_jsonl(reference_path),
            read_object(manifest_path),
            sealed_object(equal_retain_path, "status"),
            toxicity_rows=None if toxicity_path is None else sealed_jsonl(toxicity_path),
            judge=None if judge_path is None else read_object(judge_path),
            benchmark_rows=None if benchmarks_path is None else sealed_jsonl(benchmarks_path),
        )
    )
    for lack in not_measured:
        which = (
            ""
            if lack["not_measured"] == lack["of"]
            else f" for {lack['not_measured']} of {lack['of']} records"
        )
        print(f"{lack['metric']} of split {lack['split']}: not measured{which}, needs {lack['needs']}")
    write_json(
        out_path,
        {
            **identity,
            "made_of": {**made_of(info), "scored_by": source_hash(__name__)},
            "status": info["status"],
            "diverged_step": info["diverged_step"],
            "metrics": metrics,
            "not_measured": not_measured,
        },
    )
