"""Running an update in pieces, compiled or in half precision changes nothing, and loses no element."""

from __future__ import annotations

import re
import shutil

import pytest
import torch

from pipeline_lib.optimizers import OPTIMIZERS, elementwise
from tests.optimizers.kinds import OURS, optimizer_of, take_step
from tests.paths import REPO

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler"
)


class Shapes(torch.nn.Module):
    """A matrix of `rows` x 701 in this memory order, and a vector."""

    def __init__(self, rows: int, dtype: torch.dtype = torch.float32, transposed: bool = False):
        super().__init__()
        draw = torch.randn(rows, 701, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        matrix = (draw.t().contiguous().t() if transposed else draw).to(dtype)
        self.matrix, self.vector = torch.nn.Parameter(matrix), torch.nn.Parameter(matrix[0].clone())


def trained(kind: str, model: Shapes, steps: int = 3):
    """The values (one vector) and the statistics after some steps."""
    optimizer = optimizer_of(kind, model)
    for step in range(steps):
        take_step(optimizer, model, step)
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]), optimizer.statistics


def assert_same(one: dict[str, float], other: dict[str, float], rel: float) -> None:
    assert one.keys() == other.keys() and "update_norm" in one
    for name, value in one.items():
        assert value == pytest.approx(other[name], rel=rel), name


@pytest.mark.parametrize("kind", OURS)
def test_chunked_equals_unchunked(kind, monkeypatch):
    size = 205 * 701  # two whole chunks and a part
    assert 2 * elementwise.CHUNK < size < 3 * elementwise.CHUNK
    values, statistics = trained(kind, Shapes(205))
    strided = Shapes(205, transposed=True)
    assert not strided.matrix.is_contiguous()
    in_other_order, its_statistics = trained(kind, strided)
    monkeypatch.setattr(elementwise, "CHUNK", size)
    whole, whole_statistics = trained(kind, Shapes(205))
    assert torch.equal(values, whole)
    assert_same(statistics, whole_statistics, 1e-6)
    assert statistics.get("clipped_share") == whole_statistics.get("clipped_share")
    assert torch.allclose(in_other_order, whole, rtol=1e-6, atol=1e-7)
    assert_same(its_statistics, whole_statistics, 1e-4)


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


@pytest.mark.parametrize("kind", OURS)
def test_half_precision_is_computed_in_fp32_and_rounded_once(kind):
    """One step from zero states equals the fp32 step on the same values, rounded to bf16."""
    narrow, wide = Shapes(30, torch.bfloat16), Shapes(30)
    with torch.no_grad():
        for one, other in zip(wide.parameters(), narrow.parameters(), strict=True):
            one.copy_(other)
    values, statistics = {}, {}
    for name, model in (("narrow", narrow), ("wide", wide)):
        optimizer = optimizer_of(kind, model, learning_rate=0.3)
        for parameter, other in zip(model.parameters(), gradients_of(narrow), strict=True):
            parameter.grad = other.to(parameter.dtype)
        optimizer.step()
        values[name] = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        statistics[name] = optimizer.statistics
    assert values["narrow"].dtype == torch.bfloat16
    assert torch.equal(values["narrow"], values["wide"].bfloat16())
    assert_same(statistics["narrow"], statistics["wide"], 1e-6)


def gradients_of(model):
    generator = torch.Generator().manual_seed(9)
    return [torch.randn(p.shape, generator=generator).bfloat16() for p in model.parameters()]


# --- compiled -------------------------------------------------------------------------------------


@pytest.fixture
def compiling(monkeypatch):
    """Every update is compiled, as for a large model."""
    monkeypatch.setattr(elementwise, "COMPILED", {})
    torch._dynamo.reset()
    return lambda: monkeypatch.setattr(elementwise, "COMPILE_FROM", 1)


@needs_compiler
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("sophia", torch.float32),
        ("sophia", torch.bfloat16),
        ("sophia_as_released", torch.float32),
        ("lion", torch.float32),
    ],
)
def test_compiled_equals_eager(kind, dtype, compiling):
    eager, statistics = trained(kind, Shapes(61, dtype))
    assert not elementwise.COMPILED
    compiling()
    compiled, its_statistics = trained(kind, Shapes(61, dtype))
    again, _ = trained(kind, Shapes(61, dtype))
    (entry,) = elementwise.COMPILED.values()
    assert entry.function is not None and entry.seconds > 0
    tolerance = 1e-5 if dtype == torch.float32 else 2**-7
    assert torch.allclose(compiled.float(), eager.float(), rtol=tolerance, atol=tolerance / 10)
    assert_same(its_statistics, statistics, 2e-4)
    assert torch.equal(again, compiled)  # bit for bit


@needs_compiler
def test_one_compilation_serves_all_sizes_and_learning_rates(compiling):
    compiling()
    trained("sophia", Shapes(61))
    with torch.compiler.set_stance("fail_on_recompile"):
        for rows in (24, 100, 1500):
            model = Shapes(rows)
            optimizer = optimizer_of("sophia", model, learning_rate=1 / rows)
            take_step(optimizer, model, rows)
    assert len(elementwise.COMPILED) == 1


@needs_compiler
def test_counts_are_exact_beyond_what_fp32_can_count(compiling):
    """2^24 + 3 has no fp32 number."""
    ones = torch.ones((1 << 24) + 3)
    rows = [(ones, ones)]
    (total,) = elementwise.run(lambda theta, gradient, one: (theta >= one,), None, rows, (1.0,), True)
    assert total == (1 << 24) + 3
    assert next(iter(elementwise.COMPILED.values())).function is not None


def test_without_a_compiler_the_step_runs_uncompiled_and_says_so_once(compiling, monkeypatch, capsys):
    expected, statistics = trained("sophia", Shapes(61))
    compiling()

    def broken(*_args, **_options):
        def call(*_args):
            raise RuntimeError("no compiler here\nat all")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    values, its_statistics = trained("sophia", Shapes(61))
    assert torch.equal(values, expected) and its_statistics == statistics
    said = capsys.readouterr().err.splitlines()
    assert said == ["The optimiser's update is not compiled and will be slower: no compiler here"]


def test_small_models_are_not_compiled(compiling, monkeypatch):
    monkeypatch.setattr(elementwise, "compiled", None)  # would fail if called
    trained("sophia", Shapes(61))
    compiling()
    with pytest.raises(TypeError, match="not callable"):
        trained("sophia", Shapes(61))


def test_every_kernel_is_the_twin_of_an_update_of_its_name():
    """A kernel that no optimiser names would be tested against nothing: `interpreted.py` walks these."""
    source = (REPO / "pipeline_lib" / "optimizers" / "triton_updates.py").read_text(encoding="utf-8")
    methods = [OPTIMIZERS.kinds()[kind] for kind in OURS]
    names = sorted(method.update.__name__ for method in methods)
    assert sorted(method.twin.kernel for method in methods) == names
    assert sorted(re.findall(r"^def (\w+_update)\(", source, re.MULTILINE)) == names
