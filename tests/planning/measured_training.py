"""Peak of the tensors of a few training steps, counted by torch's profiler. Run as a process of its own.

    python -m tests.planning.measured_training '[{"objective": {...}, ...}, ...]'   -> bytes of each case

The steps are those of training/loop.py: objective, backward, norm, curvature, clipping, optimiser. RSS would
count the libraries and what the process keeps of freed memory as well.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig

from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.data.batching import Batch, Example, micro_batches
from pipeline_lib.models.recompute import activations_again
from pipeline_lib.objectives import FineTuning, make_objective
from pipeline_lib.optimizers import make_optimizer
from pipeline_lib.training.refresh import Curvature, Refresher

STEPS = 2


def examples(count: int, prompt: int, answer: int, vocabulary: int) -> list[Example]:
    draw = random.Random(count * prompt)
    return [
        Example(tuple(draw.randrange(vocabulary) for _ in range(prompt + answer)), prompt, i)
        for i in range(count)
    ]


def model_of(case: dict[str, Any]) -> Any:
    return AutoModelForCausalLM.from_config(
        LlamaConfig(**case["config"]), dtype=torch.float32, attn_implementation="eager"
    )


def steps_of(case: dict[str, Any], model: Any, loss: Any, sets: dict[str, list[Batch]]) -> None:
    settings = dict(case["optimizer"])
    curvature = None
    if "estimator" in settings:
        names = ("update_every", "drift_target", "curvature_data", "curvature_examples")
        curvature = Curvature(ESTIMATORS[settings.pop("estimator")], *(settings.pop(name) for name in names))
    stochastic = case["weights"] == "bf16_stochastic"
    optimizer = make_optimizer(model=model, stochastic_rounding=stochastic, **settings)
    refresher = None if curvature is None else Refresher(curvature, optimizer)
    parameters = [p for p in model.parameters() if p.requires_grad]
    for step in range(STEPS):
        autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=case["compute"] == "bf16")
        for i in range(case["accumulation"]):
            pair = [batches[i] if batches else None for batches in sets.values()]
            with autocast():
                total = loss(model, *pair).total
            total.backward()
            del total
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if refresher is not None:
            with autocast():
                refresher.refresh(model, loss, *sets.values(), step, torch.Generator().manual_seed(step))
        torch.nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def measured(case: dict[str, Any]) -> int:
    """Bytes: weights before, and the highest sum of everything allocated and not yet freed."""
    model = model_of(case)
    settings = dict(case["objective"])
    kind = settings.pop("kind")
    loss = FineTuning() if kind == "FineTuning" else make_objective(kind, **settings)
    held = 0
    if case["reference"]:
        reference = model_of(case).eval().requires_grad_(False)
        held = sum(p.numel() * p.element_size() for p in reference.parameters())
        object.__setattr__(loss, "reference_model", lambda: nullcontext(reference))
    names = loss.trainable(model)
    if names is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
    if case["lora"] is not None:
        from pipeline_lib.models import adapters

        adapters.attach(model, **case["lora"], seed=0)
    if case["weights"] != "fp32":
        model.to(torch.bfloat16)
    vocabulary = case["config"]["vocab_size"]
    count = case["batch_size"] * case["accumulation"]
    sets: dict[str, list[Batch]] = {}
    for name in ("forget", "retain"):
        rows = [] if case[name] is None else examples(count, *case[name], vocabulary)
        sets[name] = micro_batches(rows, case["batch_size"], 0) if rows else []
    held += sum(p.numel() * p.element_size() for p in model.parameters())
    again = activations_again(model, case["checkpointing"])
    with again, profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        steps_of(case, model, loss, sets)
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return held + most


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(json.dumps([measured(case) for case in json.loads(sys.argv[1])]))
