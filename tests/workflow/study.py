"""A small study run for real: a copy of the project, a suite of seconds, and calls of snakemake on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.paths import REPO

SUITE: dict[str, Any] = {
    "suite": "small",
    "seeds": [0],
    "tasks": {
        "authors": {
            "source": "fictitious",
            "n_authors": 6,
            "questions_per_author": 3,
            "forget_authors": 2,
            "holdout_authors": 2,
            "n_facts": 8,
        }
    },
    "models": {
        "tiny": {
            "source": "scratch",
            "vocab_size": 400,
            "hidden_size": 32,
            "intermediate_size": 64,
            "layers": 1,
            "heads": 2,
            "kv_heads": 2,
        }
    },
    "finetune": {"epochs": 6, "batch_size": 8, "learning_rate": 0.01, "checkpoint_seconds": 0},
    "unlearn": {"epochs": 4, "batch_size": 3, "checkpoint_seconds": 0},
    "objectives": {"GradDiff": {"gamma": 1.0}, "PO": {}, "KL": {}},
    "optimizers": {
        "adamw": {"learning_rate": 1e-3},
        "sophia": {"learning_rate": 1e-3, "update_every": 2},
        "wild": {"kind": "adamw", "learning_rate": 1e30},
    },
    "runs": [
        {"methods": ["GradDiff"], "optimizers": ["adamw", "sophia", "wild"]},
        {"methods": ["PO"], "optimizers": ["sophia"]},
        {"methods": ["KL"], "optimizers": ["adamw"]},
    ],
    "evaluation": {
        "max_new_tokens": 12,
        "equal_retain": 0.05,
        "samples": {"n": 2},
        "benchmarks": {"tasks": ["arc_easy"], "folder": "questions"},
    },
    "stages": {
        "other": {
            **{"kind": "finetune", "of": ["GradDiff+adamw"], "task": "authors", "split": "facts"},
            "likelihood_only": True,
        },
        "asked": {"kind": "ask", "of": ["GradDiff+adamw", "GradDiff+wild"], "opening": "Sure:"},
        "soup": {"kind": "average", "of": ["GradDiff+adamw", "KL+adamw"]},
    },
    "comparisons": [{"first": "sophia", "second": "adamw", "question": "Does curvature help?"}],
    "resources": {"device": "cpu", "memory_mb": 1000},
}


QUESTIONS = [
    {"question": f"What is number {i}?", "choices": [f"a {i}", "tree", "no"], "answer": i % 3}
    for i in range(4)
]


class Study:
    """A copy of the project in `folder`, with a suite file of its own."""

    def __init__(self, folder: Path, suite: dict[str, Any]) -> None:
        self.folder = folder
        self.variables: dict[str, str] = {}
        for name in ("workflow", "pipeline_lib"):
            shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("config.yaml", "environment.yml"):
            shutil.copy(REPO / name, folder / name)
        benchmark = folder / "questions" / "commonsense" / "arc_easy_test.jsonl"
        benchmark.parent.mkdir(parents=True)
        benchmark.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
        self.write(suite)

    @property
    def results(self) -> Path:
        return self.folder / "results" / "small"

    def write(self, suite: dict[str, Any]) -> None:
        (self.folder / "suite.yaml").write_text(yaml.safe_dump(suite))

    def copy(self, folder: Path) -> Study:
        """The study with its results, to be changed without changing this one."""
        shutil.copytree(self.folder, folder)
        other = object.__new__(Study)
        other.folder = folder
        other.variables = dict(self.variables)
        return other

    def command(self, *arguments: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "snakemake",
            "--configfile",
            "suite.yaml",
            "--cores",
            "2",
            *arguments,
        ]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", **self.variables}

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            check=False,
            cwd=self.folder,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def planned(self, *arguments: str) -> set[tuple[str, str]]:
        """(rule, log file) of every job that a call would run."""
        done = self.snakemake("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout
        jobs = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", done.stdout, re.MULTILINE)
        found = set()
        for rule, text in jobs:
            log = re.search(r"^    log: (\S+)", text, re.MULTILINE)
            found.add((rule, log[1].removeprefix("results/small/logs/") if log else ""))
        return found
