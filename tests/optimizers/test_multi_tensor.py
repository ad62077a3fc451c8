"""All tensors with one launch: which ones, what is done where it fails, and the kernel without a GPU."""

from __future__ import annotations

import copy
import ctypes
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from pipeline_lib.optimizers import OPTIMIZERS, elementwise, multi_tensor
from tests.optimizers.kinds import OURS, optimizer_of, take_step
from tests.optimizers.test_elementwise import Shapes, assert_same, trained
from tests.paths import REPO

CPU = torch.device("cpu")
SAID = "The optimiser's update is called for each tensor and will be slower: "
METHODS = {kind: OPTIMIZERS.kinds()[kind] for kind in OURS}
UPDATES = {kind: method.update for kind, method in METHODS.items()}


def at(address: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    """The tensor that lies there."""
    memory = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    return torch.frombuffer(memory, dtype=dtype)


class StandIn:
    """The kernel in plain torch: reads addresses as the kernel does, and updates block after block."""

    def __init__(self, fault: str = "", launches: int = 2):
        self.fault, self.launches = fault, launches  # those of the check and no more
        self.tables: list[list[list[int]]] = []

    def kernel_of(self, twin, dtype, device):
        update = next(method.update for method in METHODS.values() if method.twin == twin)
        block = multi_tensor.BLOCK

        def launch(table, owners, blocks, sizes, scalars, sums):
            if self.fault == "no launch" and len(self.tables) == self.launches:
                raise RuntimeError("out of resources\nshared memory")
            self.tables.append(table.tolist())
            for program, (owner, number) in enumerate(zip(owners.tolist(), blocks.tolist(), strict=True)):
                size = min(block, sizes[owner].item() - number * block)
                places = [int(address) + number * block * dtype.itemsize for address in table[owner]]
                row = [at(place, size, dtype) for place in places]
                if self.fault == "cut off" and dtype == torch.bfloat16:
                    wide = [tensor.float() for tensor in row]
                    found = elementwise._apply(update, scalars, *wide)
                    for tensor, value in zip(row, wide, strict=True):
                        tensor.copy_((value.view(torch.int32) & -(1 << 16)).view(torch.float32))
                elif self.fault == "no tail" and size < block:
                    found = [torch.zeros(())] * len(sums)
                else:
                    found = elementwise._apply(update, scalars, *row)
                sums[:, program] = torch.stack([quantity.float() for quantity in found])
            if self.fault == "one more":
                sums[-1, 0] += 1

        return launch


@pytest.fixture
def offered(monkeypatch):
    """`offered(stand_in)`: from now on CPU tensors are offered to this kernel, however few they are."""
    monkeypatch.setattr(elementwise, "COMPILED", {})

    def start(stand_in: StandIn | None) -> None:
        monkeypatch.setattr(elementwise, "COMPILE_FROM", 1)
        monkeypatch.setattr(multi_tensor, "serves", lambda *_: True)
        monkeypatch.setattr(elementwise, "compiled", lambda *_: None)  # what is left runs in pieces
        if stand_in is not None:
            monkeypatch.setattr(multi_tensor, "kernel_of", stand_in.kernel_of)

    return start


# --- which way is taken ---------------------------------------------------------------------------


def test_only_cuda_tensors_of_known_types():
    cuda = torch.device("cuda", 0)
    assert all(multi_tensor.serves(dtype, cuda) for dtype in (torch.float32, torch.bfloat16, torch.float16))
    assert not multi_tensor.serves(torch.float64, cuda)
    assert not any(multi_tensor.serves(torch.float32, torch.device(kind)) for kind in ("cpu", "xpu", "meta"))


def test_an_update_without_a_twin_is_stepped_as_torch_does(offered):
    offered(None)
    rows = [row_of(5)]
    elementwise.run(UPDATES["signum"], None, rows, (0.0, 1.0, 0.5), compiling=True)
    assert rows[0][0].eq(0).all() and not elementwise.COMPILED


@pytest.mark.parametrize("kind", OURS)
def test_every_update_has_a_twin(kind):
    twin = METHODS[kind].twin
    optimizer = optimizer_of(kind, Shapes(1))
    assert twin.states == len(optimizer.method.states)
    assert len(twin.probe) == len(optimizer.method.coefficients(optimizer.param_groups[0]))
    assert len(inspect.signature(UPDATES[kind]).parameters) == 2 + twin.states + len(twin.probe)
    row = [torch.full((3,), 5.0 - i) for i in range(2 + twin.states)]
    before = [tensor.clone() for tensor in row]
    assert len(UPDATES[kind](*row, *torch.tensor(twin.probe))) == twin.sums
    changed = [not torch.equal(tensor, old) for tensor, old in zip(row, before, strict=True)]
    assert changed == [True, False, *[i < twin.changed for i in range(twin.states)]]


def test_a_cpu_and_a_small_model_never_take_it(monkeypatch):
    monkeypatch.setattr(multi_tensor, "Stepper", None)  # would fail if called
    monkeypatch.setattr(elementwise, "COMPILED", {})
    monkeypatch.setattr(elementwise, "compiled", lambda *_: None)
    trained("signum", Shapes(30))
    monkeypatch.setattr(multi_tensor, "serves", lambda *_: True)
    trained("signum", Shapes(30))  # below COMPILE_FROM
    assert not elementwise.COMPILED
    monkeypatch.setattr(elementwise, "COMPILE_FROM", 1)
    trained("signum", Shapes(30))
    (entry,) = elementwise.COMPILED.values()
    assert entry.function is None  # it was asked for


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", OURS)
def test_one_launch_does_what_the_pieces_do(kind, dtype, offered):
    expected, statistics = trained(kind, Shapes(30, dtype))
    stand_in = StandIn()
    offered(stand_in)
    values, its_statistics = trained(kind, Shapes(30, dtype))
    assert torch.equal(values, expected)
    assert_same(its_statistics, statistics, 1e-6)
    assert its_statistics.get("clipped_share") == statistics.get("clipped_share")
    assert len(stand_in.tables) == 2 + 3 * 2  # the check; three steps of two groups
    ((key, entry),) = elementwise.COMPILED.items()
    assert key == (UPDATES[kind], dtype, CPU, "at once")
    assert entry.function is not None and entry.seconds > 0


# --- where it fails, today's way is taken and a line says so -----------------------------------------


@pytest.mark.parametrize(
    ("fault", "dtype", "reason"),
    [
        ("no tail", torch.float32, "on cpu its kernel does not do what torch does in torch.float32"),
        ("one more", torch.float32, "on cpu its kernel does not do what torch does in torch.float32"),
        ("cut off", torch.bfloat16, "on cpu its kernel does not do what torch does in torch.bfloat16"),
        ("no launch", torch.float32, "out of resources"),
        ("no triton", torch.float32, "import of triton halted; None in sys.modules"),
    ],
)
def test_a_kernel_that_fails_is_not_used(fault, dtype, reason, offered, monkeypatch, capsys):
    expected, statistics = trained("sophia", Shapes(30, dtype))
    if fault == "no triton":
        monkeypatch.setitem(sys.modules, "triton", None)
        monkeypatch.delitem(sys.modules, "pipeline_lib.optimizers.triton_updates", raising=False)
        offered(None)
    else:
        offered(StandIn(fault))
    values, its_statistics = trained("sophia", Shapes(30, dtype))
    assert torch.equal(values, expected) and its_statistics == statistics
    assert capsys.readouterr().err.splitlines() == [SAID + reason]
    (entry,) = elementwise.COMPILED.values()
    assert entry.function is None and entry.seconds > 0


@pytest.mark.parametrize("kind", OURS)
def test_the_check_does_not_hang_on_the_last_digit(kind):
    """What it draws lies at no jump: fp32 agrees with fp64 far within what it allows, or a GPU that rounds
    elsewhere than torch would be refused.
    """
    update = UPDATES[kind]
    stepper = object.__new__(multi_tensor.Stepper)
    stepper.twin, stepper.device = METHODS[kind].twin, CPU
    for dtype in multi_tensor.TOLERANCES:
        stepper.dtype = dtype
        for size in (1, 7, multi_tensor.BLOCK - 1, multi_tensor.BLOCK, 3 * multi_tensor.BLOCK + 5):
            drawn = stepper._drawn(size, wild=False)
            made = []
            for precise in (torch.float32, torch.float64):
                row = [tensor.to(precise, copy=True) for tensor in drawn]
                sums = elementwise._apply(update, torch.tensor(stepper.twin.probe).to(precise), *row)
                made.append((torch.cat(row), torch.stack([quantity.double() for quantity in sums])))
            assert torch.allclose(made[0][0].double(), made[1][0], rtol=1e-6, atol=5e-7)
            assert torch.allclose(made[0][1], made[1][1], rtol=1e-5)


# --- which tensors, and where they lie --------------------------------------------------------------


def stepper_of(offered, stand_in: StandIn, kind: str = "signum") -> multi_tensor.Stepper:
    offered(stand_in)
    reference = partial(elementwise._apply, UPDATES[kind])
    made = multi_tensor.Stepper(METHODS[kind].twin, torch.float32, CPU, reference)
    stand_in.tables.clear()
    return made


def row_of(*shape: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.ones(shape) for _ in range(3))


def test_the_map_by_hand(monkeypatch):
    monkeypatch.setattr(multi_tensor, "BLOCK", 4)
    monkeypatch.setattr(multi_tensor, "programs", multi_tensor.programs.__wrapped__)
    owners, blocks, sizes = multi_tensor.programs((3, 9, 4), CPU)
    assert owners.tolist() == [0, 1, 1, 1, 2]
    assert blocks.tolist() == [0, 0, 1, 2, 0]
    assert sizes.tolist() == [3, 9, 4]
    assert (owners.dtype, blocks.dtype, sizes.dtype) == (torch.int32, torch.int32, torch.int64)


def test_the_map_of_the_same_sizes_is_kept():
    assert multi_tensor.programs((3, 9), CPU) is multi_tensor.programs((3, 9), CPU)
    assert multi_tensor.programs((9, 3), CPU) is not multi_tensor.programs((3, 9), CPU)


def test_addresses_are_those_of_dense_and_aligned_tensors_of_one_type(offered):
    """Any other row is left to the way that reads tensors, not addresses."""
    stand_in = StandIn()
    stepper = stepper_of(offered, stand_in)
    good, also = row_of(5, 3), row_of(1)
    theta, gradient, momentum = row_of(4, 4)
    shifted = torch.ones(17)[1:].view(4, 4)
    assert shifted.data_ptr() % multi_tensor.ALIGNMENT == 4
    released = torch.ones(4, 4)
    released.untyped_storage().resize_(0)

    class Elsewhere(torch.Tensor):
        pass

    left = [
        (theta, torch.ones(4, 8)[:, ::2], momentum),
        (theta, shifted, momentum),
        (shifted, gradient, momentum),
        (theta, gradient, momentum.view(2, 8)),
        (theta, gradient, torch.ones(4, 5)),
        (theta, gradient, momentum.double()),
        (theta, gradient.bfloat16(), momentum),
        (theta.as_subclass(Elsewhere), gradient, momentum),
        (released, gradient, momentum),
        row_of(0, 3),
    ]
    rest, sums = stepper([good, *left, also], torch.tensor([0.0, 1.0, 0.5]), {})
    assert [[id(tensor) for tensor in row] for row in rest] == [
        [id(tensor) for tensor in row] for row in left
    ]
    assert stand_in.tables == [[[tensor.data_ptr() for tensor in row] for row in (good, also)]]
    assert sums is not None and sums.tolist() == [[15.0, 1.0]]
    assert theta.eq(1).all() and good[0].eq(0).all()
    rest, sums = stepper(left, torch.tensor([0.0, 1.0, 0.5]), {})
    assert len(rest) == len(left) and sums is None and len(stand_in.tables) == 1


def test_what_is_left_out_is_stepped_too(offered):
    """The sums of both ways are one: counts stay exact."""
    scalars = METHODS["sophia"].twin.probe

    def rows() -> list[tuple[torch.Tensor, ...]]:
        generator = torch.Generator().manual_seed(3)
        row = [torch.randn(5000, generator=generator) for _ in range(4)]
        return [tuple(tensor[:1001] for tensor in row), tuple(tensor[1001:] for tensor in row)]

    plain, both = rows(), rows()
    expected = elementwise.run(UPDATES["sophia"], METHODS["sophia"].twin, plain, scalars, compiling=False)
    stand_in = StandIn()
    offered(stand_in)
    sums = elementwise.run(UPDATES["sophia"], METHODS["sophia"].twin, both, scalars, compiling=True)
    assert [len(table) for table in stand_in.tables[2:]] == [1]
    assert sums[0].item() == pytest.approx(expected[0].item(), rel=1e-6) and 100 < sums[1] == expected[1]
    for row, other in zip(both, plain, strict=True):
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-6) for a, b in zip(row, other, strict=True))


