"""Peaks of many layers, predicted from few: the method of benchmarks/memory_of_shape.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from benchmarks.memory_of_shape import (
    CASES,
    CONFIG,
    PLAIN,
    Peaks,
    deviation,
    estimated,
    extrapolated,
    job_of,
)
from pipeline_lib.operations.plan.training_memory import phases_of
from tests.paths import REPO

FEW, MANY = (1, 2, 3), 6  # layers
SMALL = {
    **CONFIG,
    "vocab_size": 2048,
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
NAMES = [
    "GradDiff Sophia, bf16 weights",
    "GradDiff Sophia, bf16 weights, checkpointing",
    "GradDiff AdamW, bf16_stochastic, 4 x batch 1, offload",
    "GradDiff Sophia, fp32, bf16 compute, offload, checkpointing",
    "GradDiff LoRA on bf16",
    "KL AdamW, bf16 weights",
]


def case_of(name: str) -> dict[str, Any]:
    return {**PLAIN, **CASES[name], "config": SMALL}


@cache
def measurements() -> dict[str, dict[int, Peaks]]:
    """Every case with few and with many layers, in one process of its own."""
    asked = [(name, layers) for name in NAMES for layers in (*FEW, MANY)]
    pairs = json.dumps([[case_of(name), layers] for name, layers in asked])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory_of_shape", "--measure", pairs],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
        cwd=REPO,
        capture_output=True,
        check=False,
        text=True,
    )
    found: dict[str, dict[int, Peaks]] = {name: {} for name in NAMES}
    if done.returncode == 0:
        for (name, layers), peaks in zip(asked, json.loads(done.stdout.splitlines()[-1]), strict=True):
            found[name][layers] = peaks
    else:  # once, not for every case
        sys.stderr.write(done.stderr[-2000:])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_few_layers_tell_the_peak_of_many(name: str) -> None:
    measured = measurements()[name]
    assert set(measured) == {*FEW, MANY}, "the measuring process failed, see its words above"
    line = deviation({layers: measured[layers] for layers in FEW})
    assert line is not None
    assert line < 0.01
    parts = extrapolated((2, measured[2]), (3, measured[3]), MANY)
    assert max(parts.values()) == pytest.approx(max(measured[MANY].values()), rel=0.002)
    for part, size in parts.items():
        assert size == pytest.approx(measured[MANY][part], rel=0.005), part


def test_the_largest_part_may_be_another_one_with_more_layers() -> None:
    # 10 and 1 a layer, or 3 a layer: the first is larger with one layer, the second with 32.
    few: tuple[int, Peaks] = (1, {"output": 11, "step": 3})
    more: tuple[int, Peaks] = (2, {"output": 12, "step": 6})
    assert extrapolated(few, more, 32) == {"output": 42.0, "step": 96.0}


def test_one_layer_is_first_and_last() -> None:
    few: tuple[int, Peaks] = (1, {"backward, last layer, graph 0": 5})
    more: tuple[int, Peaks] = (2, {"backward, last layer, graph 0": 7, "backward, first layer, graph 0": 8})
    found = extrapolated(few, more, 3)
    assert found == {"backward, last layer, graph 0": 9.0, "backward, first layer, graph 0": 11.0}


def test_a_bend_is_told() -> None:
    straight: dict[int, Peaks] = {1: {"step": 10}, 2: {"step": 20}, 3: {"step": 30}}
    assert deviation(straight) == 0
    assert deviation({**straight, 1: {"step": 20}}) == pytest.approx(10 / 20)
    assert deviation({1: {"step": 10}, 2: {"step": 20}}) is None


def test_the_two_ends_of_one_layer_are_one_part() -> None:
    last, first = "backward, last layer, graph 0", "backward, first layer, graph 0"
    measured: dict[int, Peaks] = {1: {last: 8}, 2: {last: 9, first: 9}, 3: {last: 12, first: 10}}
    assert deviation(measured) == 0


def test_the_planner_is_asked_for_the_shape_of_llama_2_7b() -> None:
    job = job_of(PLAIN, 32)
    assert job.shape.parameters == 6_738_415_616
    name, size, parts = estimated(PLAIN, 32)
    assert parts["weights"] == 2 * job.shape.parameters
    assert size == sum(parts.values())
    assert name not in ("saving", "loading")


def test_an_offloaded_step_takes_nothing_of_the_gpu() -> None:
    # The fp32 copies of rounding at random lie where the step is taken.
    name = "GradDiff AdamW, bf16_stochastic, 4 x batch 1, offload"
    job = job_of({**PLAIN, **CASES[name]}, 32)
    assert sum(phases_of(job)["step"].values()) == pytest.approx(4 * 6_738_415_616)
    rounded_on_gpu = phases_of(replace(job, settings=job.settings.model_copy(update={"offload": False})))[
        "step"
    ]
    # bf16 weights and gradients, fp32 states; of the embedding, the largest, copies of both and the rounding
    assert sum(rounded_on_gpu.values()) == pytest.approx(12 * 6_738_415_616 + (8 + 12) * 32000 * 4096)
