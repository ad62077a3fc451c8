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
    Beside drops, `into` is the hash of the weights of `original`.
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

    def answering(folder: Path) -> tuple[Answering, str]:
        model, tokenizer, prompt_format, info = load_for_evaluation(folder, place)
        asked = Answering.of(model, tokenizer, prompt_format, records, settings.max_length)
        return asked, info["weights_sha256"]

    original_dir = job.optional("original")
    own, weights = answering(job.input("model"))
    original: Answering | None = None
    if original_dir is not None and lost(original_dir) is None:
        original, weights = answering(original_dir)
    rows = look_inside(own, original, records, settings, inside["layers"])
    if job.settings["depth"] and original_dir is None:
        rows = [{**row, "drop": [0.0] * len(row["layers"])} for row in rows]
    # Drops in one `original` compare, those in two do not.
    write_sealed_jsonl(
        job.output("rows"), [{**row, "into": weights} if "drop" in row else row for row in rows]
    )
