"""A study on disk whose models are made up and whose scores, tables and figures come from the real steps.

What a model "measured" is drawn from its name, so a run is the same in every piece that has it.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Collection, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_lib.core.files import read_json, read_jsonl, write_json, write_jsonl
from pipeline_lib.core.runs import RunKey
from pipeline_lib.core.sealing import seal_file, write_sealed_jsonl
from pipeline_lib.reporting.scores import utility_splits
from pipeline_lib.steps.job import Job as StepJob
from pipeline_lib.steps.trajectory import judged_steps
from pipeline_lib.study import Suite, parse_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.jobs import Files, Job
from tests.metrics.rows import make_row

TASK = {
    "source": "fictitious",
    "n_authors": 8,
    "questions_per_author": 4,
    "forget_authors": 3,
    "holdout_authors": 2,
    "n_facts": 6,
    "seed": 0,
}
SUITE: dict[str, Any] = {
    "suite": "whole",
    "seeds": [0, 1],
    "models": {"tiny": {"source": "scratch"}},
    "tasks": {"authors": TASK},
    "objectives": {"GradDiff": {"gamma": 2}, "NPO": {"beta": 0.2}},
    "optimizers": {"adamw": {"learning_rate": 1e-4}, "sophia": {"learning_rate": 1e-4}},
}
DRAWN = ("table", "figure", "html_report")
COLLECTED = ("describe_suite", "prepare_data", "score", "collect", "merge")


def made(root: Path, rules: Collection[str] = COLLECTED, **changes: Any) -> Path:
    """Write the study of the suite with some blocks exchanged to `root`; `rules`: the steps that are run."""
    suite = parse_suite({**SUITE, **changes})
    study = Made(suite, root)
    for job in Graph(suite).study():
        if job.rule in ("finetune", "unlearn", "stage"):
            study.train(job)
        elif job.rule == "evaluate":
            study.evaluate(job)
        elif job.rule in rules:
            study.run(job)
    return root


class Made:
    def __init__(self, suite: Suite, root: Path) -> None:
        self.suite, self.root = suite, root

    def run(self, job: Job) -> None:
        """One step, as the workflow runs it."""
        module = importlib.import_module(job.code[0])
        identity = {"suite": self.suite.suite, **({} if job.run is None else job.run._asdict())}
        inputs = {name: self._placed(files) for name, files in job.inputs.items()}
        outputs = {name: self._placed(files) for name, files in job.outputs.items()}
        with redirect_stdout(io.StringIO()):  # what was not measured
            module.run(StepJob(dict(job.settings), inputs, outputs, identity=identity, code="c0de"))

    def _placed(self, files: Files) -> Path | list[Path]:
        return self.root / files if isinstance(files, str) else [self.root / file for file in files]

    def train(self, job: Job) -> None:
        assert job.run is not None
        folder, draw = self.root / "training" / job.run.folder, drawing(job.run, "training")
        manifest = read_json(self.root / "data" / job.run.task / "manifest.json")
        anchor = job.rule == "finetune"
        steps = [
            {"step": step, "epoch": step, "loss": 1.0, "grad_norm": 1.0, "learning_rate": 1e-4}
            | {"forget_loss": draw.uniform(), "retain_loss": draw.uniform(), "clipped_share": None}
            | {"update_norm": 0.1, "tokens_per_s": 1000.0, "memory_mb": 900.0}
            for step in range(1, 4)
        ]
        run = {
            "status": "ok",
            "diverged_step": None,
            "suite": self.suite.suite,
            **job.run._asdict(),
            "objective": job.settings.get("objective"),
            "optimizer_settings": job.settings.get("optimizer", {"kind": "adamw"}),
            "training": job.settings[{"finetune": "finetune", "unlearn": "unlearn"}.get(job.rule, "stage")],
            "model_settings": job.settings.get("model"),
            "data": {name: split["sha256"] for name, split in manifest["splits"].items()},
            "code": "c0de",
            "parent": None if anchor else f"weights of original, seed {job.run.seed}",
            "weights_sha256": f"weights of {job.run.method}, seed {job.run.seed}",
            "made_at": "2026-01-01T00:00:00+00:00",
            "steps": 3,
            "wall_time_s": 2.0,
            "train_time_s": draw.uniform(1, 2),
            "peak_memory_mb": 800.0,
            "device": "cpu",
            "versions": {"python": "3.11.2"},
            "git_commit": "abc1234",
        }
        if "trajectory" in job.settings:
            for step in judged_steps(len(steps), 0, job.settings["trajectory"]["points"]):
                steps[step - 1]["judged"] = self._judged(job.run, manifest, draw)
        write_json(folder / "run.json", run)
        write_jsonl(folder / "steps.jsonl", steps)

    def _judged(self, key: RunKey, manifest: dict[str, Any], draw: np.random.Generator) -> dict[str, Any]:
        """What a judged step says of each forget question and of the utility splits."""
        forget = read_jsonl(self.root / "data" / key.task / "forget.jsonl")
        return {
            "forget": {record["id"]: -draw.uniform(1, 3) for record in forget},
            "utility": {split: draw.uniform(0.5, 0.9) for split in utility_splits(manifest)},
        }

    def evaluate(self, job: Job) -> None:
        assert job.run is not None
        folder = self.root / "evaluations" / job.run.folder
        data = self.root / "data" / job.run.task
        manifest = read_json(data / "manifest.json")
        rows = [
            row
            for split in manifest["evaluate"]
            for row in measured(job.run, split, read_jsonl(data / f"{split}.jsonl"))
        ]
        for row in rows:
            if row["split"] in manifest["likelihood_only"]:
                del row["generation"]
        write_sealed_jsonl(folder / "records.jsonl", rows)
        write_json(folder / "equal_retain.json", {"status": "off"})
        seal_file(folder / "equal_retain.json")


def drawing(key: RunKey, what: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{key} {what}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))


def measured(key: RunKey, split: str, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Likelihoods of a model: what is forgotten is 2 nats less likely, by a different bit each time."""
    draw = drawing(key, split)
    forgotten = split == "forget" and key.method != "original"
    rows = []
    for record in records:
        nll = draw.uniform(0.1, 0.6) + 2.0 * forgotten
        rows.append(
            make_row(
                record["id"],
                split,
                record["group"],
                prompt=record["prompt"],
                answer=record["answer"],
                generation=record["answer"] if draw.uniform() < 0.5 else "Nobody knows it",
                answer_nll=4 * nll,
                token_nll=[nll] * 4,
                paraphrase_nll=4 * (nll + draw.uniform(0, 0.3)),
                distractor_nll=[5 * draw.uniform(1, 2), 3 * draw.uniform(1, 2)],
            )
        )
    return rows


SMALL = ("metrics.csv", "scores.csv", "costs.csv", "runs.json", "suite.yaml", "manifest.json", "steps.jsonl")


def only_small_files(root: Path) -> Path:
    """What is left of a piece whose models and records are gone."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and path.name not in (*SMALL, "run.json"):
            path.unlink()
    return root
