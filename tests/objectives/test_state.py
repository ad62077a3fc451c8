"""What objectives keep between steps: the dual variable of PDU; all others keep nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.data.batching import collate
from tests.methods import make_objective
from tests.objectives.cases import CASES
from tests.tiny import random_examples, tiny_model


def pdu(**changes):
    settings = {"retain_bound": 0.5, "dual_start": 1.0, "dual_step": 2.0, "dual_warmup": 0}
    return make_objective("PDU", **{**settings, **changes})


def after(objective, *retain_losses):
    """The dual variable after each of these steps."""
    duals = []
    for value in retain_losses:
        objective.after_step({"loss": 0.0, "forget_loss": 1.0, "retain_loss": value})
        duals.append(objective.state()["dual"])
    return duals


def test_the_dual_grows_with_the_violation_shrinks_without_and_is_never_negative():
    # 1 + 2 * 0.25 = 1.5; + 2 * 0 = 1.5; - 2 * 0.5 = 0.5; - 2 * 0.5 -> 0; stays; + 2 * 1 = 2
    assert after(pdu(), 0.75, 0.5, 0.0, 0.0, 0.25, 1.5) == [1.5, 1.5, 0.5, 0.0, 0.0, 2.0]
    assert after(pdu(dual_step=0.0), 9.0, 0.0) == [1.0, 1.0]


def test_it_waits_for_the_warmup():
    assert after(pdu(dual_warmup=2), 1.0, 1.0, 1.0, 1.0) == [1.0, 1.0, 2.0, 3.0]


@given(st.lists(st.floats(0, 50), max_size=20), st.integers(0, 20), st.integers(0, 8))
def test_a_restored_dual_goes_on_as_the_undisturbed_one(losses, stop, warmup):
    whole, first, second = (pdu(dual_warmup=warmup) for _ in range(3))
    after(whole, *losses)
    after(first, *losses[:stop])
    second.restore(first.state())
    after(second, *losses[stop:])
    assert second.state() == whole.state() and whole.state()["dual"] >= 0


def test_the_dual_weighs_the_retain_gradient_of_the_next_step():
    model = tiny_model()
    batches = collate(random_examples(3, 1), 0), collate(random_examples(3, 2), 0)
    objective = pdu()
    losses = objective(model, *batches)
    before = float(losses.total.detach())
    again = float(objective(model, *batches).total.detach())
    assert again == before  # a call alone changes nothing: a step may have many micro-batches
    retain = float(losses.retain)
    objective.after_step({"loss": before, "forget_loss": 0.0, "retain_loss": retain})
    grown = float(objective(model, *batches).total.detach())
    assert grown == pytest.approx(before + 2 * (retain - 0.5) ** 2, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_others_keep_nothing(name):
    objective = CASES[name](None)
    kept = objective.state()
    objective.after_step({"loss": 1.0, "forget_loss": 1.0, "retain_loss": 3.0})
    assert (objective.state() == kept) == (name != "PDU")
    assert (kept == {}) == (name != "PDU")
    objective.restore(kept)
    assert objective.state() == kept


def test_rmu_alone_names_what_learns():
    model = torch.nn.Linear(1, 1)
    assert [name for name in CASES if name != "RMU" and CASES[name](None).trainable(model) is not None] == []
