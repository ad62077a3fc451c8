"""The elementwise updates for a GPU: one Triton kernel that steps all tensors of a type with one launch.

Imported only to step a CUDA tensor, because Triton comes with torch's CUDA builds alone. Each update has the
name of its torch function and does the same to single values; `coefficients` is the address of the numbers
that the torch function takes after the tensors. Comparisons are written so that a NaN stays one, as in torch.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

ELEMENTS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _lerp(start, end, weight):
    """torch.lerp, which interpolates from the nearer end."""
    return tl.where(weight < 0.5, start + weight * (end - start), end - (end - start) * (1 - weight))


@triton.jit
def _sign(value):
    return tl.where(value > 0, 1.0, tl.where(value < 0, -1.0, 0.0))


@triton.jit
def _move(theta, momentum, denominator, decay, lr):
    """`sophia._move`. The division is rounded to nearest, so that m / m is 1 and counts as clipped."""
    ratio = tl.math.div_rn(momentum, denominator)
    movement = lr * tl.where(ratio > 1, 1.0, tl.where(ratio < -1, -1.0, ratio))
    return theta - (decay * theta + movement), movement * movement, tl.abs(ratio) >= 1


@triton.jit
def published_update(theta, gradient, momentum, curvature, coefficients):
    """`sophia.published_update`."""
    decay, lr, weight = tl.load(coefficients), tl.load(coefficients + 1), tl.load(coefficients + 2)
    gamma, eps = tl.load(coefficients + 3), tl.load(coefficients + 4)
    momentum = _lerp(momentum, gradient, weight)
    scaled = gamma * curvature
    theta, square, clipped = _move(theta, momentum, tl.where(scaled < eps, eps, scaled), decay, lr)
    return theta, momentum, curvature, square, clipped


@triton.jit
def released_update(theta, gradient, momentum, curvature, coefficients):
    """`sophia.released_update`."""
    decay, lr, weight = tl.load(coefficients), tl.load(coefficients + 1), tl.load(coefficients + 2)
    keep, rest = tl.load(coefficients + 3), tl.load(coefficients + 4)
    scale, eps = tl.load(coefficients + 5), tl.load(coefficients + 6)
    curvature = curvature * keep + rest * (gradient * gradient)
    momentum = _lerp(momentum, gradient, weight)
    theta, square, clipped = _move(theta, momentum, scale * curvature + eps, decay, lr)
    return theta, momentum, curvature, square, clipped


@triton.jit
def signum_update(theta, gradient, momentum, coefficients):
    """`signum.signum_update`."""
    decay, lr, weight = tl.load(coefficients), tl.load(coefficients + 1), tl.load(coefficients + 2)
    momentum = _lerp(momentum, gradient, weight)
    movement = lr * _sign(momentum)
    return theta - (decay * theta + movement), momentum, movement * movement


@triton.jit
def lion_update(theta, gradient, momentum, coefficients):
    """`lion.lion_update`."""
    decay, lr = tl.load(coefficients), tl.load(coefficients + 1)
    newest, weight = tl.load(coefficients + 2), tl.load(coefficients + 3)
    movement = lr * _sign(_lerp(momentum, gradient, newest))
    return theta - (decay * theta + movement), _lerp(momentum, gradient, weight), movement * movement


@triton.jit
def sgd_update(theta, gradient, momentum, coefficients):
    """`sgd.sgd_update`."""
    decay, lr, keep = tl.load(coefficients), tl.load(coefficients + 1), tl.load(coefficients + 2)
    momentum = momentum * keep + gradient
    movement = lr * momentum
    return theta - (decay * theta + movement), momentum, movement * movement


@triton.jit
def _pointer(addresses, column: tl.constexpr, start, element: tl.constexpr):
    """Where the program's block of a tensor begins. Tensors are aligned, so that 128 bits load at once."""
    address = tl.load(addresses + column).to(tl.pointer_type(element))
    return tl.multiple_of(address, 16) + start


@triton.jit
def _block(
    addresses,
    start,
    limit,
    coefficients,
    update: tl.constexpr,
    element: tl.constexpr,
    states: tl.constexpr,
    changed: tl.constexpr,
    block: tl.constexpr,
):
    """Update the first `limit` elements of a block; their summed squares, and how many are clipped."""
    lanes = tl.arange(0, block)
    inside = lanes < limit
    theta_at = _pointer(addresses, 0, start, element) + lanes
    gradient_at = _pointer(addresses, 1, start, element) + lanes
    momentum_at = _pointer(addresses, 2, start, element) + lanes
    theta = tl.load(theta_at, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(gradient_at, mask=inside, other=0.0).to(tl.float32)
    momentum = tl.load(momentum_at, mask=inside, other=0.0).to(tl.float32)
    count = 0.0
    if states == 2:
        curvature_at = _pointer(addresses, 3, start, element) + lanes
        curvature = tl.load(curvature_at, mask=inside, other=0.0).to(tl.float32)
        theta, momentum, curvature, square, clipped = update(
            theta, gradient, momentum, curvature, coefficients
        )
        if changed == 2:
            tl.store(curvature_at, curvature.to(element), mask=inside)
        count = tl.sum(tl.where(inside & clipped, 1.0, 0.0))
    else:
        theta, momentum, square = update(theta, gradient, momentum, coefficients)
    tl.store(theta_at, theta.to(element), mask=inside)
    tl.store(momentum_at, momentum.to(element), mask=inside)
    return tl.sum(tl.where(inside, square, 0.0)), count


@triton.jit
def step(
    table,
    owners,
    blocks,
    sizes,
    coefficients,
    sums,
    update: tl.constexpr,
    element: tl.constexpr,
    states: tl.constexpr,
    changed: tl.constexpr,
    block: tl.constexpr,
):
    """Program i updates block blocks[i] of tensor owners[i], and writes column i of `sums`.

    A row of `table` is a tensor's addresses: theta, gradient, its `states`, of which the first `changed` are
    written back. A whole block has a limit known to the compiler, so that its loads need no mask.
    """
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    start = tl.load(blocks + program).to(tl.int64) * block
    left = tl.load(sizes + owner) - start
    addresses = table + owner * (2 + states)
    if left >= block:
        square, count = _block(addresses, start, block, coefficients, update, element, states, changed, block)
    else:
        square, count = _block(addresses, start, left, coefficients, update, element, states, changed, block)
    tl.store(sums + program, square)
    if states == 2:
        tl.store(sums + tl.num_programs(0) + program, count)
