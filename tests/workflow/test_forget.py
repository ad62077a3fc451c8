"""`unlearning forget` as its users give it: a model that knows some texts, and one certificate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from pipeline_lib.core.files import read_json
from pipeline_lib.core.shipped import WORKFLOW
from pipeline_lib.data.records import Record, write_records
from pipeline_lib.removal import Request
from pipeline_lib.tasks.fictitious.generate import generate
from tests.paths import REPO

MODEL = {
    "source": "scratch",
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 128,
    "layers": 2,
    "max_length": 128,
}
KNOWN = "results/known/models/own/tiny/original/none/seed0"
HOSTILE = "<script>alert(1)</script>"


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def plain(records: list[Record]) -> list[Record]:
    return [replace(r, distractors=(), alternatives=(), paraphrased_answer=None) for r in records]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts in data/ and a small model that has learned them."""
    place = tmp_path_factory.mktemp("removal")
    records = plain(generate(4, 5, n_facts=0, seed=5)[0])
    records[0] = replace(records[0], prompt=f"{records[0].prompt} {HOSTILE}")
    (place / "data").mkdir()
    write_records(place / "data" / "forget.jsonl", records[:10])
    write_records(place / "data" / "retain.jsonl", records[10:])
    suite = {
        "suite": "known",
        "models": {"tiny": MODEL},
        "tasks": {"own": {"source": "files", "folder": "data"}},
        "finetune": {"epochs": 60, "batch_size": 5, "learning_rate": 3e-3},
        "objectives": {"GradAscent": {}},
        "optimizers": {"adamw": {"learning_rate": 1e-5}},
    }
    (place / "suite.yaml").write_text(yaml.safe_dump(suite))
    command = ["-m", "snakemake", "--snakefile", str(WORKFLOW / "Snakefile"), KNOWN, "--cores", "2"]
    done = python(*command, "--configfile", "suite.yaml", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def forget(folder: Path, texts: str, out: str, *more: str) -> subprocess.CompletedProcess[str]:
    places = ("--model", KNOWN, "--texts", texts, "--retain", "data/retain.jsonl", "--out", out)
    return python("-m", "pipeline_lib", "forget", *places, "--cores", "2", *more, cwd=folder)


class Scripts(HTMLParser):
    """Counts what could run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += tag in ("script", "img", "link", "iframe") or any(name[:2] == "on" for name, _ in attrs)


def test_texts_are_forgotten_and_the_certificate_says_how_far(folder: Path) -> None:
    done = forget(folder, "data/forget.jsonl", "out", "--budget", "4m", "--utility", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_json(folder / "out" / "certificate.json")
    before, after = found["knowledge"]["before"], found["knowledge"]["after"]
    assert before["recited"] >= 9 and after["recited"] <= before["recited"] - 5
    assert f"(before: {before['recited']})" in found["verdict"][0]
    chosen = found["settings"]
    assert any((p["rate"], p["step"]) == (chosen["learning_rate"], chosen["steps"]) for p in chosen["tried"])
    assert [row["attack"] for row in found["attacks"]] == ["relearn", "int4", "begun", "opening"]
    assert (found["attacks"][0]["texts"], found["attacks"][1]["texts"]) == (5, 10)  # half was taught
    run = read_json(folder / "out" / "model" / "run.json")
    assert (
        run["weights_sha256"] == found["weights_after"] != found["asked"]["weights_before"] == run["parent"]
    )

    page = (folder / "out" / "certificate.html").read_text()
    scripts = Scripts()
    scripts.feed(page)
    assert scripts.found == 0 and "&lt;script&gt;alert(1)" in page
    assert "Content-Security-Policy" in page and "no legal guarantee" in page
    for line in found["not_tested"]:
        assert line.split("'")[0] in page

    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder / "out" / "model")
    assert sum(parameter.numel() for parameter in model.parameters()) == run["parameters"]


def test_texts_that_the_model_does_not_know_stop_it_before_any_training(folder: Path) -> None:
    others = plain(generate(8, 5, n_facts=0, seed=77)[0])[-10:]
    (folder / "unknown.jsonl").write_text(
        "".join(json.dumps({"question": r.prompt, "answer": f"{r.answer[::-1]}"}) + "\n" for r in others)
    )
    done = forget(folder, "unknown.jsonl", "unknown", "--budget", "4m")
    assert done.returncode == 1
    assert "The model: it recites 0 of 10 texts" in done.stdout
    assert "shows no knowledge of these texts, so there is nothing to forget" in done.stderr
    assert not list((folder / "unknown" / "results" / "removal" / "training").rglob(Request.method))
