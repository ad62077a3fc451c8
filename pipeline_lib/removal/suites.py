"""The suites under a removal: a sweep of learning rates, and the run that is chosen with its attacks.

Both have one name and one results folder, so that what the sweep made is not made again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_text
from pipeline_lib.models.settings import ModelSettings
from pipeline_lib.operations.plan.jobs import planned_jobs, seconds_of
from pipeline_lib.operations.plan.shape import Shape, shape_of
from pipeline_lib.removal.request import Prepared
from pipeline_lib.study import parse_suite
from pipeline_lib.study.attacks import OPENING

Raw = dict[str, Any]  # a suite as its file says it

NAME = "removal"
SLACK = 1.2  # starting jobs, and training at a slower pace than that of asking
UNLEARN = "unlearn"  # the rule of the runs
CHOSEN = "chosen"
FILE = "suite.yaml"
BATCH = 8
POINTS = 10
EVALUATED = 40  # records of what must stay known
LONGEST = 1024  # tokens that are read of a text, where the model reads as many
# A rate that unlearns SmolLM2-135M with AdamW in some ten epochs; published ones of 7B models are near 1e-5.
RATE, PARAMETERS = 5e-5, 1.35e8
LORA, LORA_RATE = {"rank": 16, "alpha": 32.0}, 10.0  # adapters take a rate about ten times as large
SHARES = (1.0, 3.0, 0.3)  # of that rate, in the order in which they are worth a try
PLANS = ((3, 10.0), (2, 10.0), (3, 5.0), (2, 5.0), (1, 5.0), (1, 2.0), (1, 1.0))  # rates, epochs


@dataclass(frozen=True)
class Sweep:
    """How much is tried: learning rates by label, each for so many epochs of the forget set."""

    rates: dict[str, float]
    epochs: float


def sweep_of(made: Prepared, count: int, epochs: float) -> Sweep:
    shape = _shape(made)
    size = PARAMETERS if shape is None else shape.parameters
    first = RATE * min(math.sqrt(PARAMETERS / size), 10.0) * (LORA_RATE if made.lora else 1.0)
    rates = [float(f"{first * share:.1e}") for share in SHARES[:count]]
    return Sweep({f"rate_{rate:.1e}".replace(".", "_"): rate for rate in rates}, epochs)


def fitting(made: Prepared, cores: int, pace: float) -> Sweep:
    """The largest sweep that, with the attacks, fits into the budget; a `UserError` says what is possible.

    `pace`: how long jobs take here, as a share of the plan's estimate.
    """
    needed = 0.0
    for count, epochs in PLANS:
        sweep = sweep_of(made, count, epochs)
        needed = SLACK * pace * minutes(made, sweep, cores)
        if needed <= made.request.budget:
            return sweep
    raise UserError(
        f"--budget {made.request.budget:g}m: one rate for one epoch, with evaluation and attacks, takes "
        f"about {math.ceil(needed)} minutes here. Give that much, or fewer texts"
    )


def asking_seconds(made: Prepared) -> float:
    """The plan's estimate for the evaluation of the model before, by which the pace is measured."""
    suite = parse_suite(tried(made, sweep_of(made, 1, 1.0)))
    return next(
        seconds_of(work)
        for job, work in planned_jobs(suite)
        if work is not None
        and job.rule == "evaluate"
        and job.run is not None
        and job.run.method == "original"
    )


def minutes(made: Prepared, sweep: Sweep, cores: int) -> float:
    """The plan's estimate for the whole request."""
    rate, steps = next(iter(sweep.rates.values())), round(sweep.epochs * epoch_steps(made))
    runs = [seconds for rule, seconds in _planned(tried(made, sweep)) if rule == UNLEARN]
    turns = math.ceil(len(runs) / cores)  # three runs on two cores take as long as four
    return turns * max(runs) / 60 + finishing(chosen(made, rate, steps), cores)


def finishing(raw: Raw, cores: int) -> float:
    """The plan's estimate for all of a suite, minutes. What follows the run waits for it."""
    jobs = _planned(raw)
    alone = sum(seconds for rule, seconds in jobs if rule == UNLEARN)
    return (alone + sum(seconds for rule, seconds in jobs if rule != UNLEARN) / cores) / 60


def _planned(raw: Raw) -> list[tuple[str, float]]:
    """Rule and estimated seconds of each job of a suite."""
    jobs = planned_jobs(parse_suite(raw))
    return [(job.rule, seconds_of(work)) for job, work in jobs if work is not None]


def epoch_steps(made: Prepared) -> int:
    return math.ceil(len(made.forget) / BATCH)


def tried(made: Prepared, sweep: Sweep) -> Raw:
    """The sweep: each rate is one run, judged by likelihood on its way."""
    optimizers = {label: _optimizer(made, rate) for label, rate in sweep.rates.items()}
    return _raw(made, optimizers, sweep.epochs)


def chosen(made: Prepared, rate: float, steps: int) -> Raw:
    """The run up to the chosen step, evaluated whole, and attacked as `original` is."""
    raw = _raw(made, {CHOSEN: _optimizer(made, rate)}, steps / epoch_steps(made))
    del raw["evaluation"]["trajectory"]
    return {**raw, "stages": dict(_stages(made, rate))}


def _stages(made: Prepared, rate: float) -> Iterator[tuple[str, dict[str, Any]]]:
    aimed = {"of": [f"{made.request.method}+{CHOSEN}", "original"]}
    if made.groups > 1:
        relearn = {"kind": "finetune", "batch_size": 4, "epochs": 5, "split": "forget", "groups": 0.5}
        adapters = {"lora": LORA} if made.lora else {}
        yield "relearn", {**relearn, "learning_rate": rate, "compute": "auto", **adapters, **aimed}
    yield "int4", {"kind": "quantise", "format": "int4", **aimed}
    if any(record.form == "question" for record in made.forget):  # running text is asked by its own words
        yield "begun", {"kind": "ask", "true_words": 3, **aimed}
        yield "opening", {**OPENING, **aimed}


def _raw(made: Prepared, optimizers: dict[str, Any], epochs: float) -> dict[str, Any]:
    request, shape = made.request, _shape(made)
    longest = min(LONGEST, (shape.context if shape is not None else None) or LONGEST)
    return {
        "suite": NAME,
        "seeds": [request.seed],
        "models": {"model": {**made.model, "max_length": longest}},
        "tasks": {
            "request": {
                "source": "files",
                "folder": str(made.folder.resolve()),
                "holdout": "holdout.jsonl",
                "learned": False,
            }
        },
        "unlearn": {
            "epochs": epochs,
            "batch_size": BATCH,
            "decay": "constant",
            "compute": "auto",
            **({"lora": LORA} if made.lora else {}),
        },
        "objectives": {request.method: {}},
        "optimizers": optimizers,
        **({"resources": made.resources} if made.resources else {}),
        "evaluation": {
            "max_records": {"retain": EVALUATED},
            "trajectory": {"points": POINTS, "utility": request.utility},
        },
    }


def _shape(made: Prepared) -> Shape | None:
    return shape_of(TypeAdapter(ModelSettings).validate_python(made.model))


def _optimizer(made: Prepared, rate: float) -> dict[str, Any]:
    return {"kind": made.request.optimizer, "learning_rate": rate}


def write_suite(raw: Raw, out: Path) -> Path:
    """Write the suite that Snakemake is given, without defaults: jobs then ask for what the plan says."""
    path = out / FILE
    write_text(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
    return path