@pytest.mark.parametrize("launches", [2, 3, 4])
def test_the_first_elements_go_ahead_of_the_rest(launches, offered, monkeypatch, capsys):
    """Each row is stepped once, also where one of the launches fails."""
    monkeypatch.setattr(multi_tensor, "HEAD", 10)

    def rows() -> list[tuple[torch.Tensor, ...]]:
        return [row_of(4), row_of(2, 3), row_of(5), row_of(7)]

    scalars, plain, both = (0.5, 0.25, 0.75), rows(), rows()
    (expected,) = elementwise.run(UPDATES["signum"], METHODS["signum"].twin, plain, scalars, compiling=False)
    stand_in = StandIn("no launch", launches)
    offered(stand_in)
    (sums,) = elementwise.run(UPDATES["signum"], METHODS["signum"].twin, both, scalars, compiling=True)
    assert [len(table) for table in stand_in.tables[2:]] == [2, 2][: launches - 2]
    assert sums == expected == 22 * 0.25**2
    for row, other in zip(both, plain, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(row, other, strict=True))
    assert len(capsys.readouterr().err.splitlines()) == (launches < 4)
    assert multi_tensor.in_turn(plain[:2]) == [plain[:2]]


def test_states_are_looked_at_again_when_they_are_others(offered):
    stand_in = StandIn()
    stepper = stepper_of(offered, stand_in)
    memory: multi_tensor.Memory = {}
    theta, gradient, momentum = row_of(8)
    scalars = torch.tensor([0.0, 1.0, 0.5])
    assert not stepper([(theta, gradient, momentum)], scalars, memory)[0]
    assert not stepper([(theta, gradient.clone(), momentum)], scalars, memory)[0]
    assert len(memory) == 1
    assert len(stepper([(theta, gradient, torch.ones(4))], scalars, memory)[0]) == 1
    assert not stepper([(theta, gradient, momentum.clone())], scalars, memory)[0]
    theta.data = torch.ones(4)  # the same tensor with less memory
    assert len(stepper([(theta, gradient[:4], momentum)], scalars, memory)[0]) == 1


