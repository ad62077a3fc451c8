"""Step: choose the settings of one row from its trials. Needs no model and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, write_json
from pipeline_lib.core.grouping import grouped
from pipeline_lib.metrics.definition import FRONT_GAP, NotMeasured
from pipeline_lib.metrics.gap import gap_of
from pipeline_lib.metrics.joint_utility import BLIND, LIKELIHOOD, joint_utility
from pipeline_lib.metrics.path import front_of
from pipeline_lib.metrics.study import Scores, Studied
from pipeline_lib.reporting.scores import utility_splits
from pipeline_lib.steps.job import Job
from pipeline_lib.steps.likelihood_scores import scores_of, scores_of_records
from pipeline_lib.steps.selection import FORGET_VALUES, OK, SKIPPED, at_edge, choose

PARTS = ("optimizer", "objective")


def run(job: Job) -> None:
    """Write `chosen`: the chosen values of the tuned settings, and everything the choice was made from.

    Settings: `select`, the rule, with the `level` of comparison where the rule is the gap there; `ranges`,
    part of a run -> setting -> range; `seeds` of the tuning; `forget_draw`, whose groups the trials forgot
    (None: those that are reported). Inputs: the `manifest` of the data of tuning; `trials`, results of every
    trial on every seed; `original` and, where the rule is a gap, `retrained`: for each of `seeds` in order
    the records of these models; `widened`, the ranges of every round after the first, if there are any, in
    which those of this `row` are found.
    """
    select, seeds = job.settings["select"], job.settings["seeds"]
    results = [result for result in map(read_object, job.several("trials")) if result["status"] != SKIPPED]
    trials = grouped((result["trial"], result) for result in results)
    widened = [read_object(path, "skipped", "ranges") for path in _later(job)]
    rounds = [found["ranges"][job.settings["row"]] for found in widened if not found["skipped"]]
    _in_one_precision(results)
    beside = _Beside.read(job)
    runs = {number: [beside.values(result) for result in of_trial] for number, of_trial in trials.items()}
    least = select.get("level", 1 - select["utility_within"])
    choice = choose(runs, select["forget"], least)
    tuned = {number: of_trial[0]["tuned"] for number, of_trial in trials.items()}
    chosen = tuned[choice["trial"]]
    listed = [
        {**trial, **tuned[trial["trial"]], "runs": runs[trial["trial"]]} for trial in choice.pop("trials")
    ]
    write_json(
        job.output("chosen"),
        {
            **{part: chosen[part] for part in PARTS},
            **choice,
            "select": select,
            "forget_draw": job.settings["forget_draw"],
            "budget": {"trials": len(runs), "rounds": 1 + len(rounds), "seeds": sorted(seeds)},
            "ranges": rounds[-1] if rounds else job.settings["ranges"],
            "at_edge": {
                part: at_edge([settings[part] for settings in tuned.values()], chosen[part]) for part in PARTS
            },
            "trials": listed,
        },
    )


def _later(job: Job) -> list[Path]:
    return job.several("widened") if job.inputs.get("widened") else []


@dataclass(frozen=True)
class _Beside:
    """The models that trials are held against: `original` by tuning seed, and `retrained` of every seed."""

    original: Mapping[int, Scores]
    retrained: Sequence[Scores]
    utility: Sequence[str]
    level: float | None  # of joint utility, at which runs are compared that are judged on their way

    @classmethod
    def read(cls, job: Job) -> _Beside:
        manifest = read_object(job.input("manifest"), "evaluate", "utility", "multiple_choice")

        def scores(path: Path) -> Scores:
            return scores_of_records(path, manifest)

        originals = dict(zip(job.settings["seeds"], map(scores, job.several("original")), strict=True))
        select = job.settings["select"]
        by_gap = select["forget"] != "probability"
        retrained = list(map(scores, job.several("retrained"))) if by_gap else []
        return cls(originals, retrained, utility_splits(manifest), select.get("level"))

    def values(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """What one run of a trial comes to, without what differs from machine to machine."""
        kept = {name: result[name] for name in ("seed", "status", "diverged_step", "clipped_share")}
        if result["status"] != OK:
            return {**kept, **dict.fromkeys((*FORGET_VALUES.values(), "joint_utility"))}
        study = Studied(
            scores_of(result["questions"]),
            self.retrained,
            self.original[result["seed"]],
            list(self.original.values()),
            self.utility,
            [(row["step"], row["judged"]) for row in result.get("judged", ())],
            self.level,
        )
        try:
            utility = joint_utility(study, LIKELIHOOD).value
        except NotMeasured:
            raise UserError(
                f"no utility split ({', '.join(self.utility)}) has a probability of {BLIND:g} or more under "
                "`original`, so that nothing says what a trial may lose. Let `original` learn more "
                "(`finetune`), or leave `tune` out and set the settings by hand."
            ) from None
        return {
            **kept,
            FRONT_GAP: None if self.level is None else _on_the_front(study),
            "gap": gap_of(study) if self.retrained else None,
            "forget_probability": study.forget.mean("probability"),
            "joint_utility": utility,
        }


def _on_the_front(study: Studied) -> float:
    point = front_of(study)
    assert point is not None  # trials are judged on their way where this is asked
    return point.gap


def _in_one_precision(results: Sequence[dict[str, Any]]) -> None:
    """Trials are compared with each other, so `compute: auto` must have become the same in all of them."""
    found = grouped((result["settings"]["training"]["compute"], result) for result in results)
    if len(found) > 1:
        told = ", ".join(f"{len(trials)} in {compute}" for compute, trials in found.items())
        raise UserError(
            f"the trials were computed on machines of which `compute: auto` made different things: {told}. "
            "Write fp32 or bf16 in the suite's `unlearn.compute`, and give the same command again."
        )
