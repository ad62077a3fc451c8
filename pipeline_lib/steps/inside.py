"""Step: look into one model, layer by layer, for the answers that it should not know."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.core.sealing import write_sealed_jsonl
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.engine.inside import SPLIT, Answering, look_inside
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.steps.common import load_for_evaluation, lost, start
from pipeline_lib.steps.job import Job


def run(job: Job) -> None:
    """Write what each layer shows of the forget answers; a run without a model leaves no row.

    Settings: `inside`, `max_records` and `layers` of the suite's block; `batch`, the tokens of one forward
    pass, padding included; `max_length`; `depth`, whether states are put into the layers of the input
    `original`, for the depth score. Without that input the model is `original` itself: there its own states
    change nothing, so its drops are 0 without a pass. Where `original` was lost, there is the lens alone.
    """
    if lost(job.input("model")):
        write_sealed_jsonl(job.output("rows"), [])
        return
    place, inside = start(job.device, job.threads), job.settings["inside"]
    settings = ScoringSettings(
        max_tokens_per_batch=job.settings["batch"],
        max_records={SPLIT: inside["max_records"]},
        max_length=job.settings["max_length"],
    )
    records = settings.records_of(SPLIT, load_splits(job.data, [SPLIT])[SPLIT])

    def answering(folder: Path) -> Answering:
        return Answering.of(*load_for_evaluation(folder, place)[:3], records, settings.max_length)

    original = job.optional("original")
    patched = None if original is None or lost(original) else answering(original)
    rows = look_inside(answering(job.input("model")), patched, records, settings, inside["layers"])
    if job.settings["depth"] and original is None:
        rows = [{**row, "drop": [0.0] * len(row["layers"])} for row in rows]
    write_sealed_jsonl(job.output("rows"), rows)
