"""Step: ask one model, and write the per-example records from which every metric is computed."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline_lib.core.files import read_object, write_text
from pipeline_lib.core.sealing import seal_file, write_sealed_jsonl
from pipeline_lib.data.records import Record
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.engine.embedding import load_embedder
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.likelihoods import answers_only
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import (
    ASKED,
    EQUAL_RETAIN,
    LIKELIHOOD_ONLY,
    SOFT_PROMPT,
    EvaluationSettings,
    Parts,
    SplitSampling,
)
from pipeline_lib.models.encoder_settings import EncoderSettings
from pipeline_lib.models.forward import context_length
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.steps.common import data_hashes, fingerprint, load_for_evaluation, lost, start
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Score and generate on every split that the manifest names; a run without a model leaves no row.

    Settings: `evaluation`, the part of the suite's block of that name that concerns the records; `embedder`,
    the sentence encoder of answer accuracy, or None; `max_length`; `equal_retain`. With the last, a share,
    the unlearned model is also judged where it retains nearly as much as the model `original`, from which it
    was made (see engine/equal_retain.py). The `status` in the output `equal_retain` is "off" without it, as
    for the models that others are compared with; else it is the run's, and if "ok" the
    rows follow. `ask`: the settings of a stage of that kind, by which the model is asked in other ways
    than its own (stages/ask.py). `likelihood_only`: true answers are read, and none written.
    """
    model_dir, original_dir, data_dir = job.input("model"), job.optional("original"), job.data
    equal_retain, given = job.settings["equal_retain"], job.settings["embedder"]
    embedder: EncoderSettings | None = TypeAdapter(EncoderSettings | None).validate_python(given)
    records_path, equal_retain_path = job.output("records"), job.output("equal_retain")
    if (equal_retain is None) != (original_dir is None):
        raise ValueError("equal_retain needs the original model, and nothing else does")
    if (status := lost(model_dir)) is not None:
        write_sealed_jsonl(records_path, [])
        _write(equal_retain_path, {"status": "off" if equal_retain is None else status})
        return
    place = start(job.device, job.threads)
    model, tokenizer, prompt_format, info = load_for_evaluation(model_dir, place)
    manifest = read_object(data_dir / "manifest.json")
    splits = load_splits(data_dir, manifest["evaluate"])
    if job.settings.get(LIKELIHOOD_ONLY):
        choice = manifest["multiple_choice"]
        splits = {name: answers_only(records, options=name in choice) for name, records in splits.items()}
    settings = _settings(job, manifest)
    embed = None if embedder is None else load_embedder(embedder, place)
    depends_on = (asdict(settings), given, data_hashes(data_dir), info["weights_sha256"], job.code)
    parts = Parts(job.workplace, fingerprint(*depends_on))

    def evaluated(
        asked: PromptFormat, splits: dict[str, list[Record]], settings: EvaluationSettings
    ) -> list[Row]:
        return evaluate_model(model, tokenizer, asked, splits, settings, parts, embed)

    if (ask := job.settings.get("ask")) is None:
        rows = evaluated(prompt_format, splits, settings)
    else:
        softened = None
        if (soft := ask.get("soft_prompt")) is not None:
            seed = job.identity["seed"]
            softened = import_module(SOFT_PROMPT).Softening(soft, model, tokenizer, seed).learned
        asking = import_module(ASKED).Asking(ask, prompt_format, context_length(model), softened)
        rows = asking.rows(splits, settings, evaluated)
    if embed is not None and embed.truncated:
        print(
            f"{embed.name}: {embed.truncated} texts were compared by their beginning alone", file=sys.stderr
        )
    matched: dict[str, Any] = {"status": "off"}
    if original_dir is not None and equal_retain is not None:
        del model  # loaded anew for every mixture
        matched = {
            "status": "ok",
            **import_module(EQUAL_RETAIN).rows_at_equal_retain(
                lambda: load_for_evaluation(model_dir, place)[0],
                load_for_evaluation(original_dir, place)[0],
                tokenizer,
                prompt_format,
                splits,
                settings,
                equal_retain,
            ),
        }
    write_sealed_jsonl(records_path, rows)
    _write(equal_retain_path, matched)
    shutil.rmtree(job.workplace, ignore_errors=True)


def _settings(job: Job, manifest: dict[str, Any]) -> EvaluationSettings:
    """What the suite asks for, on the splits that the task has for it."""
    evaluation, samples = job.settings["evaluation"], job.settings["evaluation"]["samples"]
    membership = [] if manifest["membership"] is None else list(manifest["membership"].values())
    return EvaluationSettings(
        **{name: value for name, value in evaluation.items() if name not in ("grad_norm", "samples")},
        samples=None if samples is None else SplitSampling(**samples),
        distribution_splits=membership,
        grad_norm_splits=membership if evaluation["grad_norm"] else [],
        likelihood_only=manifest["evaluate" if job.settings.get(LIKELIHOOD_ONLY) else "likelihood_only"],
        max_length=job.settings["max_length"],
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    """JSON on one line: with indentation, every token of every row would have a line of its own."""
    write_text(path, json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n")
    seal_file(path)
