"""A simulated accelerator: CPU tensors that say they lie on "gpusim" and keep CUDA's rules about devices.

torch has a dispatch key to spare for a backend written in Python ("privateuseone"). A `SimulatedTensor`
holds a CPU tensor, is dispatched, differentiated and moved by torch as a tensor of another device would be,
and computes on what it holds, so that numbers are those of the CPU. As on CUDA, backward runs on a thread
of its own, and the device has a random stream and an autocast of its own (with CUDA's lists of operations).

Refused with `MixedDevices`: an operation on tensors of the two devices, but for explicit copies, a
0-dimensional CPU tensor in an elementwise operation, and a CPU tensor as index of one on the device; and a
generator of another device than what it draws for. Refused by torch itself: `numpy()`, and gradients of
another device than their tensor. `synchronisations` counts where a GPU's program would wait: values that
are read (`item`, `tolist`, `cpu`), and masks whose elements must be counted.

What this cannot see: kernels and their numbers, speed, memory and its end, streams and asynchronous
copies, code that asks for "cuda" by name (`torch.cuda.*`, `device.type == "cuda"`), and NCCL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration

from tests.device import autocast

NAME = "gpusim"
aten = torch.ops.aten

COPIES = {aten.copy_.default, aten._copy_from.default}
INDEXING = {
    aten.index.Tensor,
    aten._unsafe_index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
TAKE_SCALARS = {aten.fill.Tensor, aten.fill_.Tensor, aten.masked_fill.Tensor, aten.masked_fill_.Tensor}
READS = {aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default}
# What makes a tensor of a size that it works out: torch would resize an empty one, which no wrapper can.
FACTORIES = ("arange", "arange.start", "arange.start_step", "eye", "eye.m", "linspace", "randperm")


class MixedDevices(RuntimeError):
    """What an accelerator refuses: tensors or generators of two devices in one operation."""


class SimulatedTensor(torch.Tensor):
    """A tensor on the simulated device; `held` has its numbers."""

    held: torch.Tensor
    is_cuda = True  # for what asks a tensor so

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> SimulatedTensor:
        assert type(held) is torch.Tensor and held.device.type == "cpu"
        # A view of an older tensor that is taken in inference mode belongs to its world, not to that mode.
        old = torch.is_inference_mode_enabled() and not held.is_inference()
        with torch.inference_mode(False) if old else nullcontext():
            self = torch.Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=DEVICE,
            )
        self.held = held
        return self

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"{self.held!r} on {NAME}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, *args, **(kwargs or {}))

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert a tensor on {NAME} to numpy; copy it to the CPU first")
        return self.detach().cpu().numpy()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()  # so that tensors in one memory are known by it

    # torch.nn.Module.to() swaps parameters, and keeps ties among them, where a class has these two.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], *_: Any) -> SimulatedTensor:
        return SimulatedTensor(inner["held"])


def run(func: Any, *args: Any, **kwargs: Any) -> Any:
    """The operation on what the simulated tensors hold; its tensors are on the device where they belong."""
    if _is_composed(func):  # comes whole in inference mode, in its parts otherwise
        return func.decompose(*args, **kwargs)
    tensors = list(_tensors((args, kwargs)))
    simulated = [tensor for tensor in tensors if isinstance(tensor, SimulatedTensor)]
    _refuse_mixtures(func, args, tensors, simulated)
    device = kwargs.get("device")
    stays = bool(simulated) if device is None else _is_simulated(device)
    BACKEND.synchronisations += _waits(func, args) or bool(simulated and not stays)
    held_args, held_kwargs = _mapped(args, _held), _mapped(kwargs, _held)
    if device is not None:
        held_kwargs["device"] = torch.device("cpu")
        held_kwargs.pop("pin_memory", None)  # page-locked memory needs a real device
    if func in COPIES:
        target = func is aten._copy_from.default  # torch's name for a copy between two backends, (from, to)
        held_args[target].copy_(held_args[not target])
        BACKEND.synchronisations += not isinstance(args[target], SimulatedTensor)
        return args[target]
    if func is aten._efficientzerotensor.default:  # forward derivatives: a zero without memory, that is
        func = aten.zeros.default  # known by a mark which the wrapper does not carry
    with BACKEND.random_stream(func, held_kwargs):
        result = func(*held_args, **held_kwargs)
    for tensor in simulated:
        if (tensor.shape, tensor.stride()) != (tensor.held.shape, tensor.held.stride()):
            raise RuntimeError(f"{func} changed the shape of its argument")
    if not stays:
        return result
    wrappers = {id(tensor.held): tensor for tensor in simulated}  # what is written to keeps its identity
    return _mapped(result, lambda tensor: _wrapped(tensor, wrappers))


def _waits(func: Any, args: Any) -> bool:
    """Whether a GPU's program stops here: it reads a value, or the size of what a mask chooses."""
    masks = args[1] if func in INDEXING else ()
    return func in READS or any(mask is not None and mask.dtype == torch.bool for mask in masks)


