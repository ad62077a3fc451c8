"""What each job of a study asks a cluster for: memory of the machine, and time, for each try.

A request comes from the suite (`resources.memory_mb`, `resources.minutes`) or, where the suite does not say,
from the estimates of the plan (docs/planning.md):

    memory  = max(floor, margin x estimate) + what Snakemake's own processes in the job take
    minutes = max(floor, margin x estimate)

A job that is tried again asks for `resources.retry_factor` times more at every try, up to
`resources.memory_limit_mb` and `resources.minutes_limit`. Memory is in MiB, as SLURM and Kubernetes count it.

Traps. On a GPU the plan's memory is the GPU's, which no cluster grants by size; this module asks for the
memory of the machine that holds the GPU. An estimate of time is right within a factor of two, so the margin
is wide: a job that ends early gives its time back, but a job that exceeds its time has to be started again
(training and evaluation then continue from what they saved).
"""

from __future__ import annotations

import math
from functools import cached_property

from pipeline_lib.core.runs import RowKey
from pipeline_lib.operations.plan.jobs import Work, memory_of, planned_jobs, seconds_of
from pipeline_lib.operations.plan.measuring import CLASSIFIER
from pipeline_lib.operations.plan.training import Training, offloaded_bytes
from pipeline_lib.study.jobs import Job
from pipeline_lib.study.suite import Suite

MEBIBYTE = 2.0**20
MEMORY_MARGIN = 1.25  # estimates are right within 15 % or so
MEMORY_FLOOR = 500.0  # MiB
SNAKEMAKE = 400.0  # MiB: a cluster's job holds two Snakemake processes beside its script (docs/cluster.md)
SNAKEMAKE_RUN = 0.005  # MiB more for each run of the study, which both of them read
GPU_HOST = 4.0e9  # bytes of the machine's memory that a process with CUDA's libraries holds
TIME_MARGIN = 3.0
MINUTES_FLOOR = 10.0
TOGETHER = 0.5  # share of its time alone that each of several processes adds to their speed, at least

# Where nothing at hand tells the sizes of a model, so that there is no estimate: enough for 1.5 billion
# parameters fully trained. `models.<label>.shape` gives an estimate.
UNKNOWN_MEMORY = 32_000.0  # MiB
UNKNOWN_MINUTES = 240.0

# Jobs without a model, which read what others wrote: MiB and minutes, and the increase for each run that they
# read.
SMALL_MEMORY, SMALL_MINUTES = 500.0, 15.0
CLASSIFYING = 1000.0 + 3 * 4 * CLASSIFIER / MEBIBYTE  # MiB more: torch, a text classifier and its work
READ_MEMORY, READ_MINUTES = 1.0, 0.005

Row = tuple[str, RowKey]  # rule
MODELS = ("training", "model")  # what a job with a model needs: see study/jobs.py


class Requests:
    """The requests of a suite's jobs. Seeds and trials of a row ask for the same.

    `runs`: models of the whole study, which every call of Snakemake reads and the last jobs gather.
    """

    def __init__(self, suite: Suite, runs: int) -> None:
        self._suite = suite
        self._resources = suite.resources
        self._runs = runs
        self._needs: dict[Row, tuple[float, float]] = {}

    def memory_mb(self, job: Job, attempt: int) -> int:
        """MiB that a job asks for at its try number `attempt`, counted from 1."""
        if job.needs not in MODELS:
            first = SMALL_MEMORY + SNAKEMAKE_RUN * self._runs
            first += READ_MEMORY * self._runs if job.needs == "study" else 0.0
            first += CLASSIFYING if job.needs == "classifier" else 0.0
        else:
            given = "memory_mb" in self._resources.model_fields_set
            first = self._resources.memory_mb if given else self._needed(job)[0]
        return self._try(first, attempt, self._resources.memory_limit_mb)

    def minutes(self, job: Job, attempt: int) -> int:
        """Minutes that it asks for, likewise."""
        if job.needs not in MODELS:
            first = SMALL_MINUTES + (READ_MINUTES * self._runs if job.needs == "study" else 0.0)
        else:
            given = "minutes" in self._resources.model_fields_set
            first = self._resources.minutes if given else self._needed(job)[1]
        return self._try(first, attempt, self._resources.minutes_limit)

    def _try(self, first: float, attempt: int, limit: int | None) -> int:
        asked = math.ceil(first * self._resources.retry_factor ** (attempt - 1))
        return asked if limit is None else min(asked, limit)

    def _needed(self, job: Job) -> tuple[float, float]:
        """MiB and minutes of the first try. Snakemake asks for every job, so each row is worked out once."""
        assert job.row is not None
        row = job.rule, job.row
        if row not in self._needs:
            work, resources = self._works[row], self._resources
            memory, minutes = UNKNOWN_MEMORY, UNKNOWN_MINUTES
            if work is not None:
                here = resources.per_node if isinstance(work, Training) else 1
                everywhere = here * resources.nodes if isinstance(work, Training) else 1
                seconds = seconds_of(work) / max(1.0, TOGETHER * everywhere)
                memory = max(MEMORY_FLOOR, MEMORY_MARGIN * machine_memory(work, here) / MEBIBYTE)
                minutes = max(MINUTES_FLOOR, TIME_MARGIN * seconds / 60)
            self._needs[row] = memory + SNAKEMAKE + SNAKEMAKE_RUN * self._runs, minutes
        return self._needs[row]

    @cached_property
    def _works(self) -> dict[Row, Work | None]:
        """What every row's jobs do, of one seed: the others need the same."""
        suite = self._suite
        changes: dict[str, object] = {"seeds": suite.seeds[:1], "retrained_seeds": []}
        if suite.tune is not None:
            changes["tune"] = suite.tune.model_copy(update={"seeds": suite.tune.seeds[:1]})
        jobs = planned_jobs(suite.model_copy(update=changes))
        return {(job.rule, job.row): work for job, work in jobs if job.row is not None}


def machine_memory(work: Work, processes: int = 1) -> float:
    """Bytes of the machine's memory that this many processes of a job hold at their peak.

    On a CPU this is the plan's estimate for each process; sharded training needs less, which is not relied
    on. With a GPU, each process first reads the model into this memory; one process copies there what it
    saves (a checkpoint with the optimiser's state, or the whole model in fp32), and an offloaded optimiser
    stays there.
    """
    if work.device.kind == "cpu":
        return processes * memory_of(work).total
    weights = 4.0 * work.shape.parameters
    if not isinstance(work, Training):
        return GPU_HOST + weights + 4.0 * CLASSIFIER
    saved = max(2 * weights, work.width * work.trained + work.state_bytes(work.width))
    return processes * GPU_HOST + max(processes * weights, saved) + offloaded_bytes(work)
