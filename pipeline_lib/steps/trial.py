"""Step: one tuning trial, an unlearning run whose model is scored in memory and not kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, run_again, write_json
from pipeline_lib.core.sealing import sealed_jsonl
from pipeline_lib.data.records import Record
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.engine.likelihoods import NotFiniteError, answer_only, likelihood_rows
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.forget_quality import forget_quality
from pipeline_lib.metrics.probability import probability
from pipeline_lib.metrics.truth_ratio import log_truth_ratio
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.unlearning import Unlearned, remove_checkpoints, unlearn_model


def run(job: Job) -> None:
    """Unlearn as the unlearning step would on this seed, and write what is left of both sets.

    The identity has the tuning seed and the number of the `trial`. Settings: those of `unlearn_model`;
    `tuned`, the settings in which the trials differ, by part of a run ("optimizer", "objective");
    `evaluation`: `max_records` and `max_tokens_per_batch`. Input `reference`: records of the retrained model
    of this seed, where the KS distance to it is wanted. A trial that diverges is a result like any other.
    """
    done = unlearn_model(job)
    if not done.writes:
        return
    outcome = done.outcome
    settings = ScoringSettings(**job.settings["evaluation"], max_length=job.settings["max_length"])
    asked = _records(job.data, settings)
    values = None if outcome.status != "ok" else _values(done, asked, settings, job.optional("reference"))
    shares = [row["clipped_share"] for row in outcome.log if row["clipped_share"] is not None]
    _, retain_split = asked
    result = {
        **job.identity,
        "tuned": job.settings["tuned"],
        "settings": {
            "objective": job.settings["objective"],
            "optimizer": job.settings["optimizer"],
            "training": done.facts["training"],
        },
        "status": "diverged" if values is None else "ok",
        # Weights that give no number after the last step are lost with that step.
        "diverged_step": (outcome.diverged_step or outcome.steps) if values is None else None,
        "forget_probability": None,
        "retain_probability": None,
        "retain_nll": None,
        "ks_statistic": None,
        **(values or {}),
        "retain_split": retain_split,
        "records": {split: len(records) for split, records in asked.items()},
        "steps": outcome.steps,
        "train_time_s": outcome.train_time_s,
        "clipped_share": sum(shares) / len(shares) if shares else None,
        "peak_memory_mb": done.facts["peak_memory_mb"],
        "git_commit": done.facts["git_commit"],
    }
    write_json(job.output("trial"), result)
    remove_checkpoints(job.workplace)


def _records(data_dir: Path, settings: ScoringSettings) -> dict[str, list[Record]]:
    """The forget and the retain questions that the evaluation asks, in this order."""
    evaluated = read_object(data_dir / "manifest.json", "evaluate")["evaluate"]
    retain = "retain_eval" if "retain_eval" in evaluated else "retain"
    splits = load_splits(data_dir, [FORGET_SPLIT, retain])
    return {split: settings.records_of(split, records) for split, records in splits.items()}


def _values(
    done: Unlearned,
    asked: dict[str, list[Record]],
    settings: ScoringSettings,
    reference_path: Path | None,
) -> dict[str, float | None] | None:
    """What is left of both sets; None if the model's weights give numbers that are not finite."""
    done.model.float().eval()  # as the saved model would be evaluated
    scores = {}
    for split, records in asked.items():
        with_options = split == FORGET_SPLIT and reference_path is not None
        shown = records if with_options else [answer_only(record) for record in records]
        try:
            scores[split] = likelihood_rows(
                done.model, done.tokenizer, done.prompt_format, split, shown, settings
            )
        except NotFiniteError:
            return None
    forget, retain = scores.values()
    return {
        "forget_probability": _probability(forget),
        "retain_probability": _probability(retain),
        "retain_nll": fmean(row["answer_nll"] / row["answer_tokens"] for row in retain),  # nats a token
        "ks_statistic": None if reference_path is None else _distance(forget, reference_path),
    }


def _probability(rows: Sequence[Row]) -> float:
    return fmean(probability(row["answer_nll"], row["answer_tokens"]) for row in rows)


def _distance(rows: Sequence[Row], reference_path: Path) -> float:
    """KS distance between the truth ratios of this model and of the retrained one, on the same questions."""
    reference = [row for row in sealed_jsonl(reference_path) if row["split"] == FORGET_SPLIT]
    if {row["id"] for row in rows} != {row["id"] for row in reference}:
        raise UserError(
            f"{reference_path}: the retrained model was asked other forget questions ({len(reference)}) than "
            f"this trial ({len(rows)}). {run_again(reference_path)}"
        )
    bare = [row["id"] for row in rows if not row["distractor_nll"]]
    if bare:
        raise UserError(
            f"tune.select.forget is ks_statistic, but {len(bare)} of {len(rows)} forget records have no "
            f"distractors ({bare[0]} is the first), which the truth ratio needs; choose probability"
        )
    return forget_quality(_log_ratios(rows), _log_ratios(reference)).ks_statistic


def _log_ratios(rows: Sequence[Row]) -> list[float]:
    return [
        log_truth_ratio(
            row["paraphrase_nll"],
            row["paraphrase_tokens"],
            row["distractor_nll"],
            row["distractor_tokens"],
        )
        for row in rows
    ]
