"""Each objective against a slow form of its equation: one example at a time, every position, no batch."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline_lib.data.batching import collate
from tests.objectives.cases import (
    ALPHA,
    BETA,
    BETA1,
    BETA2,
    BOUND,
    CASES,
    DUAL,
    GAMMA,
    MARGIN,
    SEED,
    STEERING,
    STRENGTH,
    WEIGHT,
    alternatives_to,
    held,
    loss_and_gradient,
)
from tests.tiny import flat, in_float64, make_examples, random_examples, tiny_model


def logits_of(model, example):
    """(T, V) over every position of one unpadded example."""
    return model(input_ids=torch.tensor([example.tokens])).logits[0]


def answer_positions(example):
    return range(example.prompt_length, len(example.tokens))


def tokens_of(examples):
    return sum(len(answer_positions(example)) for example in examples)


def predictions(model, examples):
    """(logits (V,), token) for every answer token of all examples."""
    for example in examples:
        logits = logits_of(model, example)
        for t in answer_positions(example):
            yield logits[t - 1], example.tokens[t]


def nll_of(logits, token):
    return -torch.log(torch.exp(logits[token]) / torch.exp(logits).sum())


def literal_nll(model, example):
    return sum(nll_of(*prediction) for prediction in predictions(model, [example]))


def mean_nll(model, examples):
    return sum(literal_nll(model, example) for example in examples) / tokens_of(examples)


def cross_entropy(wanted, logits):
    return -(wanted * torch.log(torch.exp(logits) / torch.exp(logits).sum())).sum()


def log_sigmoid(x):
    return torch.log(1 / (1 + torch.exp(-x)))


def npo(model, forget, reference):
    terms = [log_sigmoid(BETA * (literal_nll(model, e) - reference[e.index])) for e in forget]
    return -(2 / BETA) * sum(terms) / len(terms)


def pairs(model, forget, reference, alternatives):
    terms = []
    for example, other in zip(forget, alternatives, strict=True):
        log_ratio = -(literal_nll(model, example) - reference[example.index])
        preferred = -(literal_nll(model, other.example) - other.reference_nll)
        terms.append(log_sigmoid(BETA * (preferred - log_ratio)))
    return -(2 / BETA) * sum(terms) / len(terms)


def simnpo(model, forget):
    terms = [log_sigmoid(BETA * literal_nll(model, e) / len(answer_positions(e)) - MARGIN) for e in forget]
    return -(2 / BETA) * sum(terms) / len(terms)


def weighted(model, forget, weight):
    total = 0.0
    for logits, token in predictions(model, forget):
        nll = nll_of(logits, token)
        total = total + weight(float(torch.exp(-nll.detach()))) * nll
    return total / tokens_of(forget)


def divergence(model, before, retain):
    total = 0.0
    old = list(predictions(before, retain))
    for (logits, _), (reference, _) in zip(predictions(model, retain), old, strict=True):
        log_p, log_q = torch.log_softmax(logits, -1), torch.log_softmax(reference.detach(), -1)
        total = total + (log_q.exp() * (log_q - log_p)).sum()
    return total / tokens_of(retain)


def undial(model, before, forget):
    total, old = 0.0, list(predictions(before, forget))
    for (logits, token), (reference, _) in zip(predictions(model, forget), old, strict=True):
        adjusted = reference.detach().clone()
        adjusted[token] -= 3.0
        total = total + cross_entropy(torch.softmax(adjusted, -1), logits)
    return total / tokens_of(forget)


def ceu(model, forget, skip):
    terms = []
    for example in forget:
        for logits, token in list(predictions(model, [example]))[skip:]:
            p = torch.softmax(logits.detach(), -1)
            p[token] = 0.0
            terms.append(cross_entropy(p / p.sum(), logits))
    return sum(terms) / len(terms)


def spread(model, forget):
    return sum((z.max() - z.mean()) ** 2 for z, _ in predictions(model, forget)) / tokens_of(forget)


def hidden(model, example):
    """(T, D) after the first layer."""
    return model(input_ids=torch.tensor([example.tokens]), output_hidden_states=True).hidden_states[1][0]


def rmu(model, before, forget, retain):
    drawn = torch.rand(32, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    target = STEERING * drawn / math.sqrt(sum(x**2 for x in drawn.tolist()))
    away = held_back = 0.0
    for e in forget:
        away = away + sum(((hidden(model, e)[t - 1] - target) ** 2).mean() for t in answer_positions(e))
    for e in retain:
        difference = hidden(model, e) - hidden(before, e).detach()
        held_back = held_back + sum((difference[t - 1] ** 2).mean() for t in answer_positions(e))
    return away / tokens_of(forget) + ALPHA * held_back / tokens_of(retain)


def literal_loss(name, model, before, forget, retain, reference, alternatives):
    if name == "RMU":
        return rmu(model, before, forget, retain)
    f, r = mean_nll(model, forget), mean_nll(model, retain)
    forms = {
        "FineTuning": lambda: r,
        "GradAscent": lambda: -f,
        "GradDiff": lambda: -f + GAMMA * r,
        "KL": lambda: -f + GAMMA * divergence(model, before, retain),
        "PO": lambda: f + GAMMA * r,
        "RandomLabels": lambda: f + GAMMA * r,
        "DPO": lambda: pairs(model, forget, reference, alternatives) + ALPHA * r,
        "IdkDPO": lambda: pairs(model, forget, reference, alternatives) + ALPHA * r,
        "AltPO": lambda: pairs(model, forget, reference, alternatives) + ALPHA * r,
        "NPO": lambda: npo(model, forget, reference) + ALPHA * r,
        "SimNPO": lambda: WEIGHT * simnpo(model, forget) + ALPHA * r,
        "WGA": lambda: -weighted(model, forget, lambda p: p**BETA) + ALPHA * r,
        "SatImp": lambda: -weighted(model, forget, lambda p: p**BETA1 * (1 - p) ** BETA2) + ALPHA * r,
        "UNDIAL": lambda: undial(model, before, forget) + ALPHA * r,
        "UNDIAL without retain": lambda: undial(model, before, forget),
        "CEU": lambda: ceu(model, forget, 1),
        "CEU of all tokens": lambda: ceu(model, forget, 0),
        "PDU": lambda: spread(model, forget) + DUAL * (r - BOUND),
        "L1Sparse": lambda: r + STRENGTH * sum(p.abs().sum() for p in model.parameters()),
        "TaskVector": lambda: f,
        "WHP": lambda: f + GAMMA * r,
    }
    return forms[name]()


@pytest.mark.parametrize("name", CASES)
@in_float64()
def test_loss_and_gradient_equal_the_literal_equation(name):
    model, before = tiny_model(0, torch.float64), tiny_model(1, torch.float64)
    forget, retain = make_examples([(3, 4), (2, 1), (5, 6), (2, 2)], 1), random_examples(4, 2)
    reference = torch.tensor([float(literal_nll(before, example).detach()) for example in forget])
    alternatives = alternatives_to(forget)
    found, gradient = loss_and_gradient(
        CASES[name](held(before)), model, [collate(forget, 0, reference, alternatives)], [collate(retain, 0)]
    )
    model.zero_grad(set_to_none=True)
    expected = literal_loss(name, model, before, forget, retain, reference, alternatives)
    expected.backward()
    assert found["total"] == pytest.approx(expected.item(), rel=1e-12, abs=1e-12)
    exact = flat([torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()])
    assert exact.abs().max() > 1e-3
    assert torch.allclose(gradient, exact, rtol=1e-10, atol=1e-12)
