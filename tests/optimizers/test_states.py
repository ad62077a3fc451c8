"""What an optimiser keeps: as many bytes as the planner counts, under the names that checkpoints hold."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.rounding import stochastic_round
from pipeline_lib.optimizers.sophia import GAMMA_START
from tests.methods import make_optimizer
from tests.optimizers.kinds import KINDS, OURS, SETTINGS, optimizer_of, take_step
from tests.tiny import tiny_model


def spec(kind: str, **more: Any) -> Any:
    return OPTIMIZERS.parse({"kind": kind, "learning_rate": 1e-2, **SETTINGS[kind], **more})


@pytest.mark.parametrize(
    "kind", [k for k in KINDS if not {"adamw_4bit", "adamw_8bit"}.intersection(k.values)]
)
def test_the_planner_counts_the_bytes_that_a_step_leaves(kind: str) -> None:
    model = tiny_model()
    optimizer = optimizer_of(kind, model)
    take_step(optimizer, model, 0)
    matrices = [p for p in model.parameters() if p.dim() > 1]  # AdamW's part of Muon has vectors too
    trained = sum(p.numel() for p in model.parameters())
    embedding = model.get_input_embeddings().weight.numel()
    kept = sum(
        value.numel() * value.element_size()
        for state in optimizer.state_dict()["state"].values()
        for value in state.values()
        if torch.is_tensor(value) and value.numel() > 1
    )
    second_averages_of_vectors = trained - sum(p.numel() for p in matrices) if kind == "muon" else 0
    counted = spec(kind).state_bytes(trained, embedding, 4)
    counted += sum(spec(kind).matrix_bytes(*p.shape, 4) for p in matrices)
    assert counted == kept - 4 * second_averages_of_vectors


def test_eight_bits_a_value_and_a_scale_for_256_of_them() -> None:
    assert spec("adamw_8bit").state_bytes(1024.0, 0.0, 4) == 2 * (1024 + 4 * 4)


def test_half_a_byte_a_value_and_a_scale_for_128_of_them() -> None:
    model = torch.nn.Linear(96, 64, bias=False)
    optimizer = make_optimizer("adamw_4bit", model, learning_rate=1e-2)
    take_step(optimizer, model, 0)
    (state,) = optimizer.state_dict()["state"].values()
    kept = sum(value.numel() * value.element_size() for value in state.values() if torch.is_tensor(value))
    assert spec("adamw_4bit").state_bytes(96 * 64, 0, 4) == kept == 2 * (96 * 64 / 2 + 4 * 48)


@pytest.mark.parametrize("kind", OURS)
def test_a_parameter_group_holds_the_settings_and_not_what_names_the_method(kind: str) -> None:
    assert not {"kind", "learning_rate"} & set(spec(kind).settings())
    assert spec(kind).settings()["lr"] == 1e-2


def test_gamma_auto_starts_at_the_published_constant() -> None:
    """arXiv 2305.14342, section 3.1: gamma 0.05 with the Gauss-Newton-Bartlett estimator."""
    assert spec("sophia").settings()["gamma"] == GAMMA_START == 0.05
    assert spec("sophia", gamma=0.2, clipped_target=None).settings()["gamma"] == 0.2


def test_an_estimate_for_each_parameter() -> None:
    model = tiny_model()
    optimizer = optimizer_of("sophia", model)
    estimate = [
        torch.ones_like(parameter) for group in optimizer.param_groups for parameter in group["params"]
    ]
    with pytest.raises(ValueError, match="zip"):
        optimizer.update_curvature(estimate[:-1])


def test_noise_is_drawn_where_the_weights_lie() -> None:
    """The device without data stands for a GPU: it refuses a tensor of the CPU."""
    assert stochastic_round(torch.ones(3, device="meta")).device.type == "meta"


class _Nested(torch.optim.Adam):
    """As in bitsandbytes: tables beside the states, and a state dictionary of its own form."""

    name2qmap = {"dynamic": torch.arange(3.0), "udynamic": torch.arange(4.0)}  # noqa: RUF012

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                tables = {"qmap1": self.name2qmap["dynamic"], "qmap2": self.name2qmap["udynamic"]}
                state1 = torch.ones(parameter.shape, dtype=torch.uint8)
                self.state[parameter] = {"step": 3, "state1": state1, **tables}

    def state_dict(self) -> dict[str, Any]:
        return {"nested": True}

    def load_state_dict(self, state_dict: dict[str, Any], move_to_device: bool = True) -> None:
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, state in state_dict["state"].items():  # unlike torch, without a cast of the bytes
            self.state[parameters[index]] = dict(state)


def test_checkpoints_of_eight_bit_states_hold_no_shared_table(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("bitsandbytes")
    package.optim = SimpleNamespace(AdamW8bit=_Nested)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    model = tiny_model()
    first, second = (make_optimizer("adamw_8bit", model, learning_rate=1e-3) for _ in range(2))
    first.step()
    content = first.state_dict()
    assert {tuple(state) for state in content["state"].values()} == {("step", "state1")}
    content["state"] = {i: {**s, "step": torch.tensor(3.0)} for i, s in content["state"].items()}
    second.load_state_dict(content)
    for parameter, state in second.state.items():
        before = first.state[parameter]
        assert state["step"] == 3 and isinstance(state["step"], int)
        assert torch.equal(state["qmap1"], before["qmap1"]) and torch.equal(state["qmap2"], before["qmap2"])
        assert state["state1"].dtype == torch.uint8
