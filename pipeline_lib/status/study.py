"""Every job of a study, and where its result, its log and its checkpoint lie.

The same as the workflow's rules say, without asking Snakemake, which needs minutes for a large study; a test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline_lib.config.suite import Suite
from pipeline_lib.config.table import ANCHORS, Key, RowKey, anchors_of, run_index, tuned_index
from pipeline_lib.reporting.catalog import FIGURES, tables_of


@dataclass(frozen=True, slots=True)
class StudyJob:
    """One job. Paths are below the results folder.

    `name`: the job's place below logs/<rule>/, "" where the rule has one job. `row`: task, model, method,
    optimizer, None for jobs of no single run. `result`: the file that is written last. `checkpoint`: the
    folder by which a killed job is continued.
    """

    rule: str
    name: str
    result: str
    row: RowKey | None = None
    seed: int | None = None
    checkpoint: str | None = None

    @property
    def log(self) -> str:
        return f"logs/{self._place}.log"

    @property
    def benchmark(self) -> str:
        """Snakemake's measurement of the finished job, with its seconds."""
        return f"benchmarks/{self._place}.tsv"

    @property
    def title(self) -> str:
        return f"{self.rule} {self.name}".strip()

    @property
    def _place(self) -> str:
        return f"{self.rule}/{self.name}" if self.name else self.rule


def jobs_of_study(suite: Suite) -> list[StudyJob]:
    """All jobs up to the report, in the order in which they can run."""
    jobs = [StudyJob("describe_suite", "", "runs.json")]
    jobs += [StudyJob("prepare_data", task, f"data/{task}/manifest.json") for task in suite.tasks]
    judged = [task for task in suite.tasks if suite.evaluation_of(task).toxicity is not None]
    jobs += [StudyJob("judge", task, f"judges/{task}.json") for task in judged]
    index = run_index(suite)
    jobs += _tuning(suite, index)
    for key in index:
        jobs += _of_run(suite, key)
    for task in suite.tasks:
        jobs += [
            StudyJob("collect", f"{task}/{what}", f"collected/{task}/{what}.csv")
            for what in ("metrics", "costs")
        ]
    jobs += [StudyJob("merge", what, f"{what}.csv") for what in ("metrics", "costs")]
    jobs += [StudyJob("table", name, f"tables/{name}.tex") for name in tables_of(suite.resolved())]
    jobs += [StudyJob("figure", name, f"figures/{name}.png") for name in FIGURES]
    jobs.append(StudyJob("html_report", "", "report/index.html"))
    return jobs


def _of_run(suite: Suite, key: Key, measured: bool = True) -> Iterator[StudyJob]:
    """How a model is made and judged. Not `measured`: only as far as tuning asks."""
    task, _, method, _, seed = key
    row = key[:4]
    run = "/".join(row) + f"/seed{seed}"
    made = "finetune" if method in ANCHORS else "unlearn"
    yield StudyJob(made, run, f"training/{run}/run.json", row, seed, f"checkpoints/{run}")
    place = f"evaluations/{run}"
    # equal_retain.json comes after records.jsonl, and metrics.json after both
    yield StudyJob("evaluate", run, f"{place}/equal_retain.json", row, seed, f"checkpoints/evaluate/{run}")
    if not measured:
        return
    evaluation = suite.evaluation_of(task)
    if evaluation.benchmarks is not None:
        folder = f"checkpoints/benchmarks/{run}"
        yield StudyJob("standard_benchmarks", run, f"{place}/benchmarks.jsonl", row, seed, folder)
    if evaluation.toxicity is not None:
        folder = f"checkpoints/toxicity/{run}"
        yield StudyJob("toxicity", run, f"{place}/toxicity.jsonl", row, seed, folder)
    yield StudyJob("score", run, f"{place}/metrics.json", row, seed)


def _tuning(suite: Suite, index: Mapping[Key, object]) -> Iterator[StudyJob]:
    """The models that tuning starts from, where the study has no use for them besides; trials; choices."""
    if suite.tune is None:
        return
    tuned = tuned_index(suite)
    bases: dict[Key, None] = {}  # several rows start from the same ones
    for task, model, _, _ in tuned:
        anchors = anchors_of(suite, task) if suite.tune.select.forget == "ks_statistic" else ANCHORS[:1]
        bases |= {
            (task, model, method, "none", seed): None for method in anchors for seed in suite.tune.seeds
        }
    for base in bases:
        if base not in index:
            yield from _of_run(suite, base, measured=False)
    for row, found in tuned.items():
        place = "/".join(row)
        for number in found.trials:
            for seed in suite.tune.seeds:
                name = f"{place}/trial{number}/seed{seed}"
                folder = f"checkpoints/tuning/{name}"
                yield StudyJob("trial", name, f"tuning/{name}.json", row, seed, folder)
        yield StudyJob("choose", place, f"tuning/{place}/chosen.json", row)
