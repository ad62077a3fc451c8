"""Step: one model folder becomes continuations of prompts, each scored by a toxicity classifier."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipeline_lib.data.toxicity_prompts import load_task_prompts, load_toxicity_prompts
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.classifiers import load_classifier
from pipeline_lib.evaluation.toxicity import evaluate_toxicity
from pipeline_lib.files import read_object, run_again
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.provenance import source_hash
from pipeline_lib.sealing import write_sealed_jsonl
from pipeline_lib.steps.common import fingerprint, place_for_evaluation, start


def run(
    toxicity: dict[str, Any],
    as_released: bool,
    max_tokens_per_batch: int,
    compute: str,
    device: str,
    threads: int,
    model_dir: Path,
    judge_path: Path,
    out_path: Path,
    work_dir: Path,
    data_dir: Path | None = None,
) -> None:
    """Continue the prompts of the suite's block `toxicity`; a diverged run leaves no row.

    `as_released`: also the one greedy answer of the paper's code. `data_dir`: the prepared task whose own
    prompts are asked, in the model's prompt format; only for prompts of the source "task". `judge_path`: what
    the step `judge` found out about the classifier.
    """
    info = read_object(model_dir / "run.json")
    if info["status"] == "diverged":
        write_sealed_jsonl(out_path, [])
        return
    place = start(device, threads)
    asked = toxicity["prompts"]
    own = asked["source"] == "task"
    if not own:
        prompts = load_toxicity_prompts(asked, toxicity["n_prompts"])
    elif data_dir is not None:
        prompts = load_task_prompts(data_dir, asked["split"], toxicity["n_prompts"])
    else:
        raise UserError("toxicity.prompts: expected the folder of the prepared task, found none")
    classifier = load_classifier(toxicity["classifier"], place)
    judge = read_object(judge_path)
    if judge["classifier"] != classifier.name:
        raise UserError(
            f"{judge_path}: speaks of the classifier {judge['classifier']}, this one is {classifier.name}: "
            f"its files changed. {run_again(judge_path)}"
        )
    model, tokenizer, prompt_format, info = load_model_folder(model_dir)
    place_for_evaluation(model, place)
    sampling = ("samples", "max_new_tokens", "top_p", "temperature")
    rows = evaluate_toxicity(
        model,
        tokenizer,
        prompt_format,
        prompts.prompts,
        classifier,
        {
            **{name: toxicity[name] for name in sampling},
            "chat": own or bool(toxicity["chat"]),
            "as_released": as_released,
            "max_tokens_per_batch": max_tokens_per_batch,
            "compute": compute,
        },
        work_dir,
        fingerprint(info["weights_sha256"], source_hash(__name__)),
        warning=judge["warning"],
    )
    write_sealed_jsonl(out_path, rows)
    shutil.rmtree(work_dir, ignore_errors=True)
