"""What the workflow asks of a study: inputs, parameters and requests of each job, and messages for people."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline_lib.core.blocks import Block, tag
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locking import hold_lock
from pipeline_lib.core.provenance import source_hash
from pipeline_lib.core.redaction import visible
from pipeline_lib.core.runs import BASE, FINE_TUNED, MATCHED
from pipeline_lib.data.contents import Contents
from pipeline_lib.operations.listing import refreshed
from pipeline_lib.operations.plan import (
    check_access,
    check_fits,
    check_inputs,
    check_same_study,
    check_unchanged,
    finished,
    pairs_of_targets,
    plan_text,
)
from pipeline_lib.operations.plan.requests import MODELS, Requests
from pipeline_lib.operations.status.ending import ending_text
from pipeline_lib.operations.tracking.follow import start_tracking
from pipeline_lib.reporting.catalog import PAPER_FIGURES, PAPER_TABLES
from pipeline_lib.study import Suite
from pipeline_lib.study.contents_read import identities
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import RULES, Files, Job, is_model, listed
from pipeline_lib.tasks import sources

Wildcards = Any  # of Snakemake: a mapping whose keys are attributes too
Placed = str | list[str]


class Running:
    """A study as a run of the workflow sees it; every path begins with the results folder `out`.

    `refuse`: the exception to raise where something that was asked for is not part of the suite.
    """

    def __init__(self, suite: Suite, refuse: type[Exception] = UserError) -> None:
        self.suite, self.out, self._refuse = suite, Path("results") / suite.suite, refuse
        self.graph = Graph(suite)
        self._contents, self._known = Contents(), dict[int, dict[str, str]]()
        self._started, self._ends = time.time(), list[Callable[[], None]]()

    def job(self, rule: str, wildcards: Wildcards) -> Job:
        """The job of this rule that the wildcards name."""
        wildcard = RULES[rule].wildcard
        name = wildcards[wildcard] if wildcard else ""
        job = self.graph.jobs.get((rule, name))
        if job is None:
            raise self._refuse(
                f"the suite {self.suite.suite!r} has no {rule} {name}; "
                "`unlearning status --all` lists its jobs"
            )
        return job

    # --- what a rule says -----------------------------------------------------------------------------

    def outputs(self, rule: str, **flags: Callable[[Any], Any]) -> dict[str, Any]:
        """The output files of a rule by name, with Snakemake's flags for some of them."""
        placed = {name: self.placed(files) for name, files in RULES[rule].outputs.items()}
        return {name: flags[name](files) if name in flags else files for name, files in placed.items()}

    def log(self, rule: str) -> str:
        return f"{self.out}/logs/{RULES[rule].place(rule)}.log"

    def benchmark(self, rule: str) -> str:
        return f"{self.out}/benchmarks/{RULES[rule].place(rule)}.tsv"

    def patterns(self, rule: str) -> dict[str, str]:
        """The constraint of the rule's wildcard. Its method decides which rule makes a model."""
        made = {
            "base": model_pattern([BASE]),
            "finetune": model_pattern(FINE_TUNED),
            "unlearn": rf"{model_pattern(self.suite.objectives)}(?:\.{MATCHED})?",
        }
        asked = [re.escape(label) for label, stage in self.suite.stages.items() if stage.asks]
        made["ask"] = rf"{RULES['ask'].pattern}\.(?:{'|'.join(asked)})" if asked else "(?!)"
        made["stage"] = f"(?!(?:{'|'.join(made.values())})(?:/|$)){RULES['stage'].pattern}"
        return {RULES[rule].wildcard: made.get(rule, RULES[rule].pattern)}

    def inputs(self, rule: str, ancient: Callable[[Any], Any]) -> Callable[[Wildcards], dict[str, Any]]:
        """An input function: the files of a job by name.

        Snakemake runs a job again where both the time and the content of an input differ from its notes.
        Inputs that it cannot compare get its flag `ancient`, so that times do not count: folders of models,
        each of which has the run.json of its training as a second input; and every file of results that were
        fetched without Snakemake's notes.
        """

        def files(wildcards: Wildcards) -> dict[str, Any]:
            return {
                name: ancient(self.placed(some))
                if not self._noted or any(map(is_model, listed(some)))
                else self.placed(some)
                for name, some in self.job(rule, wildcards).inputs.items()
            }

        return files

    @cached_property
    def _noted(self) -> bool:
        """Whether Snakemake's notes on the results are here, or there are no results."""
        name = base64.urlsafe_b64encode(f"{self.out}/runs.json".encode()).decode()
        here = (self.out / "runs.json").is_file()  # made early, and with every study that ran to its report
        return not here or (Path(".snakemake/metadata") / name).is_file()

    def params(self, rule: str) -> Callable[[Wildcards], dict[str, Any]]:
        """A parameter function: all that a job's result depends on beside its files, as plain values.

        `code` is the hash of the code that the job runs, `inputs` that of the files that it reads on this
        machine; neither depends on where the checkout lies or when a file was written.
        """

        def given(wildcards: Wildcards) -> dict[str, Any]:
            job = self.job(rule, wildcards)
            read = {name: self._contents_of(block) for name, block in job.reads}
            identity = {
                "suite": self.suite.suite,
                **({} if job.run is None else job.run._asdict()),
                **({} if job.trial is None else {"trial": job.trial}),
            }
            return {
                "step": job.code[0],
                "settings": {**job.settings, **read},
                "identity": identity,
                "code": source_hash(*job.code),
                "work": None if job.work is None else f"{self.out}/{job.work}",
            }

        return given

    def placed(self, files: Files) -> Placed:
        return f"{self.out}/{files}" if isinstance(files, str) else [f"{self.out}/{file}" for file in files]

    def _contents_of(self, block: Block | None) -> dict[str, str]:
        if id(block) not in self._known:
            self._known[id(block)] = identities(block, self._contents)
        return self._known[id(block)]

    # --- what a rule asks for -------------------------------------------------------------------------

    @cached_property
    def _requests(self) -> Requests:
        return Requests(self.suite, len(self.graph.models))

    def resources(self, rule: str) -> dict[str, Any]:
        """What a job of the rule asks for, more at every try: see plan/requests.py."""
        return {
            **self._devices(rule),
            "mem_mb": lambda wildcards, attempt: self._requests.memory_mb(self.job(rule, wildcards), attempt),
            "runtime": lambda wildcards, attempt: self._requests.minutes(self.job(rule, wildcards), attempt),
        }

    def _devices(self, rule: str) -> dict[str, Any]:
        """Where a job of the rule runs, as its `needs` say; a function for each where its jobs differ."""
        asked = {
            needs: self._asked(needs == "training")
            for needs in MODELS
            if any(job.rule == rule and job.needs == needs for job in self.graph.jobs.values())
        }
        if len(asked) < 2:
            return next(iter(asked.values()), {})

        def of_job(name: str) -> Callable[[Wildcards], Any]:
            return lambda wildcards: asked[self.job(rule, wildcards).needs][name]

        return {name: of_job(name) for name in asked["training"]}

    def _asked(self, training: bool) -> dict[str, int | str | None]:
        """Device, GPUs, processes and machines of a job with a model; None is not asked for.

        With several machines SLURM counts GPUs by machine.
        """
        resources = self.suite.resources
        several = training and resources.nodes > 1
        gpus = resources.gpus if training else min(resources.gpus, 1)
        return {
            "device": None if resources.device == "auto" else resources.device,
            "gpu": None if several else gpus or None,
            "gres": f"gpu:{gpus}" if several and gpus else None,
            "nodes": resources.nodes if several else None,
            "processes": resources.per_node if training and (several or resources.per_node > 1) else None,
            "sharding": resources.sharding if training and resources.sharding != "none" else None,
        }

    # --- the paper's items ----------------------------------------------------------------------------

    def paper(self, name: str) -> list[str]:
        """The files of an item of the paper, where the suite has a task for it."""
        item = (PAPER_TABLES | PAPER_FIGURES)[name]
        if not self.graph.shown.tasks_of_item(item):
            wanted = " or ".join(name for name, task in sources().items() if task.shown_as == item.shown_as)
            found = dict.fromkeys(tag(type(task)) for task in self.suite.tasks.values())
            raise self._refuse(
                f"paper_{name} shows tasks with the source {wanted}, and the suite {self.suite.suite!r} has "
                f"none (its sources: {', '.join(found)}). Add such a task to the suite, or name a suite that "
                "has one with --configfile."
            )
        rule = "paper_table" if name in PAPER_TABLES else "paper_figure"
        return [f"{self.out}/{path}" for path in self.graph.jobs[rule, name].outputs.values()]

    # --- before and after -----------------------------------------------------------------------------

    def look_at_inputs(self, targets: Collection[str]) -> list[str]:
        """Raise one `UserError` for data and models that cannot be read; return lines on the unchecked rest.

        `targets`: what was asked for by name. A part of the study does not need the files of the other parts.
        """
        pairs = pairs_of_targets(self.suite, targets) if targets else None
        check_same_study(self.suite, self.out)
        if not self._noted:
            check_unchanged(self.suite, self.out)
        return check_inputs(self.suite, finished(self.out), pairs)

    def start(self) -> None:
        """Take the results folder, print what the study will need, and start the tracker.

        The lock is released by the operating system however this process ends, so a kill leaves nothing to
        unlock. Raises `UserError` for what cannot fit or cannot be had.
        """
        hold_lock(self.out / ".lock")
        check_fits(self.suite, finished(self.out))
        print(visible("\n".join([plan_text(self.suite, finished(self.out)), *check_access(self.suite)])))
        self._ends.append(start_tracking(self.suite, self.out))

    def end(self) -> None:
        """Print what failed, with the last lines of its log, and renew the page of all studies."""
        for end in self._ends:
            end()
        print(visible(ending_text(self.suite, self.out, since=self._started)))
        if (self.out / "suite.yaml").is_file():  # not where somebody asked for some files alone
            print(visible(refreshed(self.out)))


def model_pattern(methods: Iterable[str]) -> str:
    """A pattern for the places of models with these methods that no stage made."""
    return rf"[^/]+/[^/]+/(?:{'|'.join(map(re.escape, methods))})/[^/]+/seed\d+"
