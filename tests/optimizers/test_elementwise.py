"""Cutting an update into pieces changes nothing, and loses no element."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.optimizers import elementwise
from pipeline_lib.optimizers.signum import Signum
from pipeline_lib.optimizers.sophia import Sophia, SophiaAsReleased

KINDS = {
    "signum": lambda p: Signum(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
    "sophia": lambda p: Sophia(p, lr=1e-2, beta1=0.9, beta2=0.9, gamma=1.0, eps=1e-12, weight_decay=0.1),
    "sophia_as_released": lambda p: SophiaAsReleased(
        p, lr=1e-2, beta1=0.9, beta2=0.95, rho=0.04, weight_decay=0.1
    ),
}


def trained(kind, start, gradients, estimates, transposed=False):
    """Parameter values and clipped share after the steps; `transposed` keeps the memory non-contiguous."""
    parameter = torch.nn.Parameter(start.t().contiguous().t() if transposed else start.clone())
    optimizer = KINDS[kind]([parameter])
    for gradient, estimate in zip(gradients, estimates, strict=True):
        parameter.grad = gradient.t().contiguous().t() if transposed else gradient.clone()
        if kind == "sophia":
            optimizer.update_curvature([estimate])
        optimizer.step()
    assert parameter.is_contiguous() != transposed
    return parameter.detach(), getattr(optimizer, "clipped_share", None)


@pytest.mark.parametrize("kind", KINDS)
def test_chunked_equals_unchunked(kind, monkeypatch):
    shape = (411, 701)  # 288 111 elements: two whole chunks and a part
    assert 2 * elementwise.CHUNK < shape[0] * shape[1] < 3 * elementwise.CHUNK
    start, *draws = torch.randn(7, *shape)
    gradients = [draw * 10 ** (-4 * torch.rand(shape)) for draw in draws[:3]]
    estimates = [draw.square() for draw in draws[3:]]
    chunked, share = trained(kind, start, gradients, estimates)
    strided, strided_share = trained(kind, start, gradients, estimates, transposed=True)
    monkeypatch.setattr(elementwise, "CHUNK", start.numel())
    whole, whole_share = trained(kind, start, gradients, estimates)
    assert torch.equal(chunked, whole)
    assert torch.allclose(strided, whole, rtol=1e-6, atol=1e-7)
    assert share == whole_share
    if share is not None:
        assert 0.01 < share < 0.99
        assert strided_share == pytest.approx(share, abs=1e-5)


def test_chunks_are_aligned_views_that_cover_everything(monkeypatch):
    monkeypatch.setattr(elementwise, "CHUNK", 4)
    one, other = torch.zeros(3, 3), torch.arange(9.0).reshape(3, 3)
    pieces = list(elementwise.chunks(one, other))
    assert [piece[0].numel() for piece in pieces] == [4, 4, 1]
    for left, right in pieces:
        left.copy_(right)
    assert torch.equal(one, other)
    whole = list(elementwise.chunks(one.t(), other))
    assert len(whole) == 1 and whole[0][1] is other
