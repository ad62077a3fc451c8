"""Two processes take the smoothed steps of one, whether each holds all weights or a part of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline_lib.distributed.launch import Processes, call
from tests.distributed.grid import differences
from tests.smoothing import shared
from tests.smoothing.kinds import SETTINGS
from tests.training.runs import timeless

TOLERANCE = 1e-8  # in fp64; differences of gradients are divided by small moves
CASES = [*(("whole", kind) for kind in SETTINGS), *(("parts", kind) for kind in shared.SHARDED)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    log = folder / "log"
    try:
        call(shared.all_runs, {"folder": folder, "device": "cpu"}, Processes(2), folder / "launch", log)
    except Exception:
        print(log.read_text())
        raise
    return folder


@pytest.mark.parametrize(("how", "kind"), CASES)
def test_two_processes_take_the_steps_of_one(how: str, kind: str, two: Path, tmp_path: Path) -> None:
    model, outcome = shared.run(kind, tmp_path)
    assert outcome.status == "ok" and outcome.steps == 4
    found = [load_file(two / f"{how} {kind}.{rank}.safetensors") for rank in (0, 1)]
    for name, parameter in model.named_parameters():
        assert torch.equal(found[0][name], found[1][name]), "the processes drifted apart"
        assert torch.allclose(found[0][name], parameter.detach(), rtol=0, atol=TOLERANCE), name
    log = json.loads((two / f"{how} {kind}.1.json").read_text())
    for key, difference in differences(timeless(outcome.log), log):
        assert difference <= TOLERANCE, key


def test_noise_for_whole_tensors_is_refused_in_parts() -> None:
    assert set(SETTINGS) - set(shared.SHARDED) == {"random_smoothing"}
