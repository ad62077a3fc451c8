"""A removal as its users make it: minutes from the request to the certificate, and what is left.

    python benchmarks/removal.py --model FOLDER                   30 texts, all cores
    python benchmarks/removal.py --model FOLDER --texts 60 --cores 2 --budget 30

The model first learns invented authors, some of which are then to be forgotten, since no weights at hand are
known to hold texts that one may ask to forget. That is not counted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import yaml

from pipeline_lib.core.shipped import WORKFLOW
from pipeline_lib.data.records import Record, write_records
from pipeline_lib.removal import Request, forget
from pipeline_lib.tasks.fictitious.generate import generate

PER_AUTHOR = 10
KEPT = 60  # questions about other authors
SUITE = {
    "suite": "known",
    "tasks": {"known": {"source": "files", "folder": "data"}},
    "finetune": {"epochs": 8, "batch_size": 8, "learning_rate": 2e-4, "warmup": 0.1, "decay": "linear"},
    "objectives": {"GradAscent": {}},
    "optimizers": {"adamw": {"learning_rate": 1e-5}},
}


def known_by_heart(model: Path, texts: list[Record], kept: list[Record], folder: Path) -> Path:
    """A model that has learned both, made by a study in `folder`."""
    data = folder / "data"
    data.mkdir(parents=True)
    write_records(data / "forget.jsonl", texts)
    write_records(data / "retain.jsonl", kept)
    suite = {
        **SUITE,
        "models": {"model": {"source": "folder", "path": str(model.resolve()), "max_length": 256}},
    }
    suite["finetune"] = {**SUITE["finetune"], "compute": "auto"}  # type: ignore[dict-item]
    suite["resources"] = {"threads": os.cpu_count() or 1}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    made = "results/known/models/known/model/original/none/seed0"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile"), made]
    command += ["--configfile", "suite.yaml", "--cores", "all", "--quiet", "all"]
    subprocess.run(command, cwd=folder, check=True)  # noqa: S603
    return folder / made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a pretrained model")
    parser.add_argument("--texts", type=int, default=30)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--budget", type=float, default=15.0, help="minutes")
    parser.add_argument("--method", default=Request.method)
    parser.add_argument("--keep", type=Path, help="a folder for everything; default: a temporary one")
    given = parser.parse_args()
    authors = -(-given.texts // PER_AUTHOR)
    records = generate(authors + KEPT // PER_AUTHOR, PER_AUTHOR, n_facts=0, seed=5)[0]
    bare = [replace(r, distractors=(), alternatives=(), paraphrased_answer=None) for r in records]
    texts, kept = bare[: given.texts], bare[authors * PER_AUTHOR :]
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        model = known_by_heart(given.model, texts, kept, folder / "known")
        data, began = folder / "known" / "data", time.monotonic()
        outcome = forget(
            Request(
                str(model),
                data / "forget.jsonl",
                folder / "removal",
                retain=data / "retain.jsonl",
                method=given.method,
                budget=given.budget,
            ),
            given.cores,
        )
        print(f"{len(texts)} texts, {given.cores} cores: {(time.monotonic() - began) / 60:.1f} minutes")
        print(f"before, {outcome.before.text()}\nafter, {outcome.after.text()}")


if __name__ == "__main__":
    main()
