"""Step: choose the settings of one row from its trials. Needs no model and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, run_again, write_json
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.sealing import sealed_jsonl
from pipeline_lib.metrics.probability import probability
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.selection import at_edge, choose

PARTS = ("optimizer", "objective")


def run(job: Job) -> None:
    """Write `chosen`: the chosen values of the tuned settings, and everything the choice was made from.

    Settings: `select`, the suite's rule; `ranges`, part of a run -> setting -> range; `seeds` of the tuning.
    Inputs: `trials`, results of every trial on every seed; `original`, for each of `seeds` in order the
    records of the model before unlearning.
    """
    select = job.settings["select"]
    runs = grouped((result["trial"], result) for result in map(read_object, job.several("trials")))
    _in_one_precision([result for results in runs.values() for result in results])
    first = next(iter(runs.values()))[0]
    split, asked = first["retain_split"], first["records"][first["retain_split"]]
    originals = zip(job.settings["seeds"], job.several("original"), strict=True)
    original = {seed: _retain_probability(path, split, asked) for seed, path in sorted(originals)}
    choice = choose(runs, original, select["forget"], select["retain_within"])
    tuned = {number: of_trial[0]["tuned"] for number, of_trial in runs.items()}
    chosen = tuned[choice["trial"]]
    trials = [
        {**trial, **tuned[trial["trial"]], "runs": [_of_seed(one) for one in runs[trial["trial"]]]}
        for trial in choice.pop("trials")
    ]
    write_json(
        job.output("chosen"),
        {
            **{part: chosen[part] for part in PARTS},
            **choice,
            "select": select,
            "budget": {"trials": len(runs), "seeds": sorted(original)},
            "ranges": job.settings["ranges"],
            "at_edge": {
                part: at_edge([settings[part] for settings in tuned.values()], chosen[part]) for part in PARTS
            },
            "trials": trials,
        },
    )


def _in_one_precision(results: Sequence[dict[str, Any]]) -> None:
    """Trials are compared with each other, so `compute: auto` must have become the same in all of them."""
    found = grouped((result["settings"]["training"]["compute"], result) for result in results)
    if len(found) > 1:
        told = ", ".join(f"{len(trials)} in {compute}" for compute, trials in found.items())
        raise UserError(
            f"the trials were computed on machines of which `compute: auto` made different things: {told}. "
            "Write fp32 or bf16 in the suite's `unlearn.compute`, and give the same command again."
        )


def _retain_probability(path: Path, split: str, asked: int) -> float:
    """Mean probability of the answers of `split` in a model's records."""
    values = [
        probability(row["answer_nll"], row["answer_tokens"])
        for row in sealed_jsonl(path)
        if row["split"] == split
    ]
    if len(values) != asked:
        raise UserError(
            f"{path}: holds {len(values)} records of {split}, but the trials were asked {asked}. "
            f"{run_again(path)}"
        )
    return sum(values) / len(values)


def _of_seed(result: dict[str, Any]) -> dict[str, Any]:
    """What one run of a trial found, without what differs from machine to machine."""
    names = ("seed", "status", "diverged_step", "forget_probability", "retain_probability", "retain_nll")
    return {name: result[name] for name in (*names, "ks_statistic", "clipped_share")}
