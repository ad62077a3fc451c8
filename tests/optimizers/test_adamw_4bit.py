"""AdamW with 4-bit states: its codes by hand, and its steps beside AdamW's."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.optimizers.four_bits import BLOCK, SIGNED, UNSIGNED, pack, unpack
from pipeline_lib.optimizers.packed_adamw import PIECE
from tests.methods import make_optimizer


def test_the_codes_of_the_first_average_by_hand() -> None:
    """Of [0.1, 1]: its middle over 100, the middles of its halves over 10, those of its quarters."""
    above = [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875]
    expected = [*(-code for code in reversed(above)), 0.0, *above, 1.0]
    assert torch.allclose(SIGNED, torch.tensor(expected), rtol=1e-6, atol=0)


def test_the_codes_of_the_second_average_are_sixteenths_without_zero() -> None:
    assert UNSIGNED.tolist() == [k / 16 for k in range(1, 17)]


def test_a_block_by_hand() -> None:
    """Over the scale 2: 1 is code 15, -0.5 is nearest to -0.4375 (code 2), 0.1 to 0.0775 (10), and 0 is 7."""
    values = torch.tensor([2.0, -1.0, 0.2, 0.0])
    packed, scales = pack(values, SIGNED)
    assert scales.tolist() == [2.0]
    assert packed[:2].tolist() == [15 + 16 * 2, 10 + 16 * 7]
    assert packed.shape == (BLOCK // 2,) and packed.dtype == torch.uint8
    assert torch.allclose(unpack(packed, scales, SIGNED, 4), torch.tensor([2.0, -0.875, 0.155, 0.0]))


def test_nothing_of_the_second_average_becomes_zero_beside_something() -> None:
    packed, scales = pack(torch.tensor([1.0, 1e-9, 0.0, 0.34]), UNSIGNED)
    assert unpack(packed, scales, UNSIGNED, 4).tolist() == [1.0, 1 / 16, 1 / 16, 5 / 16]
    assert unpack(*pack(torch.zeros(3), UNSIGNED), UNSIGNED, 3).tolist() == [0.0] * 3


def test_a_value_knows_only_its_own_block() -> None:
    values = torch.cat([torch.full((BLOCK,), 1e-3), torch.full((BLOCK + 5,), 7.0)])
    packed, scales = pack(values, SIGNED)
    assert scales.shape == (3,)
    assert torch.equal(unpack(packed, scales, SIGNED, values.numel()), values)


@pytest.mark.parametrize("codes", [SIGNED, UNSIGNED])
def test_packing_is_to_the_nearest_code(codes: torch.Tensor) -> None:
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    packed, scales = pack(values, codes)
    scale = scales.repeat_interleave(BLOCK)[:1000]
    nearest = (values / scale - codes.unsqueeze(1)).abs().min(dim=0).values
    found = (unpack(packed, scales, codes, 1000) / scale - values / scale).abs()
    assert torch.allclose(found, nearest, atol=1e-6)


def movements(kind: str, noise: float, shape: tuple[int, int] = (64, 128)) -> tuple[torch.Tensor, object]:
    """Where 30 steps towards a goal lead, with gradients that are blurred by noise, and the optimiser."""
    torch.manual_seed(0)
    start, goal = torch.randn(shape), torch.randn(shape)
    model = torch.nn.Linear(shape[1], shape[0], bias=False)
    with torch.no_grad():
        model.weight.copy_(start)
    optimizer = make_optimizer(kind, model, learning_rate=1e-2)
    for step in range(30):
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        model.weight.grad = (model.weight - goal).detach() + noise * drawn
        optimizer.step()
    return model.weight.detach() - start, optimizer


@pytest.mark.parametrize(("noise", "cosine", "length"), [(0.0, 0.93, 0.8), (3.0, 0.97, 0.93)])
def test_its_steps_follow_adamws(noise: float, cosine: float, length: float) -> None:
    """Shorter where a value has a much larger neighbour: no code of the second average is below a 16th."""
    (ours, optimizer), (adamws, _) = movements("adamw_4bit", noise), movements("adamw", noise)
    assert {
        key: value.dtype for key, value in optimizer.state_dict()["state"][0].items() if key != "step"
    } == {
        "first": torch.uint8,
        "first_scales": torch.float32,
        "second": torch.uint8,
        "second_scales": torch.float32,
    }
    assert float(torch.cosine_similarity(ours.flatten(), adamws.flatten(), dim=0)) > cosine
    assert length < float(ours.norm() / adamws.norm()) <= 1.0


def test_small_tensors_take_adamws_steps() -> None:
    shape = (63, 65)  # one element less than is packed
    (ours, _), (adamws, _) = movements("adamw_4bit", 1.0, shape), movements("adamw", 1.0, shape)
    assert torch.allclose(ours, adamws, rtol=1e-5, atol=1e-7)


def test_no_number_depends_on_where_the_pieces_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (65, 131)  # the last block is not full
    whole, _ = movements("adamw_4bit", 1.0, shape)
    assert shape[0] * shape[1] < PIECE
    monkeypatch.setattr("pipeline_lib.optimizers.packed_adamw.PIECE", 2 * BLOCK)
    assert torch.equal(movements("adamw_4bit", 1.0, shape)[0], whole)
