"""Two processes give the losses and weights of one: every objective and optimiser, whole or in parts."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline_lib.core.files import read_json
from pipeline_lib.distributed.launch import Processes, call
from pipeline_lib.training.loop import Outcome
from tests.distributed import grid
from tests.training.runs import timeless

TOLERANCE = 1e-9  # in fp64; see tests/distributed/grid.py
FP32 = 1e-5
KINDS = ("replicas", "parts")


@pytest.fixture(scope="session")
def two(tmp_path_factory):
    """Folder of what two gloo processes left of every run: one launch for all of them."""
    folder = tmp_path_factory.mktemp("two")
    for name in grid.RESUMED:
        grid.begin(name, folder / "alone for replicas" / name)
        shutil.copytree(folder / "alone for replicas" / name, folder / "alone for parts" / name)
    log = folder / "log"
    try:
        call(grid.all_runs, {"folder": folder, "device": "cpu"}, Processes(2), folder / "launch", log)
    except Exception:
        print(log.read_text())
        raise
    return folder


def assert_equal(
    folder: Path, place: str, model: torch.nn.Module, outcome: Outcome, tolerance: float
) -> None:
    """What both processes left is what one has."""
    found = [load_file(folder / f"{place}.{rank}.safetensors") for rank in (0, 1)]
    told = [json.loads((folder / f"{place}.{rank}.json").read_text()) for rank in (0, 1)]
    assert told[0]["status"] == outcome.status == "ok"
    trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    assert trained.keys() == found[0].keys()
    for key, value in trained.items():
        assert torch.equal(found[0][key], found[1][key]), "the processes drifted apart"
        assert torch.allclose(found[0][key], value, rtol=tolerance, atol=tolerance), key
    for rank in (0, 1):
        for key, difference in grid.differences(timeless(outcome.log), told[rank]["log"]):
            assert difference <= tolerance, key


def tolerance_of(name: str) -> float:
    if name.endswith("soap"):
        return (
            math.inf
        )  # that the processes agree and end well is all that holds; see tests/distributed/grid.py
    return FP32 if name.endswith("fp32") else TOLERANCE


@pytest.mark.parametrize("place, name", list(enumerate(grid.names())), ids=grid.names())
def test_two_processes_give_what_one_gives(place, name, two, tmp_path):
    model, outcome = grid.run_one(name, tmp_path)
    assert_equal(two, f"{place}", model, outcome, tolerance_of(name))


@pytest.mark.parametrize("place, name", list(enumerate(grid.sharded_names())), ids=grid.sharded_names())
def test_parts_of_the_parameters_give_what_the_whole_gives(place, name, two, tmp_path):
    model, outcome = grid.run_one(name, tmp_path)
    assert_equal(two, f"sharded{place}", model, outcome, tolerance_of(name))


@pytest.mark.parametrize("name", grid.RESUMED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_continued_by_another_number_of_processes(kind, name, two, tmp_path):
    model, whole = grid.run_one(name, tmp_path / "whole", **grid.LONG)
    assert len(whole.log) == 5
    assert_equal(two, f"{kind} {name}", model, whole, TOLERANCE)  # begun by one, ended by two

    begun = tmp_path / "begun"  # begun by two, ended by one
    shutil.copytree(two / kind / name, begun)
    assert read_json(begun / "c" / "state.json")["step"] == grid.STOP
    again, outcome = grid.run_one(name, begun, **grid.LONG)
    for one, other in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)
    for key, difference in grid.differences(timeless(whole.log), timeless(outcome.log)):
        assert difference <= TOLERANCE, key


def test_a_checkpoint_is_whole_whatever_wrote_it(two):
    """The same tensors in the file: no part of one, no name of a wrapper."""
    for name in grid.RESUMED:
        files = [two / kind / name / "c" / "tensors.safetensors" for kind in KINDS]
        one, other = (load_file(file) for file in files)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.shape == other[key].shape
            assert torch.allclose(value, other[key], rtol=TOLERANCE, atol=TOLERANCE), key
