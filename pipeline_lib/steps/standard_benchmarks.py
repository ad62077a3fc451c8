"""Step: evaluate one model folder on standard benchmarks."""

from __future__ import annotations

import shutil

from pipeline_lib.benchmarks.data import Asked
from pipeline_lib.benchmarks.harness import evaluate_benchmarks
from pipeline_lib.benchmarks.harness_model import EngineLM
from pipeline_lib.core.sealing import write_sealed_jsonl
from pipeline_lib.steps.common import fingerprint, load_for_evaluation, lost, start
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Ask the model every benchmark of the suite's block `benchmarks`; a run without a model leaves no row.

    Settings: that block, and `batch`, the tokens of one forward pass, padding included. As is usual, the
    questions have the benchmark's own form, not the model's prompt format.
    """
    if lost(job.input("model")):
        write_sealed_jsonl(job.output("rows"), [])
        return
    model, tokenizer, _, info = load_for_evaluation(job.input("model"), start(job.device, job.threads))
    lm = EngineLM(model, tokenizer, max_tokens_per_batch=job.settings["batch"])
    rows = evaluate_benchmarks(
        lm,
        Asked(**job.settings["benchmarks"]),
        job.workplace,
        fingerprint(info["weights_sha256"], job.code),
    )
    write_sealed_jsonl(job.output("rows"), rows)
    shutil.rmtree(job.workplace, ignore_errors=True)
