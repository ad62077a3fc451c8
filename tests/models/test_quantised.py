"""Rounded weights: by hand, by their properties, and as bitsandbytes rounds them."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

from pipeline_lib.models.quantised import GROUPS, NORMAL_FLOAT, quantised


def drawn(rows: int = 24, columns: int = 192, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_int4_by_hand() -> None:
    """From -1 to 2 in 15 steps of 0.2, zero at the fifth: values are multiples of 0.2."""
    weight = torch.tensor([[-1.0, 2.0, 0.29, 0.31, 0.0, -0.55]])
    found = quantised(weight, "int4", 6)
    torch.testing.assert_close(found, torch.tensor([[-1.0, 2.0, 0.2, 0.4, 0.0, -0.6]]))


def test_int8_by_hand() -> None:
    weight = torch.tensor([[1.27, -0.014, 0.016], [0.0, 0.0, 0.0]])
    found = quantised(weight, "int8", None)
    torch.testing.assert_close(found, torch.tensor([[1.27, -0.01, 0.02], [0.0, 0.0, 0.0]]))


def test_nf4_by_hand() -> None:
    """A block's largest weight is exact, and half of it becomes 0.4407 of it, the nearest quantile."""
    weight = torch.tensor([[2.0, 1.0, 0.0, -2.0], [0.3, 0.0, 0.0, 0.0]])
    found = quantised(weight, "nf4", 4)
    half = 2 * 0.44070982933044434
    torch.testing.assert_close(found, torch.tensor([[2.0, half, 0.0, -2.0], [0.3, 0.0, 0.0, 0.0]]))


def test_the_quantiles_of_nf4_are_those_of_the_paper() -> None:
    """Appendix E: 7 quantiles below zero and 8 above it; outermost a tail of (1/30 + 1/32) / 2."""
    tail = 1 - (1 / 30 + 1 / 32) / 2
    above = [norm.ppf(p) for p in torch.linspace(tail, 0.5, 9, dtype=torch.float64)[:-1].tolist()]
    below = [-norm.ppf(p) for p in torch.linspace(tail, 0.5, 8, dtype=torch.float64)[:-1].tolist()]
    expected = sorted([*above, 0.0, *below])
    assert list(NORMAL_FLOAT) == pytest.approx([value / max(above) for value in expected], abs=1e-6)


@pytest.mark.parametrize(("format", "levels"), [("int8", 255), ("int4", 16), ("nf4", 16)])
@pytest.mark.parametrize("group", [32, 50, None])
def test_each_group_has_few_values_and_no_weight_moves_far(format, levels, group) -> None:
    """192 columns are not whole groups of 50: the last one is smaller."""
    weight = drawn()
    size = group or (GROUPS[format] if format == "nf4" else 192)
    found = quantised(weight, format, size)
    assert found.shape == weight.shape and found.dtype == torch.float32
    groups = (
        zip(weight.view(-1).split(size), found.view(-1).split(size), strict=True)
        if format == "nf4"
        else (
            pair
            for rows in zip(weight, found, strict=True)
            for pair in zip(rows[0].split(size), rows[1].split(size), strict=True)
        )
    )
    for before, after in groups:
        assert len(after.unique()) <= levels
        spread = before.clamp(min=0).max() - before.clamp(max=0).min()
        widest = {"int8": 2 * before.abs().max() / 254, "int4": spread / 15}.get(format)
        if widest is None:  # of nf4: between -1 and the next
            widest = (1 - 0.6961928) * before.abs().max()
        assert (after - before).abs().max() <= 0.5001 * widest
    assert (quantised(found, format, size) - found).abs().max() <= 1e-5


@pytest.mark.parametrize("format", ["int8", "int4", "nf4"])
def test_zeros_stay_zeros(format) -> None:
    weight = drawn(4, 128)
    weight[weight.abs() < 0.5] = 0
    found = quantised(weight, format, GROUPS[format])
    assert bool((found[weight == 0] == 0).all())
    assert torch.equal(quantised(torch.zeros(4, 128), format, GROUPS[format]), torch.zeros(4, 128))


def test_nf4_is_that_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    for weight in (drawn(48, 576), drawn(32, 192, 1) ** 3, 1e-4 * drawn(16, 64, 2)):
        packed, state = functional.quantize_4bit(
            weight, blocksize=64, quant_type="nf4", compress_statistics=False
        )
        theirs = functional.dequantize_4bit(packed, state)
        torch.testing.assert_close(quantised(weight, "nf4", 64), theirs.view_as(weight), rtol=1e-6, atol=0)


def test_int8_rows_are_those_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    weight = drawn(48, 576)
    values, scale, _ = functional.int8_vectorwise_quant(weight.half(), threshold=0.0)
    theirs = values.float() * (scale.view(-1, 1) / 127)
    ours = quantised(weight.half(), "int8", None)
    step = weight.abs().amax(1, keepdim=True) / 127
    assert float(((ours - theirs).abs() > 1e-3 * step).float().mean()) < 1e-3  # ties in half precision