@cache
def _is_composed(func: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same lists and dictionaries with every tensor changed (much faster than torch's own)."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)([_mapped(item, change) for item in value])
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return value


def _held(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.held if isinstance(tensor, SimulatedTensor) else tensor


def _wrapped(tensor: torch.Tensor, wrappers: dict[int, SimulatedTensor]) -> SimulatedTensor:
    return wrappers[id(tensor)] if id(tensor) in wrappers else SimulatedTensor(tensor)


def _is_simulated(device: Any) -> bool:
    return torch.device(device).type == NAME


def _refuse_mixtures(
    func: Any, args: Any, tensors: list[torch.Tensor], simulated: list[SimulatedTensor]
) -> None:
    if len(simulated) in (0, len(tensors)) or func in COPIES:
        return
    on_cpu = [x for x in tensors if not isinstance(x, SimulatedTensor)]
    if func in INDEXING and isinstance(args[0], SimulatedTensor):
        on_cpu = [x for x in args[2:3] if x.dim() and not isinstance(x, SimulatedTensor)]
    elif torch.Tag.pointwise in func.tags or func in TAKE_SCALARS:
        first_is_written = func._schema.arguments[0].alias_info is not None
        on_cpu = [x for x in on_cpu if x.dim() or (first_is_written and x is args[0])]
    if on_cpu:
        shapes = ", ".join(str(tuple(x.shape)) for x in on_cpu)
        raise MixedDevices(f"{func} on {NAME} got CPU tensors of shape {shapes}")


class Backend(backend_registration._DummyBackendModule):
    """What torch asks a device's module (as `torch.cuda` is one), and what the tests count."""

    _initialized = True  # without it activation checkpointing would not keep the device's random state

    def __init__(self) -> None:
        self.stream = torch.Generator().manual_seed(0)
        self.synchronisations = 0

    @contextmanager
    def random_stream(self, func: Any, kwargs: dict[str, Any]) -> Iterator[None]:
        """Let an operation that draws without a generator do so from the device's stream."""
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get("generator") is not None:
            yield
            return
        of_cpu = torch.get_rng_state()
        torch.set_rng_state(self.stream.get_state())
        try:
            yield
        finally:
            self.stream.set_state(torch.get_rng_state())
            torch.set_rng_state(of_cpu)

    def manual_seed_all(self, seed: int) -> None:
        self.stream.manual_seed(seed)

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return self.stream.get_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        self.stream.set_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def device(self, device: Any) -> AbstractContextManager[None]:
        return nullcontext()


class Generator(torch.Generator):
    """`torch.Generator` that can be one of the simulated device."""

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> Generator:
        self = super().__new__(cls)
        self.place = torch.device(device)
        return self

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place


class GeneratorPolice(TorchFunctionMode):
    """Refuses a generator of another device than the call's, and what a wrapper cannot take over."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.data.__set__ and any(isinstance(value, SimulatedTensor) for value in args):
            raise RuntimeError("the simulated device cannot set the data of a tensor")
        for generator in (x for x in (*args, *kwargs.values()) if isinstance(x, torch._C.Generator)):
            simulated = any(isinstance(tensor, SimulatedTensor) for tensor in _tensors((args, kwargs)))
            place = kwargs.get("device") or (NAME if simulated else "cpu")
            if torch.device(place).type != generator.device.type:
                raise MixedDevices(f"{func} on {place} got a generator of {generator.device.type}")
        return func(*args, **kwargs)


@contextmanager
def accelerator() -> Iterator[torch.device]:
    """The simulated device, with generators of it and their police."""
    with pytest.MonkeyPatch.context() as patch, GeneratorPolice():
        patch.setattr(torch, "Generator", Generator)
        yield DEVICE


def _register() -> list[torch.library.Library]:
    """Tell torch of the device; what is returned must live as long as the device."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=BACKEND)
    others, known = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    others.fallback(run, "PrivateUse1")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name in (*FACTORIES, "_copy_from"):
        known.impl(name, partial(run, autocast.operation(name)), "PrivateUse1")
    for name, kernel in autocast.kernels(NAME):
        known.impl(name, kernel, "AutocastPrivateUse1")
    return [others, known]


BACKEND = Backend()
LIBRARIES = _register()
DEVICE = torch.device(NAME, 0)
