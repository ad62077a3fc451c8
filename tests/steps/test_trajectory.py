"""A run judged on its way: the same bits as without, the same after a kill, and points that are endpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline_lib.core.files import read_jsonl
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.steps import unlearn
from pipeline_lib.steps.trajectory import judged_steps
from tests.steps.study import OBJECTIVES, OPTIMIZERS, identity, unlearning_job

JUDGED = {"points": 3, "max_records": {}, "max_tokens_per_batch": 512}


def ran(root: Path, data: Path, parent: Path, epochs: float = 3, judged: dict | None = None):
    settings = {**OPTIMIZERS["sophia"], "learning_rate": 3e-3, "weight_decay": 0.1}
    who = identity("GradDiff", "sophia")
    made = unlearning_job(root, data, parent, who, OBJECTIVES["GradDiff"], settings, epochs=epochs)
    made = replace(made, settings={**made.settings, **({} if judged is None else {"trajectory": judged})})
    unlearn.run(made)
    return read_jsonl(root / "training" / "steps.jsonl"), load_model_folder(made.output("model"))[0]


def test_judging_changes_no_bit(tmp_path: Path, data: Path, original: Path) -> None:
    plain, model = ran(tmp_path / "plain", data, original)
    rows, watched = ran(tmp_path / "judged", data, original, judged=JUDGED)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), watched.parameters(), strict=True))
    assert [row["loss"] for row in plain] == [row["loss"] for row in rows]
    assert not any("judged" in row for row in plain)
    assert [row["step"] for row in rows if "judged" in row] == [1, 2, 3]


def test_a_point_is_what_a_shorter_run_leaves(tmp_path: Path, data: Path, original: Path) -> None:
    long, _ = ran(tmp_path / "long", data, original, judged=JUDGED)
    short, _ = ran(tmp_path / "short", data, original, epochs=2, judged={**JUDGED, "points": 2})
    assert short[-1]["judged"] == long[1]["judged"]
    assert set(long[-1]["judged"]["utility"]) == {"retain", "facts"}
    assert len(long[-1]["judged"]["forget"]) == 4  # questions


@pytest.mark.parametrize(
    ("total", "warmup", "points", "steps"),
    [(100, 0.1, 3, [10, 55, 100]), (3, 0.0, 8, [1, 2, 3]), (10, 0.0, 2, [1, 10])],
)
def test_steps_are_spread_after_the_warm_up(total: int, warmup: float, points: int, steps: list[int]) -> None:
    assert judged_steps(total, warmup, points) == steps
