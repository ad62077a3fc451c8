"""One pass of a model over the records of all splits: likelihoods and answers, one row a record.

Every metric is computed later from these rows alone (`steps/score.py`), without the model. Each finished
split is kept in a file, so that a killed job continues after the last whole split and returns the same rows.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.durations import duration
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, write_jsonl
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import check_split
from pipeline_lib.engine.progress import Progress
from pipeline_lib.engine.questions import with_example
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import EvaluationSettings, Parts
from pipeline_lib.engine.split_run import SplitRun
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.models.memory import peak_memory_mb
from pipeline_lib.models.products import packed_weights

if TYPE_CHECKING:
    from pipeline_lib.engine.split_run import Embedder
    from pipeline_lib.models.prompt import PromptFormat

PART_FORMAT = 3  # raise it when rows change their meaning, so that old parts are not reused


def evaluate_model(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    splits: dict[str, list[Record]],
    settings: EvaluationSettings,
    parts: Parts,
    embed: Embedder | None = None,
    progress: bool = True,
) -> list[Row]:
    """Rows of records.jsonl for all splits, in the order of `splits` and of their records.

    `parts` keeps finished splits; its fingerprint names the embedder too. `embed` gives unit vectors (N, D)
    of texts; None leaves similarities out. The model stays on its device and is put into evaluation mode.

    Raises `UserError` before the model runs for an empty split, a distractor that equals the answer, a text
    that is too long, and settings that cannot work; while it runs, for numbers that are not finite.
    """
    chosen = {split: settings.records_of(split, records) for split, records in splits.items()}
    for split, records in chosen.items():
        check_split(split, records)
    adversarial = with_example(prompt_format, splits.get("retain_eval") or splits.get("retain") or [])
    model.eval()
    runs = {
        split: SplitRun(
            model,
            tokenizer,
            prompt_format,
            split,
            records,
            settings,
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
    with bar, packed_weights(model):
        for split, run in runs.items():
            part = parts.path(split, _depends_on(run))
            kept = _kept(part, len(run.questions))
            if kept is None:
                write_jsonl(part, run.rows(bar))
                kept = read_jsonl(part)
            else:
                bar.kept(works[split])
            rows += kept
    peak = peak_memory_mb(model.get_input_embeddings().weight.device)
    bar.say(f"evaluated in {duration(time.perf_counter() - started)}, peak memory {peak:,.0f} MiB")
    return rows


def _kept(part: Path, count: int) -> list[Row] | None:
    """Rows of a split that an earlier process finished; None unless all of them are there."""
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


def _depends_on(run: SplitRun) -> dict[str, Any]:
    """What the rows of a split depend on, beside the model."""
    settings, split = run.settings, run.split
    return {
        "format": PART_FORMAT,
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
