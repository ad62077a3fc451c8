"""Options that other benchmarks have: weights of the forget term, KL as the retain term, other positions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from pipeline_lib.data.batching import Alternative, Example, collate
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.objectives.retain import Retaining
from tests.methods import changed, make_objective
from tests.objectives.cases import CASES, held, loss_and_gradient
from tests.objectives.test_by_hand import FORGET, LN2, MIXED, OTHERS, RETAIN, TABLE, UNIFORM, close, straight
from tests.tiny import Bigram, in_float64, tiny_model

# The retain answer is predicted after tokens 3 and 0; KL(uniform || row 3) = ln 2 / 4, and 0 after 0.
BEFORE = Bigram([TABLE[0], TABLE[1], TABLE[2], [1 / 4] * 4])
DIVERGENCE = LN2 / 8
WEIGHTS = {"PDU": "dual_start"} | dict.fromkeys(("GradDiff", "KL", "PO", "RandomLabels", "WHP"), "gamma")


def run(objective, forget=FORGET):
    others = [Alternative(other, 2.0 + other.index) for other in OTHERS]
    batches = [collate(forget, 0, torch.tensor([3.0, 4.0]), others)], [collate(RETAIN, 0)]
    return loss_and_gradient(objective, Bigram(TABLE), *batches)[0]


@pytest.mark.parametrize("kind", [k for k, made in OBJECTIVES.kinds().items() if issubclass(made, Retaining)])
@in_float64()
def test_the_total_is_both_weighted_terms(kind):
    """forget_weight F + weight R, with R the mean NLL ln 2 or the divergence, whatever the objective."""
    plain = CASES[kind](held(BEFORE))
    constant = plain.retain_bound if kind == "PDU" else 0.0
    weight = getattr(plain, WEIGHTS.get(kind, "alpha"))
    first = "KL" if kind == "KL" else "EMBED_DIFF" if kind == "RMU" else "NLL"
    terms = {"NLL": LN2, "KL": DIVERGENCE, "EMBED_DIFF": 3 * LN2**2 / 8}
    forget = (run(plain)["total"] - weight * (terms[first] - constant)) / plain.forget_weight
    for term in ["KL"] if kind == "KL" else ["NLL", "KL"]:
        changes = {} if kind == "KL" else {"retain_loss_type": term}
        found = run(changed(plain, forget_weight=0.25, **changes).with_reference_model(held(BEFORE)))
        assert found["total"] == close(0.25 * forget + weight * (terms[term] - constant))
        logged = DIVERGENCE if (kind, term) == ("PDU", "KL") else LN2
        assert found["retain"] == close(logged)


@in_float64()
def test_by_hand():
    assert run(make_objective("GradDiff", gamma=3.0, forget_weight=0.5))["total"] == close(2 * LN2)
    settings = {"retain_loss_type": "KL", "reference_model": held(BEFORE)}
    found = run(make_objective("GradDiff", gamma=8.0, **settings))
    assert found == {"total": close(-2 * LN2 + LN2), "forget": close(2 * LN2), "retain": close(LN2)}


@pytest.mark.parametrize("kind", ["GradDiff", "NPO", "PDU", "RMU"])
def test_the_second_model_is_there_where_it_is_needed(kind):
    reference = held(BEFORE)
    for term, needed in (("NLL", False), ("KL", True)):
        assert changed(CASES[kind](reference), retain_loss_type=term).needs_reference_model == needed


@in_float64()
def test_pdu_where_the_answer_stands():
    # MIXED is answered after 2, and after 3 and 0; it holds three tokens 0. In ln 2 the spread of rows 0 and
    # 3 is 5/4 squared, that of row 2 is 0.
    settings = {"retain_bound": 0.0, "dual_start": 0.0, "dual_step": 1.0, "dual_warmup": 0}
    nll = {"forget": close(4 / 3 * LN2), "retain": close(LN2)}
    for positions, tokens in (("predicting", 2), ("holding", 3)):
        found = run(make_objective("PDU", **settings, positions=positions), forget=MIXED)
        assert found == {"total": close(tokens / 3 * 25 / 16 * LN2**2), **nll}


@in_float64()
def test_rmu_where_the_answer_stands():
    # Three times row 0, -(1 2 3 3) in ln 2, with the goal (-2 0 0 0): 1 + 4 + 9 + 9 = 23 over 4 places. The
    # retain answer holds 0 and 0, which were -(2 2 2 2): 1 + 0 + 1 + 1 = 3 over 4 places.
    objective = straight(held(Bigram(UNIFORM)), positions="holding")
    assert run(objective, forget=MIXED)["total"] == close((23 / 4 + 16 * 3 / 4) * LN2**2)


def test_rmu_of_all_weights():
    model = tiny_model()
    assert make_objective("RMU", **rmu(update_layers="all")).trainable(model) is None
    names = make_objective("RMU", **rmu(update_layers=1)).trainable(model)
    assert names == ["model.layers.0.mlp.down_proj.weight"]


def rmu(**changes):
    settings = {"layer": 0, "update_layers": 1, "steering": 1.0, "alpha": 1.0, "direction_seed": 0}
    return {**settings, **changes}


def test_rmu_without_hidden_states_of_the_retain_set():
    """With the NLL as its retain term no second model is asked for, and the retain loss is in the log."""
    objective = make_objective("RMU", **rmu(alpha=2.0, retain_loss_type="NLL"))
    model, batch = tiny_model(), collate([Example((5, 6, 7, 2), 2, 0)], 0)
    losses = objective(model, batch, batch)
    pushed = make_objective("RMU", **rmu(alpha=0.0, retain_loss_type="NLL"))(model, batch, batch).total
    assert float((losses.total - pushed).detach()) == pytest.approx(2 * float(losses.retain), rel=1e-5)


@in_float64()
def test_undial_at_every_token():
    """128 tokens, a uniform model before unlearning, and one that gives token 28 = 128 - 100 a half.

    At a token of the prompt the teacher has ln 3 taken off token 28, at an answer token off that one, 5.
    Row 0 has one token of each kind, row 1 one answer token alone; as micro-batches they weigh alike.
    """
    after = [1 / 254] * 28 + [1 / 2] + [1 / 254] * 99
    model = Bigram([after] * 128)
    examples = [Example((1, 3, 5), 2, 0), Example((1, 5), 1, 1)]
    batches = [replace(collate([e], 0), tokens_in_step=2, examples_in_step=2) for e in examples]
    settings = {"beta": math.log(3), "alpha": 0.0, "reference_model": held(Bigram([[1 / 128] * 128] * 128))}
    objective = make_objective("UNDIAL", **settings, positions="all")
    found = loss_and_gradient(objective, model, batches, batches)[0]

    def cross_entropy(share):  # of token 28
        return share * math.log(2) + (1 - share) * math.log(254)

    whole = 127 + 1 / 3
    prompt, answer = cross_entropy(1 / 3 / whole), cross_entropy(1 / whole)
    assert found["total"] == close(((prompt + answer) / 2 + answer) / 2)
    assert found["forget"] == close(math.log(254))


def test_the_dual_of_an_epoch():
    """Steps end at epochs 0.5, 1.0, 1.5 and 2.25; it changes where an epoch ends, by the mean excess."""
    settings = {"retain_bound": 0.5, "dual_start": 1.0, "dual_step": 2.0, "dual_warmup": 0}
    steps = [(0.5, 1.0), (1.0, 2.0), (1.5, 0.5), (2.25, 0.0), (2.5, 9.0)]

    def duals(objective, steps):
        found = []
        for epoch, loss in steps:
            objective.after_step({"loss": 0.0, "forget_loss": 0.0, "retain_loss": loss, "epoch": epoch})
            found.append(objective.state()["dual"])
        return found

    # 1 + 2 * (0.5 + 1.5) / 2 = 3; 3 + 2 * (0 - 0.5) / 2 = 2.5; the next epoch has not ended
    expected = [1.0, 3.0, 3.0, 2.5, 2.5]
    assert duals(make_objective("PDU", **settings, dual_update_upon="epoch"), steps) == expected
    waits = make_objective("PDU", **{**settings, "dual_warmup": 2}, dual_update_upon="epoch")
    assert duals(waits, steps) == [1.0, 1.0, 1.0, 0.5, 0.5]
    first, second = (make_objective("PDU", **settings, dual_update_upon="epoch") for _ in range(2))
    duals(first, steps[:3])
    second.restore(first.state())
    assert duals(second, steps[3:]) == expected[3:]
