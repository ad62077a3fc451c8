"""One job of a study, and where each rule of the workflow writes. graph.py lists the jobs of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pipeline_lib.core.blocks import Block
from pipeline_lib.core.runs import NO_OPTIMIZER, RowKey, RunKey

Needs = Literal["training", "model", "classifier", "run", "study"]
Files = str | tuple[str, ...]  # one path below the results folder, or several

_RUN = r"[^/]+/[^/]+/[^/]+/[^/]+/seed[^/]+"
_MODEL = {
    "model": "models/{run}",
    "steps": "training/{run}/steps.jsonl",
    "run": "training/{run}/run.json",
}


@dataclass(frozen=True)
class Rule:
    """A kind of work.

    `wildcard`: what distinguishes its jobs, with its `pattern`; "" where there is one job. `outputs`: the
    files of a job, the one that is written last at the end.
    """

    outputs: Mapping[str, Files]
    wildcard: str = ""
    pattern: str = "[^/]+"

    def place(self, rule: str) -> str:
        """The place of a job of this rule below logs/ and benchmarks/, with its wildcard."""
        return f"{rule}/{{{self.wildcard}}}" if self.wildcard else rule


def _measured(name: str) -> Rule:
    place = f"evaluations/{{run}}/{name}.jsonl"
    return Rule({"seal": f"{place}.sha256", "rows": place}, "run", _RUN)


def _drawn(folder: str, what: str, *forms: str) -> Rule:
    return Rule({form: f"{folder}/{{{what}}}.{form}" for form in forms}, what)


RULES: dict[str, Rule] = {
    "describe_suite": Rule({"suite": "suite.yaml", "runs": "runs.json"}),
    "prepare_data": Rule({"manifest": "data/{task}/manifest.json"}, "task"),
    "judge": Rule({"judge": "judges/{task}.json"}, "task"),
    "pretrain": Rule(
        {"model": "bases/{base}/model", "steps": "bases/{base}/steps.jsonl", "run": "bases/{base}/run.json"},
        "base",
    ),
    "base": Rule(_MODEL, "run", _RUN),
    "finetune": Rule(_MODEL, "run", _RUN),
    "unlearn": Rule(_MODEL, "run", _RUN),
    "match": Rule({"matched": "matched/{run}.json"}, "run", _RUN),
    "stage": Rule(_MODEL, "run", _RUN),
    "ask": Rule({name: _MODEL[name] for name in ("steps", "run")}, "run", _RUN),
    "trial": Rule({"trial": "tuning/{trial}.json"}, "trial", r"[^/]+/[^/]+/[^/]+/[^/]+/trial\d+/seed\d+"),
    "choose_so_far": Rule({"chosen": "tuning/{so_far}.json"}, "so_far", r"[^/]+/[^/]+/[^/]+/[^/]+/round\d+"),
    "widen": Rule({"ranges": "tuning/round{round}.json"}, "round", r"\d+"),
    "choose": Rule({"chosen": "tuning/{row}/chosen.json"}, "row", "[^/]+/[^/]+/[^/]+/[^/]+"),
    "evaluate": Rule(
        {
            "seals": (
                "evaluations/{run}/records.jsonl.sha256",
                "evaluations/{run}/equal_retain.json.sha256",
            ),
            "records": "evaluations/{run}/records.jsonl",
            "equal_retain": "evaluations/{run}/equal_retain.json",
        },
        "run",
        _RUN,
    ),
    "standard_benchmarks": _measured("benchmarks"),
    "toxicity": _measured("toxicity"),
    "inside": _measured("inside"),
    "score": Rule(
        {"scores": "evaluations/{run}/scores.csv", "metrics": "evaluations/{run}/metrics.json"}, "run", _RUN
    ),
    "collect": Rule({"table": "collected/{part}.csv"}, "part", "[^/]+/(scores|metrics|costs)"),
    "merge": Rule({"table": "{collected}.csv"}, "collected", "scores|metrics|costs"),
    "table": _drawn("tables", "table", "csv", "md", "tex"),
    "figure": _drawn("figures", "figure", "svg", "png"),
    "paper_table": _drawn("paper", "table", "csv", "md", "tex"),
    "paper_figure": _drawn("paper", "figure", "svg", "png"),
    "html_report": Rule({"report": "report/index.html"}),
}


@dataclass(frozen=True, slots=True)
class Job:
    """A node of the graph. Paths are below the results folder.

    `rule`: a key of RULES. `name`: the value of the rule's wildcard, "" where it has none. `settings`: plain
    values for the step. `reads`: blocks of the suite that name something on this machine, whose contents
    belong to the job's identity. `code`: dotted names of the modules that run, with all that they import.
    `needs`: what the job requires of a machine: the processes of a training, one GPU for a model, a text
    classifier, or the files of one run or of the whole study. `run`: the model that the job makes or reads.
    `work`: the folder from which a killed job continues.
    """

    rule: str
    name: str
    inputs: Mapping[str, Files]
    code: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = "run"
    reads: tuple[tuple[str, Block | None], ...] = ()
    run: RunKey | None = None
    trial: int | None = None
    work: str | None = None

    @property
    def row(self) -> RowKey | None:
        """The row of the model that it makes or reads; a base belongs to no task, and all share it."""
        if self.rule == "pretrain":
            return RowKey("-", self.name, "base", NO_OPTIMIZER)
        return None if self.run is None else self.run.row

    @property
    def outputs(self) -> dict[str, Files]:
        return {
            name: self._filled(place) if isinstance(place, str) else tuple(map(self._filled, place))
            for name, place in RULES[self.rule].outputs.items()
        }

    @property
    def result(self) -> str:
        """The file that is written last."""
        last = list(RULES[self.rule].outputs.values())[-1]
        assert isinstance(last, str)
        return self._filled(last)

    @property
    def title(self) -> str:
        return f"{self.rule} {self.name}".strip()

    @property
    def log(self) -> str:
        return f"logs/{self._filled(RULES[self.rule].place(self.rule))}.log"

    @property
    def benchmark(self) -> str:
        """Snakemake's measurement of the finished job, with its seconds."""
        return f"benchmarks/{self._filled(RULES[self.rule].place(self.rule))}.tsv"

    def _filled(self, place: str) -> str:
        return place.replace(f"{{{RULES[self.rule].wildcard}}}", self.name)


