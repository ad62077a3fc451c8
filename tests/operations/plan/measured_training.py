"""Peak of the tensors of a few training steps, counted by torch's profiler. Run as a process of its own.

    python -m tests.operations.plan.measured_training '[{"objective": {...}, ...}]'   -> bytes of each case

The steps are those of training/loop.py: curvature, objective, backward, norm, clipping, optimiser. RSS would
count the libraries and what the process keeps of freed memory as well. `peaks` tells the parts of a step
apart: the backward pass is cut where the gradient reaches the last layer, those between, the first one and
the embedding, so that the peak of each part grows by the same bytes with every layer.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import AutoModelForCausalLM, LlamaConfig

from pipeline_lib.curvature.base import StepData
from pipeline_lib.data.batching import Batch, Example, micro_batches
from pipeline_lib.distributed.group import ALONE
from pipeline_lib.models.recompute import activations_again, decoder_layers
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.make import make_optimizer
from pipeline_lib.training.refresh import Refresher
from pipeline_lib.training.updates import Step
from tests.methods import make_objective

STEPS = 2
MARK = "part of a step: "


def examples(count: int, prompt: int, answer: int, vocabulary: int) -> list[Example]:
    draw = random.Random(count * prompt)
    return [
        Example(tuple(draw.randrange(vocabulary) for _ in range(prompt + answer)), prompt, i)
        for i in range(count)
    ]


def model_of(case: dict[str, Any]) -> Any:
    attention = case.get("attention", "sdpa")
    return AutoModelForCausalLM.from_config(
        LlamaConfig(**case["config"]), dtype=torch.float32, attn_implementation=attention
    )


class Marks:
    """Says in the profiler's record which part of a step begins."""

    def __init__(self) -> None:
        self.within = ""
        self.graphs = 0

    def begin(self, name: str) -> None:
        with record_function(f"{MARK}{self.within}{name}"):
            pass

    def enter(self, within: str) -> None:
        """The graphs to come are counted from 0, and their parts' names begin with `within`."""
        self.within, self.graphs = within, 0

    @contextmanager
    def on(self, model: Any) -> Iterator[None]:
        """Inside, each layer of `model` says when its turn comes."""
        layers = decoder_layers(model)
        last = len(layers) - 1

        def before(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if torch.is_grad_enabled():
                self.begin(f"forward, graph {self.graphs}")
                if inputs[0].requires_grad:
                    inputs[0].register_hook(partial(self._reached, f"embedding, graph {self.graphs}"))

        def after(i: int, module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
            if output.requires_grad:
                where = "last layer" if i == last else ("first layer" if i == 0 else "layers between")
                output.register_hook(partial(self._reached, f"{where}, graph {self.graphs}"))
                self.graphs += i == last

        hooks = [layers[0].register_forward_pre_hook(before)]
        hooks += [layer.register_forward_hook(partial(after, i)) for i, layer in enumerate(layers)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _reached(self, name: str, gradient: torch.Tensor) -> None:
        self.begin(f"backward, {name}")


def steps_of(
    case: dict[str, Any], model: Any, loss: Any, steps: list[dict[str, list[Batch]]], marks: Marks
) -> None:
    method = OPTIMIZERS.parse(case["optimizer"])
    stochastic = case["weights"] == "bf16_stochastic"
    parameters = [p for p in model.parameters() if p.requires_grad]
    on_host = case.get("offload", False)  # its states and its step take nothing of the device
    optimizer = torch.optim.SGD(parameters) if on_host else make_optimizer(method, model, stochastic)
    if method.smoothing is not None:
        optimizer = method.smoothing.stepping(optimizer, len(steps))
    refresher = None if method.curvature is None else Refresher(method.curvature, optimizer)
    for step, sets in enumerate(steps):
        autocast = partial(torch.autocast, "cpu", torch.bfloat16, enabled=case["compute"] == "bf16")
        if refresher is not None and not refresher.of_gradient:
            with autocast():
                _estimate(refresher, model, loss, sets, step, on_host, marks)
        if method.smoothing is not None:
            given = (step, 0, model, parameters, loss, *sets.values(), 0, case["compute"], ALONE)
            method.smoothing.gradients(Step(*given, lambda: None), False)
        for i in range(0 if method.smoothing else case["accumulation"]):
            pair = [batches[i] if batches else None for batches in sets.values()]
            marks.enter("")
            marks.begin("forward")
            with autocast():
                total = loss(model, *pair).total
            marks.begin("backward, output")
            total.backward()
            del total
        marks.begin("norm")
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if refresher is not None and refresher.of_gradient:
            with autocast():
                _estimate(refresher, model, loss, sets, step, on_host, marks)
        marks.begin("step")
        torch.nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)
        if not on_host:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _estimate(
    refresher: Refresher,
    model: Any,
    loss: Any,
    sets: dict[str, list[Batch]],
    step: int,
    on_host: bool,
    marks: Marks,
) -> None:
    """An estimate of the curvature; `on_host`: it goes to the machine's memory, where it is averaged."""
    marks.enter("curvature, ")
    marks.begin("forward")
    generator = torch.Generator().manual_seed(step)
    if on_host:
        data, estimator = StepData(*sets.values(), refresher.curvature.data), refresher.curvature.estimator
        gradient = [p.grad for p in refresher.parameters] if refresher.of_gradient else None
        estimator.estimate(model, loss, data, refresher.parameters, generator, gradient)
    else:
        refresher.refresh(model, loss, *sets.values(), step, generator)
    marks.enter("")


def sets_of(case: dict[str, Any], longest: bool) -> dict[str, list[Batch]]:
    """The micro-batches of one step; of one answer token each where they need not be at their longest."""
    count = case["batch_size"] * case["accumulation"]
    sets: dict[str, list[Batch]] = {}
    for name in ("forget", "retain"):
        rows = []
        if case[name] is not None:
            lengths = case[name] if longest else (2, 1)
            rows = examples(count, *lengths, case["config"]["vocab_size"])
        reference = torch.ones(count) if case["objective"]["kind"] == "NPO" else None
        sets[name] = micro_batches(rows, case["batch_size"], 0, reference) if rows else []
    return sets


def peaks(case: dict[str, Any], rounded_to: int = 1, first_is_short: bool = False) -> dict[str, int]:
    """The highest sum of everything allocated and not yet freed, in bytes, for each part of the steps.

    `rounded_to`: every tensor takes a multiple of so many bytes. `first_is_short`: of the two steps the
    first, which leaves the optimiser's states behind, reads as little text as it can.
    """

    def size(number: int) -> int:
        whole = -(-abs(number) // rounded_to) * rounded_to
        return whole if number >= 0 else -whole

    model = model_of(case)
    settings = dict(case["objective"])
    kind = settings.pop("kind")
    loss = make_objective(kind, **settings)
    held = 0
    if case["reference"]:
        reference = model_of(case).eval().requires_grad_(False)
        if case["weights"] != "fp32":
            reference.to(torch.bfloat16)
        held = sum(size(p.numel() * p.element_size()) for p in reference.parameters())
        loss = loss.with_reference_model(lambda: nullcontext(reference))
    names = loss.trainable(model)
    if names is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
    if case["lora"] is not None:
        from pipeline_lib.models import adapters

        adapters.attach(model, **case["lora"], seed=0)
    if case["weights"] != "fp32":
        model.to(torch.bfloat16)
    steps = [sets_of(case, longest=step > 0 or not first_is_short) for step in range(STEPS)]
    held += sum(size(p.numel() * p.element_size()) for p in model.parameters())
    marks = Marks()
    again = activations_again(model, case["checkpointing"])
    with again, marks.on(model), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        steps_of(case, model, loss, steps, marks)
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    told = [event for event in events if event.name() == "[memory]" or event.name().startswith(MARK)]
    now, part = held, ""
    most: dict[str, int] = {}
    for event in sorted(told, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += size(event.nbytes())
        else:
            part = event.name().removeprefix(MARK)
        most[part] = max(most.get(part, 0), now)
    return most


def measured(case: dict[str, Any]) -> int:
    """Bytes at the highest of all parts of the steps, the weights included."""
    return max(peaks(case).values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(json.dumps([measured(case) for case in json.loads(sys.argv[1])]))
