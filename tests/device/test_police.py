"""The simulated device refuses what CUDA refuses and allows what CUDA allows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import collate
from pipeline_lib.models.forward import answer_nll
from pipeline_lib.models.memory import halve_on_out_of_memory
from tests.device.accelerator import BACKEND, NAME, MixedDevices, accelerator
from tests.tiny import PAD, random_examples, tiny_model


@pytest.fixture
def device():
    with accelerator() as simulated:
        yield simulated


def ones(*shape):
    return torch.ones(*shape, device=NAME)


MIXTURES = {
    "elementwise": lambda: ones(3) + torch.ones(3),
    "elementwise, one element": lambda: ones(3) * torch.ones(1),
    "written in place": lambda: torch.ones(()).add_(ones(())),
    "matrix product": lambda: ones(2, 3) @ torch.ones(3, 2),
    "embedding": lambda: F.embedding(torch.tensor([0]), ones(2, 3)),
    "loss": lambda: F.cross_entropy(ones(2, 3), torch.tensor([0, 1])),
    "choice": lambda: torch.where(ones(2) > 0, ones(2), torch.ones(2)),
    "stack of numbers": lambda: torch.stack([ones(()), torch.ones(())]),
    "concatenation": lambda: torch.cat([ones(1), torch.ones(1)]),
    "index on the device": lambda: torch.ones(3)[torch.tensor([1], device=NAME)],
    "index_select": lambda: ones(3).index_select(0, torch.tensor([1])),
    "gather": lambda: ones(3).gather(0, torch.tensor([1])),
    "index_add": lambda: ones(3).index_add(0, torch.tensor([1]), ones(1)),
    "values from the CPU": lambda: ones(3).index_put_((torch.tensor([0, 1]),), torch.ones(2)),
    "scatter": lambda: ones(3).scatter(0, torch.tensor([1]), 2.0),
    "mask": lambda: ones(3).masked_fill(torch.tensor([True, False, True]), 0.0),
    "sorted search": lambda: torch.searchsorted(ones(3), torch.ones(2)),
    "several tensors": lambda: torch._foreach_add([ones(2)], [torch.ones(2)]),
}
GENERATORS = {
    "drawn": lambda: torch.rand(2, generator=torch.Generator(), device=NAME),
    "drawn in place": lambda: ones(2).normal_(generator=torch.Generator()),
    "order": lambda: torch.randperm(3, generator=torch.Generator(), device=NAME),
    "sampled": lambda: torch.multinomial(ones(3), 1, generator=torch.Generator()),
    "the other way": lambda: torch.rand(2, generator=torch.Generator(NAME)),
    "the other way in place": lambda: torch.ones(2).normal_(generator=torch.Generator(NAME)),
}


@pytest.mark.parametrize("name", [*MIXTURES, *GENERATORS])
def test_what_mixes_devices_is_refused(name, device):
    with pytest.raises(MixedDevices):
        {**MIXTURES, **GENERATORS}[name]()


@pytest.mark.parametrize("read", [lambda x: x.numpy(), np.asarray])
def test_numpy_wants_a_copy_on_the_cpu(read, device):
    with pytest.raises(TypeError, match="can't convert"):
        read(ones(2))
    assert read(ones(2).cpu()).tolist() == [1.0, 1.0]


def test_gradients_stay_on_the_device(device):
    weight = ones(2).requires_grad_()
    weight.sum().backward()
    assert weight.grad.device == device
    with pytest.raises(RuntimeError, match="device"):
        weight.grad = torch.ones(2)


def test_what_cuda_allows(device):
    assert (ones(2) + torch.tensor(2.0)).tolist() == [3.0, 3.0]
    assert (torch.tensor(2.0) * ones(2)).device == device
    assert ones(3)[torch.tensor([0, 2])].tolist() == [1.0, 1.0]
    assert ones(3)[torch.tensor([True, False, True])].shape == (2,)
    assert ones(2).fill_(torch.tensor(4.0)).tolist() == [4.0, 4.0]
    assert ones(2).masked_fill(ones(2) > 0, torch.tensor(3.0)).tolist() == [3.0, 3.0]
    held = torch.zeros(2)
    assert held.copy_(ones(2)) is held and held.tolist() == [1.0, 1.0]
    assert ones(2).copy_(torch.zeros(2)).tolist() == [0.0, 0.0]
    assert torch.rand(2, generator=torch.Generator(NAME), device=NAME).device == device
    assert torch.arange(3, device=NAME).device == torch.eye(2, device=NAME).device == device
    assert ones(2).to("cpu").device.type == torch.zeros_like(ones(2), device="cpu").device.type == "cpu"


def test_a_model_keeps_its_ties_and_its_numbers(device):
    model = tiny_model().to(device)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    batch = collate(random_examples(3), PAD)
    on_device, on_cpu = answer_nll(model, batch.to(device))[0], answer_nll(tiny_model(), batch)[0]
    assert on_device.device == device
    torch.testing.assert_close(on_device.cpu(), on_cpu)
    with pytest.raises(MixedDevices):
        answer_nll(model, batch)  # a batch that was left behind
    with pytest.raises(MixedDevices):
        answer_nll(tiny_model(), batch.to(device))


def test_the_device_has_a_random_stream_of_its_own(device):
    torch.manual_seed(3)
    first, of_cpu = torch.rand(4, device=NAME), torch.rand(4)
    assert torch.equal(first.cpu(), of_cpu)  # seeded alike, and the one did not move the other
    torch.manual_seed(3)
    torch.rand(4)
    assert torch.equal(torch.rand(4, device=NAME).cpu(), first.cpu())
    drawn = [torch.rand(2, generator=torch.Generator(NAME).manual_seed(7), device=NAME) for _ in range(2)]
    assert torch.equal(drawn[0].cpu(), drawn[1].cpu())


def test_autocast_has_the_lists_of_cuda(device):
    layer = torch.nn.Linear(2, 2).to(device)
    with torch.autocast(NAME, torch.bfloat16):
        assert layer(ones(1, 2)).dtype == torch.bfloat16
        assert layer(ones(1, 2)).softmax(-1).dtype == torch.float32
        assert layer(ones(1, 2)).sum().dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):  # that of another device does nothing
        assert layer(ones(1, 2)).dtype == torch.float32


def test_reads_are_counted(device):
    before = BACKEND.synchronisations
    values = ones(3)
    values.add_(1).sum()
    assert BACKEND.synchronisations == before
    values.sum().item()
    values.tolist()
    values.cpu()
    assert BACKEND.synchronisations == before + 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_every_way_in_which_a_gpu_runs_out_of_memory_halves_the_batch(error):
    sizes = []

    def work(items):
        sizes.append(len(items))
        if len(items) > 1:
            raise error
        return list(items)

    assert halve_on_out_of_memory([1, 2, 3], work) == [1, 2, 3]
    assert sizes == [3, 1, 2, 1, 1]
