"""Each objective against its equation: by hand, in slow literal form, and in its limits."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from pipeline_lib.data.batching import Example, collate
from pipeline_lib.models.forward import summed_nll
from pipeline_lib.objectives import FineTuning, make_objective
from tests.objectives.cases import ALPHA, BETA, CASES, GAMMA, loss_and_gradient
from tests.tiny import Bigram, flat, in_float64, random_examples, tiny_model

LN2, LN3 = math.log(2), math.log(3)
close = partial(pytest.approx, rel=1e-12, abs=1e-12)

# --- by hand: token v is followed by token w with probability TABLE[v][w] -------------------------

TABLE = [
    [1 / 2, 1 / 4, 1 / 8, 1 / 8],
    [1 / 8, 1 / 2, 1 / 4, 1 / 8],
    [1 / 4, 1 / 4, 1 / 4, 1 / 4],
    [1 / 2, 1 / 8, 1 / 4, 1 / 8],
]
# prompt [3 0], answer [1 2]: p(1|0) p(2|1) = 1/4 * 1/4, so 4 ln 2 over 2 tokens
# prompt [2], answer [0]: p(0|2) = 1/4, so 2 ln 2
FORGET = [Example((3, 0, 1, 2), 2, 0), Example((2, 0), 1, 1)]
# prompt [3], answer [0 0]: 1/2 * 1/2, so 2 ln 2 over 2 tokens
RETAIN = [Example((3, 0, 0), 1, 0)]


@in_float64()
def hand(objective, reference=None):
    return loss_and_gradient(objective, Bigram(TABLE), [collate(FORGET, 0, reference)], [collate(RETAIN, 0)])[
        0
    ]


def test_the_hand_worked_example():
    nll = {"forget": close(2 * LN2), "retain": close(LN2)}  # 6 ln 2 over 3 tokens, 2 ln 2 over 2
    assert hand(FineTuning()) == {"total": close(LN2), "forget": None, "retain": close(LN2)}
    assert hand(make_objective("GradAscent")) == {
        "total": close(-2 * LN2),
        "forget": close(2 * LN2),
        "retain": None,
    }
    assert hand(make_objective("GradDiff", gamma=3.0)) == {"total": close(-2 * LN2 + 3 * LN2), **nll}
    assert hand(make_objective("PO", gamma=5.0)) == {"total": close(2 * LN2 + 5 * LN2), **nll}


def test_npo_by_hand():
    # Row 0: l - l_ref = ln 3 / beta, so sigmoid = 3/4. Row 1: l = l_ref, so sigmoid = 1/2.
    beta = 0.5
    reference = torch.tensor([4 * LN2 - LN3 / beta, 2 * LN2], dtype=torch.float64)
    expected = -(2 / beta) * (math.log(3 / 4) + math.log(1 / 2)) / 2 + 3 * LN2
    found = hand(make_objective("NPO", beta=beta, alpha=3.0), reference)
    assert found == {"total": close(expected), "forget": close(2 * LN2), "retain": close(LN2)}


def test_kl_by_hand():
    # The retain answer is predicted after tokens 3 and 0. The reference is uniform after 3, equal after 0:
    # KL(uniform || row 3) = 1/4 (ln 1/2 + ln 2 + ln 1 + ln 2) = ln 2 / 4, over 2 tokens.
    uniform = Bigram([TABLE[0], TABLE[1], TABLE[2], [1 / 4] * 4])
    found = hand(make_objective("KL", gamma=8.0, reference_model=uniform))
    assert found == {"total": close(-2 * LN2 + 8 * LN2 / 8), "forget": close(2 * LN2), "retain": close(LN2)}
    # The direction: KL((1/4, 1/4, 1/2, 0+) || (1/2, 1/8, 1/4, 1/8)) = -1/4 ln 2 + 1/4 ln 2 + 1/2 ln 2,
    # which is ln 2 / 2, while the other way round would be more than 80.
    skewed = Bigram([TABLE[0], TABLE[1], TABLE[2], [1 / 4, 1 / 4, 1 / 2, 1e-300]])
    found = hand(make_objective("KL", gamma=8.0, reference_model=skewed))
    assert found["total"] == close(-2 * LN2 + 8 * LN2 / 4)


# --- literal: one example at a time, no batch, every position -------------------------------------


def log_probabilities(model, example):
    """(T, V) over every position of one unpadded example."""
    return torch.log_softmax(model(input_ids=torch.tensor([example.tokens])).logits[0], dim=-1)


def answer_positions(example):
    return range(example.prompt_length, len(example.tokens))


def literal_nll(model, example):
    log_p = log_probabilities(model, example)
    return sum(-log_p[t - 1, example.tokens[t]] for t in answer_positions(example))


def literal_loss(name, model, reference, forget, retain, reference_nll):
    tokens = {id(rows): sum(e.answer_length for e in rows) for rows in (forget, retain)}
    f = sum(literal_nll(model, example) for example in forget) / tokens[id(forget)]
    r = sum(literal_nll(model, example) for example in retain) / tokens[id(retain)]
    if name == "FineTuning":
        return r
    if name == "GradAscent":
        return -f
    if name == "GradDiff":
        return -f + GAMMA * r
    if name == "PO":
        return f + GAMMA * r
    if name == "NPO":
        terms = [
            torch.log(1 / (1 + torch.exp(-BETA * (literal_nll(model, e) - reference_nll[e.index]))))
            for e in forget
        ]
        return -(2 / BETA) * sum(terms) / len(terms) + ALPHA * r
    assert name == "KL"
    divergence = 0.0
    for example in retain:
        log_p = log_probabilities(model, example)
        log_q = log_probabilities(reference, example).detach()
        for t in answer_positions(example):
            divergence = divergence + (log_q[t - 1].exp() * (log_q[t - 1] - log_p[t - 1])).sum()
    return -f + GAMMA * divergence / tokens[id(retain)]


@pytest.mark.parametrize("name", CASES)
@in_float64()
def test_loss_and_gradient_equal_the_literal_equation(name):
    model, reference = tiny_model(0, torch.float64), tiny_model(1, torch.float64)
    forget, retain = random_examples(5, 1), random_examples(4, 2)
    reference_nll = torch.tensor([float(literal_nll(reference, example).detach()) for example in forget])
    found, gradient = loss_and_gradient(
        CASES[name](reference), model, [collate(forget, 0, reference_nll)], [collate(retain, 0)]
    )
    model.zero_grad(set_to_none=True)
    expected = literal_loss(name, model, reference, forget, retain, reference_nll)
    expected.backward()
    assert found["total"] == close(expected.item())
    assert torch.allclose(gradient, flat([p.grad for p in model.parameters()]), rtol=1e-10, atol=1e-12)


# --- limits ---------------------------------------------------------------------------------------


@pytest.fixture
def step():
    """(model, forget batch, retain batch) in fp64."""
    return tiny_model(0, torch.float64), collate(random_examples(4, 1), 0), collate(random_examples(4, 2), 0)


def with_reference(batch, reference_nll):
    return type(batch)(**{**vars(batch), "reference_nll": reference_nll})


@in_float64()
def test_npo_tends_to_ascent_on_the_summed_nll_of_an_example(step):
    model, forget, retain = step
    forget = with_reference(forget, torch.tensor([1.0, 5.0, 9.0, 30.0]))
    ascent = loss_and_gradient(make_objective("GradAscent"), model, [forget], [retain])[1]
    ascent *= forget.answer_tokens / 4  # mean of a token -> mean of an example's sum
    errors = []
    for beta in (1e-2, 1e-3, 1e-4):
        gradient = loss_and_gradient(make_objective("NPO", beta=beta, alpha=0.0), model, [forget], [retain])[
            1
        ]
        errors.append(float((gradient - ascent).norm() / ascent.norm()))
    assert errors[2] < 1e-2
    assert errors[0] > 5 * errors[1] > 25 * errors[2]  # first order in beta


@pytest.mark.parametrize("beta", [0.05, 0.1, 4.0])
@in_float64()
def test_npo_at_the_reference_is_two_over_beta_log_two(step, beta):
    model, forget, retain = step
    forget = with_reference(forget, summed_nll(model, forget).detach())
    found = loss_and_gradient(make_objective("NPO", beta=beta, alpha=0.0), model, [forget], [retain])
    assert found[0]["total"] == close(2 / beta * LN2)
    ascent = loss_and_gradient(make_objective("GradAscent"), model, [forget], [retain])[1]
    assert torch.allclose(found[1], ascent * forget.answer_tokens / 4, rtol=1e-10, atol=1e-12)


@in_float64()
def test_kl_to_the_model_itself_is_zero_and_has_no_gradient(step):
    model, forget, retain = step
    itself = tiny_model(0, torch.float64)
    found = loss_and_gradient(
        make_objective("KL", gamma=1e3, reference_model=itself), model, [forget], [retain]
    )
    ascent = loss_and_gradient(make_objective("GradAscent"), model, [forget], [retain])
    assert found[0]["total"] == close(ascent[0]["total"])
    assert float((found[1] - ascent[1]).abs().max()) < 1e-11
    assert all(parameter.grad is None for parameter in itself.parameters())


@in_float64()
def test_relations_between_objectives(step):
    model, forget, retain = step
    run = partial(loss_and_gradient, model=model, forget=[forget], retain=[retain])
    ascent, plain = run(make_objective("GradAscent")), run(FineTuning())
    difference = run(make_objective("GradDiff", gamma=0.3))
    assert difference[0]["total"] == close(ascent[0]["total"] + 0.3 * plain[0]["total"])
    assert torch.allclose(difference[1], ascent[1] + 0.3 * plain[1], rtol=1e-10, atol=1e-12)
    # PO without the retain term is the plain NLL of what the forget batch holds: refusals.
    refusals = run(FineTuning(), retain=[forget])
    preference = run(make_objective("PO", gamma=0.0))
    assert preference[0]["total"] == close(refusals[0]["total"])
    assert torch.allclose(preference[1], refusals[1], rtol=1e-10, atol=1e-12)


def test_what_an_objective_needs_and_did_not_get_is_an_error(step):
    model, forget, retain = step
    with pytest.raises(ValueError, match="reference_nll"):
        make_objective("NPO", beta=0.1, alpha=1.0)(model, forget, retain)
    with pytest.raises(ValueError, match="reference_model"):
        make_objective("KL", gamma=1.0)(model, forget, retain)
