"""One pass of a model over the records of all splits: likelihoods and answers, one row an example.

Every metric is computed later from these rows alone (`steps/score.py`), without the model. Each finished
split is kept in a work folder, so that a killed job continues after the last whole split and returns the same
rows.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, write_jsonl
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import check_split
from pipeline_lib.engine.progress import Progress, duration
from pipeline_lib.engine.questions import with_example
from pipeline_lib.engine.rows import Row, likelihood_row
from pipeline_lib.engine.settings import EvaluationSettings, ScoringSettings
from pipeline_lib.engine.split_run import SplitRun
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.models.forward import pad_token
from pipeline_lib.models.memory import peak_memory_mb
from pipeline_lib.models.products import packed_weights

if TYPE_CHECKING:
    from pipeline_lib.engine.split_run import Embedder
    from pipeline_lib.models.prompt import PromptFormat

__all__ = ["EvaluationSettings", "ScoringSettings", "evaluate_model", "likelihood_row", "pad_token"]

PART_FORMAT = 3  # raise it when rows change their meaning, so that old parts are not reused


def evaluate_model(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    splits: dict[str, list[Record]],
    settings: dict[str, Any],
    work_dir: Path,
    fingerprint: str,
    embed: Embedder | None = None,
    progress: bool = True,
) -> list[Row]:
    """Rows of records.jsonl for all splits, in the order of `splits` and of their records.

    `fingerprint` names the model (the hash of its weights) and the embedder. `work_dir` receives one file a
    finished split, named after fingerprint, settings and records; the caller may delete it once the rows are
    stored. `embed` gives unit vectors (N, D) of texts; None leaves similarities out.
    The model stays on its device and is put into evaluation mode.

    Raises `UserError` before the model runs for an empty split, a distractor that equals the answer, a text
    that is too long, and settings that cannot work; while it runs, for numbers that are not finite.
    """
    resolved = EvaluationSettings(**settings)
    chosen = {split: resolved.records_of(split, records) for split, records in splits.items()}
    for split, records in chosen.items():
        check_split(split, records)
    retain = splits.get("retain_eval") or splits.get("retain") or []
    adversarial = with_example(prompt_format, retain)
    model.eval()
    runs = {
        split: SplitRun(
            model,
            tokenizer,
            prompt_format,
            split,
            records,
            resolved,
            embed,
            adversarial if split == FORGET_SPLIT else None,
        )
        for split, records in chosen.items()
    }
    works = {split: run.work() for split, run in runs.items()}
    started = time.perf_counter()
    bar = Progress(list(works.values()), show=progress)
    bar.announce(len(chosen), sum(map(len, chosen.values())))
    rows: list[Row] = []
    with bar.bar, packed_weights(model):
        for split, run in runs.items():
            part = Path(work_dir) / _part_name(run, fingerprint)
            kept = _kept(part, len(run.questions))
            if kept is None:
                write_jsonl(part, run.rows(bar))
                kept = read_jsonl(part)
            else:
                bar.skip(works[split])
            rows += kept
    peak = peak_memory_mb(model.get_input_embeddings().weight.device)
    bar.say(f"evaluated in {duration(time.perf_counter() - started)}, peak memory {peak:,.0f} MiB")
    return rows


def _kept(part: Path, count: int) -> list[Row] | None:
    """Rows of a split that an earlier process finished; None where there are none, or not all of them."""
    if not part.is_file():
        return None
    try:
        rows = read_jsonl(part)
    except UserError as error:
        print(f"{error}; this split is evaluated again", file=sys.stderr)
        return None
    if len(rows) != count:
        print(f"{part}: {len(rows)} rows of {count}; this split is evaluated again", file=sys.stderr)
        return None
    return rows


def _part_name(run: SplitRun, fingerprint: str) -> str:
    """A split's file name: equal only if model, records, prompt, ends and the settings that matter are."""
    settings, split = run.settings, run.split
    depends_on = {
        "format": PART_FORMAT,
        "model": fingerprint,
        "split": split,
        "prompt": run.prompt_format.to_dict(),
        "ends": sorted(run.ends),
        "settings": {
            **asdict(settings),
            "max_new_tokens": settings.new_tokens_of(split) if settings.generates(split) else None,
            "max_records": len(run.questions),
            "similarity": run.embedder is not None,
            "adversarial": None if run.adversarial is None else run.adversarial.to_dict(),
        },
        "records": [asdict(question.record) for question in run.questions],
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return f"{split}-{digest[:16]}.jsonl"