def test_states_from_a_checkpoint_are_the_ones_that_are_stepped(offered):
    def resumed() -> torch.Tensor:
        model = Shapes(30)
        optimizer = optimizer_of("sophia", model)
        take_step(optimizer, model, 0)
        saved = copy.deepcopy(optimizer.state_dict())
        take_step(optimizer, model, 1)
        optimizer.load_state_dict(saved)
        take_step(optimizer, model, 2)
        return torch.cat([p.detach().reshape(-1) for p in model.parameters()])

    expected = resumed()
    offered(StandIn())
    assert torch.equal(resumed(), expected)


# --- the kernel itself --------------------------------------------------------------------------------

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="triton is not installed (torch's CUDA builds bring it)",
)


@needs_triton
def test_the_kernel_does_what_torch_does_by_triton_s_interpreter():
    done = subprocess.run(
        [sys.executable, "-m", "tests.optimizers.interpreted"],
        cwd=REPO,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, found in json.loads(done.stdout).items():
        kind, way = name.split()
        if way == "run":
            assert all(value <= 1e-6 for value in found.values()), (name, found)
            continue
        allowed = {"float32": 1e-6, "float16": 2**-10, "bfloat16": 2**-7}[way]
        assert found["values"] <= allowed, (name, found)
        assert found["squares"] <= 1e-6 and found["counts"] == 0, (name, found)
        assert not kind.startswith("sophia") or 1000 < found["clipped"] < 8000, (name, found)


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("dtype", multi_tensor.TOLERANCES)
@pytest.mark.parametrize("kind", OURS)
def test_the_kernel_compiles_for_gpus_with_loads_and_stores_of_128_bits(
    kind, dtype, capability, tmp_path, monkeypatch
):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline_lib.optimizers import triton_updates

    if not (Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas").exists():
        pytest.skip("this triton has no ptxas")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    twin = METHODS[kind].twin
    constants = multi_tensor.constants_of(twin, dtype)
    pointers = dict.fromkeys(("table", "sizes"), "*i64") | dict.fromkeys(("owners", "blocks"), "*i32")
    pointers |= dict.fromkeys(("coefficients", "sums"), "*fp32")
    signature = {**pointers, **dict.fromkeys(constants, "constexpr")}
    compiled = triton.compile(
        ASTSource(triton_updates.step, signature, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": multi_tensor.WARPS},
    )
    ptx, each = compiled.asm["ptx"], multi_tensor.BLOCK * dtype.itemsize // (32 * multi_tensor.WARPS * 16)
    assert compiled.asm["cubin"]
    assert len(re.findall(r"\bld\.global\S*\.v4\.b32\b", ptx)) == (2 + twin.states) * each
    assert len(re.findall(r"\bst\.global\S*\.v4\.b32\b", ptx)) == (1 + twin.changed) * each
    assert ("cvt.rn.bf16" in ptx) == (dtype == torch.bfloat16)
    assert ("cvt.rn.f16" in ptx) == (dtype == torch.float16)
