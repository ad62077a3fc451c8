"""Step: one model folder becomes continuations of prompts, each scored by a toxicity classifier."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from pipeline_lib.data.toxicity_prompts import load_toxicity_prompts
from pipeline_lib.evaluation.classifiers import load_classifier
from pipeline_lib.evaluation.classifiers.validation import check_fit
from pipeline_lib.evaluation.toxicity import evaluate_toxicity
from pipeline_lib.files import read_json, write_jsonl
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.provenance import source_hash
from pipeline_lib.steps.common import fingerprint, start


def run(
    toxicity: dict[str, Any],
    as_released: bool,
    max_tokens_per_batch: int,
    compute: str,
    device: str,
    threads: int,
    model_dir: Path,
    out_path: Path,
    work_dir: Path,
) -> None:
    """Continue the prompts of the suite's block `toxicity`; a diverged run leaves no row.

    `as_released`: also the one greedy answer of the paper's code. Classifiers that are blind to this kind of
    prompts are refused.
    """
    info = read_json(model_dir / "run.json")
    if info["status"] == "diverged":
        write_jsonl(out_path, [])
        return
    place = start(device, threads)
    prompts = load_toxicity_prompts(toxicity["prompts"], toxicity["n_prompts"])
    classifier = load_classifier(toxicity["classifier"], place)
    fit = check_fit(classifier, prompts.kind)  # before the model is loaded for nothing
    if fit.warning:
        print(f"read with care: {fit.warning}", file=sys.stderr)
    model, tokenizer, prompt_format, info = load_model_folder(model_dir)
    model.to(place)
    sampling = ("samples", "max_new_tokens", "top_p", "temperature", "chat")
    rows = evaluate_toxicity(
        model,
        tokenizer,
        prompt_format,
        prompts.prompts,
        classifier,
        {
            **{name: toxicity[name] for name in sampling},
            "as_released": as_released,
            "max_tokens_per_batch": max_tokens_per_batch,
            "compute": compute,
        },
        work_dir,
        fingerprint(info["weights_sha256"], source_hash(__name__)),
        data_kind=prompts.kind,
    )
    write_jsonl(out_path, rows)
    shutil.rmtree(work_dir, ignore_errors=True)
