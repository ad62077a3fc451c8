"""oneDNN's products are torch's up to the order of sums, with derivatives of every order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

from pipeline_lib.data.batching import collate
from pipeline_lib.models import products
from pipeline_lib.models.adapters import attach, detach
from pipeline_lib.models.forward import answer_nll
from pipeline_lib.models.products import FastLinear, multiply, packed_weights, use_fast_products
from pipeline_lib.models.recompute import activations_again
from tests.paths import REPO
from tests.tiny import flat, random_examples, tiny_model

BATCH = collate(random_examples(4), 0)
pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this torch has no oneDNN",
)


@pytest.fixture(autouse=True)
def wanted(monkeypatch):
    """On any CPU, and for the smallest layers."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "faster_on_few_rows", lambda: True)
    monkeypatch.setattr(products, "LARGE", 1)
    monkeypatch.setattr(products, "WIDE", 1)


@pytest.fixture
def calls(monkeypatch):
    """How many products oneDNN was given."""
    count = []
    own = torch.ops.mkldnn._linear_pointwise

    class Counting:
        def _linear_pointwise(self, *arguments):
            count.append(arguments)
            return own(*arguments)

    monkeypatch.setattr(products, "_ONEDNN", Counting())
    return count


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def all_of(product):
    """Value, first and second derivatives, and forward derivatives of something made of a product."""
    x, w = random(3, 50, 300).requires_grad_(), random(70, 300, seed=1).requires_grad_()
    y = product(x, w)
    first = torch.autograd.grad(y.square().sum() + y.sin().sum(), (x, w), create_graph=True)
    second = torch.autograd.grad(sum(value.pow(3).sum() for value in first), (x, w))
    forward = []
    for dx, dw in ((random(3, 50, 300, seed=2), None), (None, random(70, 300, seed=3))):
        with forward_ad.dual_level():
            one = x.detach() if dx is None else forward_ad.make_dual(x.detach(), dx)
            other = w.detach() if dw is None else forward_ad.make_dual(w.detach(), dw)
            forward.append(forward_ad.unpack_dual(product(one, other)).tangent)
    with forward_ad.dual_level():
        dual = (forward_ad.make_dual(value.detach(), torch.ones_like(value)) for value in (x, w))
        forward.append(forward_ad.unpack_dual(product(*dual)).tangent)
    return [y, *first, *second, *forward]


def test_values_and_derivatives_are_those_of_torch(calls):
    found, expected = all_of(multiply), all_of(F.linear)
    assert len(calls) > 10
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert float((one - other).detach().abs().max()) <= 1e-5 * float(other.detach().abs().max())


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (random(1, 300), random(70, 300)),  # one row
        (random(0, 300), random(70, 300)),
        (random(4, 300).double(), random(70, 300).double()),
        (random(4, 300).bfloat16(), random(70, 300).bfloat16()),
    ],
)
def test_what_is_not_its_own_is_left_to_torch(x, w, calls):
    assert torch.equal(multiply(x, w), F.linear(x, w))
    with torch.autocast("cpu", torch.bfloat16):
        assert multiply(random(4, 300), random(70, 300)).dtype == torch.bfloat16
    assert not calls