def manifest_of(task: str) -> str:
    return f"data/{task}/manifest.json"


def records_of(key: RunKey) -> str:
    return f"evaluations/{key.folder}/records.jsonl"


def inside_of(key: RunKey) -> str:
    return f"evaluations/{key.folder}/inside.jsonl"


def original_of(key: RunKey) -> str:
    """The model before unlearning, of the same seed."""
    original = RowKey(key.task, key.model, "original", NO_OPTIMIZER).seeded(key.seed)
    return f"models/{original.folder}"


def base_of(model: str) -> str:
    """The model with this label that the study pretrains itself."""
    return f"bases/{model}/model"


def with_runs(job: Job) -> Job:
    """The job with the run.json of each model that it reads, by which a changed model folder is noticed."""
    models = [path for files in job.inputs.values() for path in listed(files) if is_model(path)]
    runs = tuple(map(_run_of, models))
    return replace(job, inputs={**job.inputs, "made": runs}) if runs else job


def is_model(path: str) -> bool:
    """Whether a path below the results folder is that of a model's folder."""
    return path.startswith("models/") or (path.startswith("bases/") and path.endswith("/model"))


def _run_of(model: str) -> str:
    """The run.json of a training that is kept beside the model's folder."""
    room, _, place = model.partition("/")
    return f"training/{place}/run.json" if room == "models" else f"{model.removesuffix('/model')}/run.json"


def listed(files: Files) -> tuple[str, ...]:
    return (files,) if isinstance(files, str) else files
