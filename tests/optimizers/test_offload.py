"""A step in the machine's memory: the same bits on a CPU, for every optimiser, also after a restart."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch

from pipeline_lib.data.batching import collate
from pipeline_lib.distributed.group import ALONE
from pipeline_lib.models.forward import answer_nll
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.make import parameter_groups
from pipeline_lib.optimizers.offload import OnHost
from pipeline_lib.optimizers.rounding import StochasticRounding
from tests.optimizers.kinds import KINDS, SETTINGS
from tests.tiny import flat, random_examples, tiny_model

BATCH = collate(random_examples(4), 0)
BF16 = torch.bfloat16


def made(kind, model, on_host, rounded=False):
    """The optimiser as `make_optimizer` makes it, with or without its step on the host."""
    method = OPTIMIZERS.parse({"kind": kind, "learning_rate": 1e-2, "weight_decay": 0.1, **SETTINGS[kind]})
    groups = parameter_groups(model, 0.1, method.layers_apart)
    make = partial(method.build, parts=ALONE)
    inner = (lambda groups: StochasticRounding(groups, make)) if rounded else make
    return OnHost(groups, inner) if on_host else inner(groups)


def steps(model, optimizer, count):
    for _ in range(count):
        torch.manual_seed(0)  # stochastic rounding
        answer_nll(model, BATCH)[0].mean().backward()
        if hasattr(optimizer, "update_curvature") and "gamma" in optimizer.param_groups[0]:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            optimizer.update_curvature([p.grad.float().square() for p in parameters])
        for group in optimizer.param_groups:
            group["lr"] *= 0.9  # as a schedule would
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return flat(list(model.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_as_without(kind):
    plain, offloaded = tiny_model(), tiny_model()
    without, on_host = made(kind, plain, False), made(kind, offloaded, True)
    before = flat(list(plain.parameters()))
    expected = steps(plain, without, 3)
    assert torch.equal(steps(offloaded, on_host, 3), expected)
    assert not torch.equal(expected, before)
    assert getattr(without, "statistics", {}) == on_host.statistics
    settings = [{k: v for k, v in g.items() if k != "params"} for g in without.param_groups]
    assert settings == [{k: v for k, v in g.items() if k != "params"} for g in on_host.param_groups]


def test_bf16_weights_rounded_at_random():
    plain, offloaded = tiny_model(dtype=BF16), tiny_model(dtype=BF16)
    expected = steps(plain, made("signum", plain, False, True), 3)
    assert torch.equal(steps(offloaded, made("signum", offloaded, True, True), 3), expected)


def test_states_are_the_copies_and_a_restart_continues_to_the_same_bits():
    model = tiny_model()
    optimizer = made("sophia", model, True)
    steps(model, optimizer, 2)
    assert not {id(p) for p in model.parameters()}.intersection(map(id, optimizer.inner.state))
    kept, held = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model.state_dict())
    expected = steps(model, optimizer, 2)
    again = tiny_model(1)
    other = made("sophia", again, True)
    again.load_state_dict(held)
    other.load_state_dict(kept)
    assert torch.equal(steps(again, other, 2), expected)


def test_a_parameter_without_a_gradient_stays():
    model = tiny_model()
    optimizer = made("adamw", model, True)
    still = model.get_input_embeddings().weight.detach().clone()
    answer_nll(model, BATCH)[0].mean().backward()
    model.get_input_embeddings().weight.grad = None
    optimizer.step()
    assert torch.equal(model.get_input_embeddings().weight, still)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_its_memory_holds_no_states():
    model = tiny_model().cuda()
    optimizer = made("adamw", model, True)
    answer_nll(model, BATCH.to("cuda"))[0].mean().backward()
    optimizer.step()
    states = [t for s in optimizer.inner.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    assert states and {t.device.type for t in states} == {"cpu"}
