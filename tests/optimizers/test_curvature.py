"""The Gauss-Newton-Bartlett estimate against the exact diagonal of the generalised Gauss-Newton matrix."""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline_lib.data.batching import Example, collate, micro_batches
from pipeline_lib.models.forward import answer_logits
from pipeline_lib.optimizers.curvature import gauss_newton_bartlett
from tests.tiny import Bigram, flat, in_float64, labels_without_chance, pad_right, random_examples, tiny_model


def exact_diagonal(model, batch, parameters):
    """diag of J^T (diag(p) - p p^T) J, averaged over the answer positions, one backward pass a logit."""
    logits = answer_logits(model, batch)[0]  # (N, V)
    total = torch.zeros(sum(p.numel() for p in parameters))
    for row in logits:
        gradients = []
        for logit in row:
            parts = torch.autograd.grad(
                logit, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            gradients.append(flat(parts))
        jacobian, p = torch.stack(gradients), row.detach().softmax(-1)  # (V, P), (V,)
        total += p @ jacobian.square() - (p @ jacobian).square()
    return total / len(logits)


def mean_and_error(model, batches, parameters, draws):
    """Mean over draws and its standard error, elementwise."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.stack(
        [flat(gauss_newton_bartlett(model, batches, parameters, generator)) for _ in range(draws)]
    )
    assert (rows >= 0).all()
    return rows.mean(0), rows.std(0) / draws**0.5


def assert_unbiased(found, error, exact):
    assert torch.equal(found[exact == 0], exact[exact == 0])  # a parameter without influence
    z = ((found - exact) / error)[exact > 0]
    assert (z.abs() < 4).double().mean() > 0.99
    assert z.square().mean() < 1.5  # neither too far off nor ...
    assert 0.98 < float(found.sum() / exact.sum()) < 1.02  # ... wrong by a factor


@in_float64()
def test_mean_by_hand():
    """Logits that are parameters themselves: the diagonal at row v is share of positions * p (1 - p)."""
    table = [[1 / 2, 1 / 4, 1 / 8, 1 / 8], [1 / 4] * 4, [1 / 8, 1 / 8, 1 / 3, 5 / 12], [1 / 4] * 4]
    model = Bigram(table)
    examples = [Example((0, 2, 1), 1, 0), Example((3, 0, 0), 1, 1)]  # predicted after 0, 2, 3, 0
    p = torch.tensor(table)
    exact = (p * (1 - p) * torch.tensor([2 / 4, 0, 1 / 4, 1 / 4])[:, None]).reshape(-1)
    batch = collate(examples, 0)
    assert torch.allclose(exact_diagonal(model, batch, [model.table]), exact, rtol=1e-12)
    for batches in ([batch], micro_batches(examples, 1, 0)):
        assert_unbiased(*mean_and_error(model, batches, [model.table], 2000), exact)


@in_float64()
def test_mean_equals_the_exact_diagonal_of_a_language_model():
    model = tiny_model(
        0,
        torch.float64,
        vocab_size=7,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    examples = [replace(e, tokens=tuple(token % 7 for token in e.tokens)) for e in random_examples(3)]
    parameters = list(model.parameters())
    exact = exact_diagonal(model, collate(examples, 0), parameters)
    assert exact.max() > 0.05
    found, error = mean_and_error(model, micro_batches(examples, 2, 0), parameters, 500)
    assert_unbiased(found, error, exact)


@in_float64()
def test_micro_batches_and_padding_change_nothing(monkeypatch):
    labels_without_chance(monkeypatch)
    model = tiny_model(0, torch.float64)
    examples = random_examples(6)
    parameters, generator = list(model.parameters()), torch.Generator()
    whole = flat(gauss_newton_bartlett(model, [collate(examples, 0)], parameters, generator))
    assert whole.max() > 0.1
    for batches in (
        micro_batches(examples, 4, 0),
        micro_batches(examples, 1, 0),
        [pad_right(collate(examples, 5), 7, 9)],
        [pad_right(collate(examples[:2], 5), 3, 9), collate(examples[2:], 1)],
    ):
        found = flat(gauss_newton_bartlett(model, batches, parameters, generator))
        assert torch.allclose(found, whole, rtol=1e-9, atol=1e-14)


def test_labels_follow_the_generator_alone():
    model, batch = tiny_model(), collate(random_examples(4), 0)
    parameters = list(model.parameters())

    def estimate(seed):
        return flat(gauss_newton_bartlett(model, [batch], parameters, torch.Generator().manual_seed(seed)))

    first = estimate(1)
    torch.rand(10)  # the global generator has no say
    assert torch.equal(estimate(1), first)
    assert not torch.equal(estimate(2), first)
    assert all(parameter.grad is None for parameter in parameters)


def test_a_parameter_that_is_not_used_has_no_curvature():
    model, unused = tiny_model(), torch.nn.Parameter(torch.ones(3))
    estimate = gauss_newton_bartlett(
        model, [collate(random_examples(2), 0)], [*model.parameters(), unused], torch.Generator()
    )
    assert estimate[-1].tolist() == [0, 0, 0]