def test_a_model_keeps_its_names_and_ties_and_computes_the_same(calls):
    plain, fast = tiny_model(), use_fast_products(tiny_model())
    assert sum(isinstance(m, FastLinear) for m in fast.modules()) == 15
    assert list(fast.state_dict()) == list(plain.state_dict())
    assert fast.get_output_embeddings().weight is fast.get_input_embeddings().weight
    for checkpointing in (False, True):
        found = []
        for model in (fast, plain):
            model.zero_grad(set_to_none=True)
            with activations_again(model, checkpointing):
                nll = answer_nll(model, BATCH)[0]
                nll.sum().backward()
            found.append((nll.detach(), flat([p.grad for p in model.parameters()])))
        for one, other in zip(*found, strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    assert calls


def test_adapters_go_on_fast_layers_and_merge_into_them():
    found = []
    for model in (use_fast_products(tiny_model()), tiny_model()):
        attach(model, rank=2, alpha=4.0, dropout=0.0, target="all-linear", seed=1)
        with torch.no_grad():
            for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
                parameter.copy_(random(*parameter.shape, seed=number))
        detach(model, merge=True)
        found.append(flat(list(model.parameters())).detach())
    assert torch.allclose(*found, rtol=1e-5, atol=1e-5)


def test_packed_weights_give_the_same_bits_and_are_gone_afterwards(calls):
    model = use_fast_products(tiny_model())
    with torch.no_grad():
        before = answer_nll(model, BATCH)[0]
        with packed_weights(model):
            assert all(m.packed is not None for m in model.modules() if isinstance(m, FastLinear))
            calls.clear()
            assert torch.equal(answer_nll(model, BATCH)[0], before)
            assert calls and all(weight.is_mkldnn for _, weight, *_ in calls)
    assert all(m.packed is None for m in model.modules() if isinstance(m, FastLinear))


def test_gradients_do_not_pass_by_packed_weights():
    model = use_fast_products(tiny_model())
    answer_nll(model, BATCH)[0].sum().backward()
    expected = flat([p.grad for p in model.parameters()])
    model.zero_grad(set_to_none=True)
    with packed_weights(model):
        answer_nll(model, BATCH)[0].sum().backward()
    assert torch.equal(flat([p.grad for p in model.parameters()]), expected)


def test_no_more_is_packed_than_there_is_room_for(monkeypatch):
    model = use_fast_products(tiny_model())
    layers = [m for m in model.modules() if isinstance(m, FastLinear)]
    monkeypatch.setattr(products, "PACKED_BYTES", layers[0].weight.nbytes + layers[1].weight.nbytes)
    with packed_weights(model):
        assert [m.packed is not None for m in layers] == [True, True] + [False] * (len(layers) - 2)


def test_small_layers_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(products, "LARGE", 1 << 16)
    assert not any(isinstance(m, FastLinear) for m in use_fast_products(tiny_model()).modules())


@pytest.fixture
def without_avx512(monkeypatch):
    """Where oneDNN is faster on few rows alone: here up to 5, of layers with 40 outputs and more."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: False)
    monkeypatch.setattr(products, "FEW", 5)
    monkeypatch.setattr(products, "TALL", 40)


def test_few_rows_of_packed_tall_layers_alone(without_avx512, calls):
    layers = torch.nn.ModuleList([torch.nn.Linear(30, 50), torch.nn.Linear(30, 39)])
    plain = [layer(random(5, 30)) for layer in layers]
    fast = use_fast_products(layers)
    assert [layer(random(5, 30)).equal(y) for layer, y in zip(fast, plain, strict=True)] == [True, True]
    with torch.no_grad(), packed_weights(fast):
        assert [layer.packed is not None for layer in fast] == [True, False]
        found = [layer(random(5, 30)) for layer in fast]
        assert len(calls) == 1 and all(map(torch.allclose, found, plain))
        for many in (random(6, 30), random(2, 3, 30)):
            assert fast[0](many).equal(F.linear(many, fast[0].weight, fast[0].bias))
        assert len(calls) == 1
        assert fast[0](random(5, 1, 30)).shape == (5, 1, 50) and len(calls) == 2


def test_a_model_learns_as_torch_has_it_without_avx512(without_avx512, calls):
    found = []
    for model in (tiny_model(), use_fast_products(tiny_model())):
        answer_nll(model, BATCH)[0].sum().backward()
        found.append(flat([p.grad for p in model.parameters()]))
    assert torch.equal(*found) and not calls


@pytest.mark.parametrize(
    ("vendor", "capability", "always", "few_rows"),
    [
        ("AuthenticAMD", "AVX512", True, True),
        ("AuthenticAMD", "AVX2", False, True),
        ("AuthenticAMD", "DEFAULT", False, False),
        ("GenuineIntel", "AVX512", False, True),
        ("GenuineIntel", "AVX2", False, False),
    ],
)
def test_the_cpu_decides(vendor, capability, always, few_rows, tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nvendor_id : {vendor}\n")
    monkeypatch.setattr(products, "CPU_FACTS", tmp_path / "cpuinfo")
    monkeypatch.setattr(products.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(products, "faster_on_few_rows", products.faster_on_few_rows.__wrapped__)
    always_faster = products.onednn_is_faster.__wrapped__
    assert (always_faster(), products.faster_on_few_rows()) == (always, few_rows)
    monkeypatch.setattr(products, "CPU_FACTS", tmp_path / "none")
    assert (always_faster(), products.faster_on_few_rows()) == (False, capability == "AVX512")


MANY_SHAPES = """
import torch
from pipeline_lib.models import products

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

products.onednn_is_faster = lambda: True
weight = torch.randn(576, 192)
for rows in range(2, 66):
    products.multiply(torch.randn(rows, 192), weight)
before = held()
for rows in range(66, 466):
    products.multiply(torch.randn(rows, 192), weight)
print(held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from Linux's /proc")
def test_texts_of_many_lengths_do_not_fill_the_memory():
    """400 shapes more, of half a megabyte each if all were kept."""
    unset = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    done = subprocess.run(
        [sys.executable, "-c", MANY_SHAPES], capture_output=True, text=True, check=True, cwd=REPO, env=unset
    )
    assert float(done.stdout) < 80, "MiB"
