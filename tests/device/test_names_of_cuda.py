"""Code that asks for CUDA by name, which no simulated device answers: torch.cuda is replaced."""

from __future__ import annotations

import torch

from pipeline_lib.models.memory import halve_on_out_of_memory, peak_memory_mb
from pipeline_lib.steps.common import run_facts, start
from pipeline_lib.training.loop import Outcome

CUDA = torch.device("cuda")


def test_a_gpu_is_chosen_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [start(device, 1) for device in ("auto", "cuda", "cpu")] == [CUDA, CUDA, torch.device("cpu")]


def test_fp32_is_fp32_whatever_the_environment_says():
    """A container's TORCH_ALLOW_TF32_CUBLAS_OVERRIDE has the effect of the first line."""
    torch.set_float32_matmul_precision("high")
    assert torch.backends.cuda.matmul.allow_tf32
    start("cpu", 1)
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32


def test_memory_and_name_are_the_gpu_s(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda place: asked.append(place) or 3 << 20)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: asked.append(place) or "Some GPU")
    assert peak_memory_mb(CUDA) == 3.0
    facts = run_facts({}, Outcome([], "ok", None, 0, 0.0), CUDA, 0.0)
    assert (facts["peak_memory_mb"], facts["device"]) == (3.0, "Some GPU")
    assert asked == [CUDA] * 3


def test_a_gpu_s_cache_is_emptied_before_the_halves(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: events.append("emptied"))

    def work(items):
        events.append(len(items))
        if len(items) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return list(items)

    assert halve_on_out_of_memory([7, 8], work) == [7, 8]
    assert events == [2, "emptied", 1, 1]
