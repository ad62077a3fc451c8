"""Two optimisers in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.distributed.group import ALONE
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.loop import train
from pipeline_lib.training.make import make_update
from pipeline_lib.training.settings import Unlearn
from tests.methods import make_objective
from tests.tiny import tiny_model
from tests.training.runs import Stopped, data, settings, stop_before, timeless

ADAMW = {"kind": "adamw", "learning_rate": 1e-2}
SOPHIA = {"kind": "sophia", "learning_rate": 1e-2, "update_every": 2}
ZEROTH = {"kind": "r_adazo", "learning_rate": 1e-3}


def hybrid(first: Any = ADAMW, second: Any = ZEROTH, **given: Any) -> Any:
    return OPTIMIZERS.parse({"kind": "hybrid", "first": first, "second": second, **given})


def test_turns_are_counted_from_the_end() -> None:
    turns = [hybrid(steps_each=3).turn(step, 8) for step in range(8)]
    assert turns == [1, 1, 0, 0, 0, 1, 1, 1]
    assert [hybrid(steps_each=3, last="first").turn(step, 8) for step in range(8)] == [1 - t for t in turns]
    assert [hybrid(steps_each=9).turn(step, 8) for step in range(8)] == [1] * 8


def go(method: Any, folder: Path, steps: int = 6, **changes: Any) -> tuple[torch.Tensor, Any, Any]:
    model = tiny_model()
    course = MiniBatches(data(), settings(epochs=steps / 3, checkpoint_seconds=0, **changes), 3)
    update = make_update(method, model, course, Unlearn(**course.settings.model_dump()), ALONE)
    outcome = train(model, make_objective("GradDiff", gamma=1.0), update, course, Kept(folder, "hybrid"))
    return torch.cat([p.detach().flatten() for p in model.parameters()]), update, outcome.log


def test_one_turn_is_that_optimiser_alone(tmp_path: Path) -> None:
    """To the bit; the learning rate of the hybrid is a factor, and the schedule is that of the run."""
    alone, _, log = go(OPTIMIZERS.parse({**ADAMW, "learning_rate": 5e-3}), tmp_path / "a", warmup=0.5)
    both, _, of_both = go(hybrid(steps_each=6, last="first", learning_rate=0.5), tmp_path / "b", warmup=0.5)
    assert torch.equal(alone, both)
    assert [row["learning_rate"] for row in of_both] == [row["learning_rate"] for row in log]
    assert {row["turn"] for row in of_both} == {0}


def test_each_steps_in_its_turn_and_keeps_its_states(tmp_path: Path) -> None:
    """AdamW counts the steps that it took, and no others."""
    _, update, log = go(hybrid(steps_each=2), tmp_path)
    assert [row["turn"] for row in log] == [1, 1, 0, 0, 1, 1]
    assert [row["learning_rate"] for row in log] == [1e-3, 1e-3, 1e-2, 1e-2, 1e-3, 1e-3]
    first, second = (one.optimizer for one in update.updates)
    assert {int(state["step"]) for state in first.state.values()} == {2}
    assert all(state["average"].any() for state in second.state.values())


@pytest.mark.parametrize("first", [SOPHIA, {"kind": "muon", "learning_rate": 1e-2}])
def test_a_stopped_run_goes_on_to_the_same_bits(first: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """With states and curvature of both; Muon orders its parameters in another way than R-AdaZO."""
    method = hybrid(first, steps_each=1)
    whole, _, log = go(method, tmp_path / "a")
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_before(4, patch)
        go(method, tmp_path / "b")
    weights, _, continued = go(method, tmp_path / "b")
    assert torch.equal(weights, whole) and timeless(continued) == timeless(log)


def test_what_it_is_follows_from_its_two() -> None:
    method = hybrid(SOPHIA)
    assert (method.order, method.moves_zeros, hybrid(ZEROTH).order) == ("SO", True, "ZO")
    assert "bf16" in method.needs_fp32 and hybrid(second=SOPHIA).needs_fp32 is None
    assert method.state_bytes(10.0, 0.0, 4) == 2 * 40 + 2 * 40
    assert {"pipeline_lib.training.zeroth_order", "pipeline_lib.training.hybrid"} < set(method.modules())
    control = {"kind": "sophia", "learning_rate": 1e-2, "control": "permuted_curvature"}
    assert [m.permutation_seed for m in hybrid(control).seeded(7).members[:1]] == [7]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"kind": "influence"}, "second.kind: influence cannot take turns.*one step over the whole sets"),
        (
            {"kind": "hybrid", "first": ADAMW, "second": ADAMW},
            "second.kind: hybrid cannot take turns.*it is two",
        ),
        (
            {**ADAMW, "smoothing": {"kind": "sam", "rho": 0.1}},
            "second.smoothing: an optimiser that takes",
        ),
        ({"kind": "adamv", "learning_rate": 1e-3}, "second.kind: found 'adamv'; did you mean 'adamw'"),
        ({"kind": "adamw"}, "second.learning_rate: is missing"),
    ],
)
def test_what_cannot_take_turns_is_refused(second: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        hybrid(second=second)


def test_offload_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"offload` is of no use to hybrid: each of its two"):
        go(hybrid(), tmp_path, offload=True)
