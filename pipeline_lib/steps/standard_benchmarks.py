"""Step: one model folder becomes rows of standard benchmarks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipeline_lib.evaluation.benchmarks.evaluate import evaluate_benchmarks
from pipeline_lib.evaluation.benchmarks.harness import run_harness
from pipeline_lib.files import read_object
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.models.forward import pad_token
from pipeline_lib.provenance import source_hash
from pipeline_lib.sealing import write_sealed_jsonl
from pipeline_lib.steps.common import fingerprint, place_for_evaluation, start

ENGINES = {"builtin": evaluate_benchmarks, "lm_eval": run_harness}


def run(
    benchmarks: dict[str, Any],
    max_tokens_per_batch: int,
    device: str,
    threads: int,
    model_dir: Path,
    out_path: Path,
    work_dir: Path,
) -> None:
    """Ask every benchmark of the suite's block `benchmarks`; a diverged run leaves no row.

    The questions are put in the benchmark's own form, not in the model's prompt format, as is usual.
    """
    info = read_object(model_dir / "run.json")
    if info["status"] == "diverged":
        write_sealed_jsonl(out_path, [])
        return
    place = start(device, threads)
    model, tokenizer, _, info = load_model_folder(model_dir)
    place_for_evaluation(model, place)
    rows = ENGINES[benchmarks["engine"]](
        model,
        tokenizer,
        benchmarks["tasks"],
        limit=benchmarks["limit"],
        mmlu_shots=benchmarks["mmlu_shots"],
        folder=benchmarks["folder"],
        max_tokens_per_batch=max_tokens_per_batch,
        pad_id=pad_token(tokenizer),
        work_dir=work_dir,
        fingerprint=fingerprint(info["weights_sha256"], source_hash(__name__)),
    )
    write_sealed_jsonl(out_path, rows)
    shutil.rmtree(work_dir, ignore_errors=True)
