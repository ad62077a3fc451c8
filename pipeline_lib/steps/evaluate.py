"""Step: one model folder becomes per-example records, from which every metric is computed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipeline_lib.data.prepare import load_splits
from pipeline_lib.evaluation.engine import evaluate_model
from pipeline_lib.files import read_json, write_jsonl
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.provenance import source_hash
from pipeline_lib.steps.common import data_hashes, fingerprint, start


def run(
    evaluation: dict[str, Any],
    max_length: int,
    device: str,
    threads: int,
    data_dir: Path,
    model_dir: Path,
    records_path: Path,
    work_dir: Path,
) -> None:
    """Score and generate on every split that the manifest names; a diverged run leaves no row."""
    info = read_json(model_dir / "run.json")
    if info["status"] == "diverged":
        write_jsonl(records_path, [])
        return
    place = start(device, threads)
    model, tokenizer, prompt_format, info = load_model_folder(model_dir)
    model.to(place).eval()
    names = read_json(data_dir / "manifest.json")["evaluate"]
    settings = {**evaluation, "max_length": max_length}
    rows = evaluate_model(
        model,
        tokenizer,
        prompt_format,
        load_splits(data_dir, names),
        settings,
        work_dir,
        fingerprint(settings, data_hashes(data_dir), info["weights_sha256"], source_hash(__name__)),
    )
    write_jsonl(records_path, rows)
    shutil.rmtree(work_dir, ignore_errors=True)
