"""A removal from the request to the certificate, in runs of the workflow, which go on where they ended."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import atomic_path
from pipeline_lib.core.redaction import visible
from pipeline_lib.core.runs import NO_OPTIMIZER, RunKey
from pipeline_lib.metrics.study import Scores
from pipeline_lib.operations.launching import launch
from pipeline_lib.operations.plan import check_inputs
from pipeline_lib.removal.certificate import Found, write_certificate
from pipeline_lib.removal.evidence import Knowledge, Place, candidates, gentler, left_of, places, scores_of
from pipeline_lib.removal.machine import at_once, made_to_fit, resources
from pipeline_lib.removal.request import Prepared, Request, prepare
from pipeline_lib.removal.suites import (
    CHOSEN,
    LORA,
    NAME,
    SLACK,
    Raw,
    Sweep,
    asking_seconds,
    chosen,
    epoch_steps,
    finishing,
    fitting,
    minutes,
    sweep_of,
    tried,
    write_suite,
)
from pipeline_lib.study import Suite, parse_suite

ORIGINAL = RunKey("request", "model", "original", NO_OPTIMIZER, 0)
FASTEST = 0.1  # of the plan's estimates: no machine that was tried took less
TRIES = 4  # models that are asked for their answers before one is chosen
MODEL, ADAPTER = "model", "adapter"  # folders of the unlearned model and of what was added to the weights


@dataclass(frozen=True)
class Outcome:
    """What a removal left, and what the model knew before and knows now.

    The tables, figures and report of the study underneath are made by `unlearning run` with its suite.yaml.
    """

    model: Path
    certificate: Path
    before: Knowledge
    after: Knowledge
    adapter: Path | None = None


@dataclass(frozen=True)
class Ready:
    """A request that is checked: its data and the suite of the sweep are written, and nothing has run."""

    made: Prepared
    suite: Suite
    path: Path


def ready(request: Request, cores: int | None, say: Callable[[str], None] = print) -> Ready:
    """Check a request, and write its data and its first suite.

    Raises `UserError` for what cannot be asked for, read, or done within the budget on any machine.
    """
    cores = _cores(cores)
    prepared = replace(prepare(request), resources=resources())
    try:  # where a method and an optimiser each exist, and cannot be used like this
        parse_suite(tried(prepared, sweep_of(prepared, 1, 1.0)))
    except UserError as error:
        raise UserError(f"--method {request.method} --optimizer {request.optimizer}: {error}") from None
    made = made_to_fit(prepared)
    for note in made.notes:
        say(visible(note))
    raw = tried(made, fitting(made, at_once(made, cores), FASTEST))
    suite = parse_suite(raw)
    check_inputs(suite)
    say(f"{len(made.forget)} texts in {made.groups} groups; {request.method} with {request.optimizer}")
    return Ready(made, suite, write_suite(raw, request.out))


def _cores(cores: int | None) -> int:
    if cores is not None and cores < 1:
        raise UserError(f"cores: expected one or more, found {cores}; leave it out for all")
    return cores or os.cpu_count() or 1


def forget(
    request: Request,
    cores: int | None = None,
    verbose: bool = False,
    say: Callable[[str], None] = print,
) -> Outcome:
    """Unlearn the texts, and leave everything in `request.out`. The same request goes on where it ended.

    Raises `UserError` as `ready` does, for texts that the model shows no knowledge of, where no run keeps the
    utility, and where a job fails.
    """
    began = time.monotonic()
    asked = ready(request, cores, say)
    made, cores = asked.made, at_once(asked.made, _cores(cores))
    work = _Work(request.out, str(cores), verbose)
    before = work.asked(asked.path, ORIGINAL._replace(seed=request.seed))
    known = Knowledge.of(before)
    say(f"The model: {known.text()}.")
    if not known.shown and not request.anyway:
        raise UserError(
            "the model shows no knowledge of these texts, so there is nothing to forget. What it may know "
            "under other words was not asked; --anyway goes on"
        )
    pace = work.seconds(ORIGINAL._replace(seed=request.seed)) / asking_seconds(made)
    sweep = fitting(made, cores, pace)
    rates = ", ".join(f"{rate:g}" for rate in sweep.rates.values())
    say(
        f"Learning rates {rates}, {sweep.epochs:g} epochs each; with attacks about "
        f"{max(1, round(SLACK * pace * minutes(made, sweep, cores)))} minutes at the pace of this machine"
    )
    found = places(work.sweep(write_suite(tried(made, sweep), request.out), sweep, made), before)
    ends = began + 60 * request.budget
    asked_too = _answering(
        work, made, found, before, lambda raw: ends - 60 * SLACK * pace * finishing(raw, cores), say
    )
    nearest = max(asked_too, key=lambda place: (asked_too[place] >= request.utility, asked_too[place]))
    final = chosen(made, nearest.rate, nearest.step)
    work.run(write_suite(final, request.out), results(request.out) / "metrics.csv")
    return _finish(made, sweep, found, asked_too, nearest, parse_suite(final))


def _answering(
    work: _Work,
    made: Prepared,
    found: list[Place],
    before: Scores,
    latest: Callable[[Raw], float],
    say: Callable[[str], None],
) -> dict[Place, float]:
    """Models asked for their answers, until one keeps the utility with them too, and what each keeps.

    The nearest to texts not seen comes first. `latest`: when what is left of a suite must begin, as
    `time.monotonic`.
    """
    request, asked = made.request, dict[Place, float]()
    after = ORIGINAL._replace(seed=request.seed, method=request.method, optimizer=CHOSEN)
    left = candidates(found, request.utility, before)
    while left and len(asked) < TRIES:
        place, raw = left[0], chosen(made, left[0].rate, left[0].step)
        if asked and time.monotonic() > latest(raw):
            break
        asked[place] = kept = left_of(work.asked(write_suite(raw, request.out), after), before)
        say(
            f"Learning rate {place.rate:g}, step {place.step} ({place.step / epoch_steps(made):.1f} epochs): "
            f"{kept:.2f} of the utility is left, {place.utility:.2f} by likelihood alone"
        )
        if kept >= request.utility:
            break
        left = gentler(left, place, kept, request.utility)
    return asked


@dataclass(frozen=True)
class _Work:
    """Runs of the workflow in the folder of a request."""

    out: Path
    cores: str
    verbose: bool

    def run(self, path: Path, *targets: Path) -> None:
        """Make these files."""
        wanted = [str(target.relative_to(self.out)) for target in targets]
        if launch(path, self.out, self.cores, wanted, self.verbose, brief=True):
            raise UserError(
                f"a job failed, as said above, or was stopped; the same command goes on ({self.out})"
            )

    def asked(self, path: Path, key: RunKey) -> Scores:
        """The scores of a model, made where they are not there."""
        file = results(self.out) / "evaluations" / key.folder / "scores.csv"
        self.run(path, file)
        return scores_of(file)

    def seconds(self, key: RunKey) -> float:
        """How long its evaluation took."""
        kept = results(self.out) / "benchmarks" / "evaluate" / f"{key.folder}.tsv"
        return float(kept.read_text(encoding="utf-8").splitlines()[1].split("\t")[0])

    def sweep(self, path: Path, sweep: Sweep, made: Prepared) -> dict[float, Path]:
        """The logs of the runs by learning rate."""
        request = made.request
        logs = {}
        for label, rate in sweep.rates.items():
            key = ORIGINAL._replace(method=request.method, optimizer=label, seed=request.seed)
            logs[rate] = results(self.out) / "training" / key.folder / "steps.jsonl"
        self.run(path, *logs.values())
        return logs


def results(out: Path) -> Path:
    return out / "results" / NAME


def _finish(
    made: Prepared,
    sweep: Sweep,
    found: list[Place],
    asked: dict[Place, float],
    chosen: Place,
    final: Suite,
) -> Outcome:
    """The model and the certificate under their final names."""
    request, place = made.request, results(made.request.out)
    before = ORIGINAL._replace(seed=request.seed)
    after = before._replace(method=request.method, optimizer=CHOSEN)
    with atomic_path(request.out / MODEL) as folder:
        shutil.copytree(place / "models" / after.folder, folder)
    adapter = request.out / ADAPTER if request.adapter else None
    if adapter is not None:
        from pipeline_lib.removal.adapter import write_adapter  # torch, which a dry run does without

        old, new = (place / "models" / key.folder for key in (before, after))
        write_adapter(old, new, int(LORA["rank"]), adapter, request.model)
    certificate = write_certificate(Found(made, sweep, found, asked, chosen, final, before, after, place))
    was, now = (
        Knowledge.of(scores_of(place / "evaluations" / key.folder / "scores.csv")) for key in (before, after)
    )
    return Outcome(request.out / MODEL, certificate, was, now, adapter)
