"""The steps that are disturbed, what they leave when nothing disturbs them, and how both are compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Those of transformers are for the forks, which then begin at once.
import transformers.masking_utils
import transformers.safetensors_conversion  # noqa: F401
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.steps.prepare_data import prepare_task
from tests.failures import children
from tests.steps.study import TASK, run_evaluate, run_finetune, run_unlearn

TIMED = {
    *("train_time_s", "wall_time_s", "peak_memory_mb", "git_commit", "made_at"),  # of run.json
    *("tokens_per_s", "memory_mb", "elapsed_s", "curvature_s"),  # of steps.jsonl
}
SAMPLES = {"n": 2, "splits": ["forget"], "temperature": 1.0, "top_p": 1.0}
STEPS = ("fine-tuning", "unlearning", "evaluation")


@dataclass(frozen=True)
class Study:
    """Data, the model before unlearning, and one undisturbed folder a step, all below `folder`."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data" / "authors"

    @property
    def original(self) -> Path:
        return self.folder / "undisturbed" / "fine-tuning" / "model"

    def undisturbed(self, step: str) -> Path:
        return self.folder / "undisturbed" / step

    def fresh(self, name: str) -> Path:
        """An empty folder for a disturbed run."""
        root = self.folder / "disturbed" / name.replace(" ", "-")
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        return root

    def step(self, step: str, root: Path, **changes: Any) -> Callable[[], object]:
        """The step as a function without arguments, which writes into `root`."""
        if step == "fine-tuning":
            return lambda: run_finetune(root, self.data, epochs=4, **changes)
        if step == "unlearning":
            return lambda: run_unlearn(
                root, self.data, self.original, "NPO", "sophia", **{"epochs": 8, **changes}
            )
        if step == "evaluation":
            return lambda: run_evaluate(
                root, self.data, self.original, self.original, 0.05, samples=SAMPLES, **changes
            )
        raise ValueError(step)

    def run(self, step: str, root: Path, kill_after: float | None = None, **changes: Any) -> children.Ended:
        return children.run(self.step(step, root, **changes), root.with_name(f"{root.name}.log"), kill_after)


def prepare(folder: Path) -> Study:
    """Make the study in an empty folder; one process a step, so that this one computes nothing."""
    study = Study(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = children.run(lambda: prepare_task(TASK, study.data), folder / "data.log")
    assert made.well, made.said
    for step in STEPS:
        study.undisturbed(step).mkdir(parents=True)
        done = study.run(step, study.undisturbed(step))
        assert done.well, done.said
    return study


def seconds_of(study: Study, step: str) -> float:
    """How long the step takes undisturbed."""
    done = study.run(step, study.fresh(f"timed {step}"))
    assert done.well, done.said
    return done.seconds


def final_files(root: Path) -> list[Path]:
    """Files under a final name: not those that are still being written, nor locks and logs."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and not any(part.endswith(".partial") for part in path.relative_to(root).parts)
        and path.suffix not in (".log", ".lock", ".running")
    ]


def check_whole(root: Path, undisturbed: Path) -> None:
    """Every file under its final name is whole, and is what the undisturbed run wrote under that name.

    Checkpoints and finished parts of an evaluation, which an undisturbed run has removed, must be readable
    to the last byte and complete.
    """
    for path in final_files(root):
        other = undisturbed / path.relative_to(root)
        if other.is_file():
            assert content(path) == content(other), f"{path} differs from the undisturbed run's"
        else:
            content(path)
    for folder, names in (
        ("checkpoint", {"state.json", "tensors.safetensors"}),
        ("model", {path.name for path in (undisturbed / "model").glob("*")}),
    ):
        if (root / folder).is_dir():
            found = {path.name for path in (root / folder).iterdir()}
            assert names <= found, f"{root / folder} is partial: {names - found} missing"


def check_same(root: Path, undisturbed: Path) -> None:
    """A finished step left what the undisturbed one left, to the bit, and nothing more."""
    check_whole(root, undisturbed)
    ours, theirs = ([str(p.relative_to(r)) for p in final_files(r)] for r in (root, undisturbed))
    assert ours == theirs, f"files differ: {set(ours) ^ set(theirs)}"
    left = [path for path in root.rglob("*") if path.name.endswith(".partial")]
    assert not left, f"left behind: {left}"


def content(path: Path) -> Any:
    """What a file says, without times; raises where it is not whole."""
    if path.suffix == ".jsonl":
        assert path.read_bytes().endswith(b"\n") or not path.stat().st_size, f"{path}: last line is cut"
        return [_timeless(row) for row in read_jsonl(path)]
    if path.suffix == ".json":
        value = read_json(path)
        return _timeless(value) if isinstance(value, dict) else value
    if path.suffix == ".safetensors":
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        assert path.stat().st_size == 8 + length + max(ends, default=0), f"{path}: cut"
        with safe_open(path, "np") as opened:
            assert set(opened.keys()) == set(header) - {"__metadata__"}
    return path.read_bytes()


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in TIMED}
