"""A small language model with its exact curvature, and how the tests judge a mean of many estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pipeline_lib.curvature.base import StepData
from pipeline_lib.data.batching import Batch, Example
from tests.methods import estimator
from tests.tiny import flat, random_examples, tiny_model

TOKENS = 7  # vocabulary


def small_model():
    """One layer, 464 parameters, in fp64."""
    return tiny_model(
        0,
        torch.float64,
        vocab_size=TOKENS,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )


def small_examples(n: int = 3, seed: int = 0) -> list[Example]:
    examples = random_examples(n, seed)
    return [replace(e, tokens=tuple(token % TOKENS for token in e.tokens)) for e in examples]


def estimate(
    name: str,
    model,
    forget: Sequence[Batch],
    parameters: Sequence[torch.Tensor],
    generator: torch.Generator,
) -> torch.Tensor:
    """One estimate on these batches, as one vector (P,); for those that look at no objective."""
    return flat(estimator(name).estimate(model, None, StepData(forget, [], "both"), parameters, generator))


def draws(name: str, model, batches: Sequence[Batch], count: int, seed: int = 1) -> torch.Tensor:
    """(count, P) estimates from one generator.

    By hand, over seeds 0 to 29, one z in 360 lay beyond 3 and their mean square was 0.94, as chance has it;
    the one is seed 0's.
    """
    generator, parameters = torch.Generator().manual_seed(seed), list(model.parameters())
    return torch.stack([estimate(name, model, batches, parameters, generator) for _ in range(count)])


def agrees(rows: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether the mean of `rows` (draws, P) is `exact` (P,) but for chance.

    If it is, each z = (mean - exact) / standard error is about normal, though not independent of the
    others. Then 99.7 % of the z are within 3 (asked: 99 %), all are within 6, their mean square is 1
    (asked: below 1.5; coordinates that move together let it stray), and so is the one z of the sum over all
    coordinates, which is within 3. Where nothing varies, the mean must be exact to rounding.
    """
    mean, error = rows.mean(0), rows.std(0) / len(rows) ** 0.5
    moves = error > 1e-9 * exact.abs().max()
    z = ((mean - exact) / error)[moves]
    sums = rows.sum(1)
    z_sum = (sums.mean() - exact.sum()) / (sums.std() / len(rows) ** 0.5)
    return bool(
        torch.allclose(mean[~moves], exact[~moves], rtol=1e-6, atol=1e-9)
        and (z.abs() < 3).double().mean() >= 0.99
        and z.abs().max() < 6
        and z.square().mean() < 1.5
        and (z_sum.abs() < 3 or sums.std() < 1e-9 * sums.abs().max())
    )
