"""Time and peak memory of one optimiser step for each objective, relative to GradDiff.

A Llama of four layers with random weights, or the model in `--model FOLDER`; 4 forget and 4 retain
examples of 128 tokens, half of them answer; forward, backward and fused AdamW, in fp32, with each
objective's default settings (`layer` of RMU: a quarter of the depth). Each objective runs in a process of
its own, step by step in turn with GradDiff, so that whatever else the machine does slows both: read the
ratios. Memory is what the process holds beyond Python and torch at its peak: weights, gradients, AdamW's
states, activations, and a second model where the objective needs one. With adapters (`unlearn.lora`)
that model is the same one with adapters off, and costs no memory.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from pipeline_lib.data.batching import Alternative, Batch, Example, collate
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.objectives import OBJECTIVES, Objective

# MAKE

THREADS, WARM_UP, ROUNDS = 1, 2, 7
EXAMPLES, PROMPT, ANSWER = 4, 64, 64
BASELINE = "GradDiff"
SMALL = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}


def load(folder: str | None) -> Any:
    if folder:
        model = load_model_folder(Path(folder))[0].float()
    else:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(LlamaConfig(**SMALL))
    return model.to("cuda" if torch.cuda.is_available() else "cpu").train()


def held_bytes(peak: bool) -> int:
    """Of this process on a CPU (Linux), of the accelerator's allocator elsewhere."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    name = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def draw(vocabulary: int, device: torch.device) -> tuple[Batch, Batch]:
    """A forget batch with all that any objective may want, and a retain batch."""
    source = random.Random(0)

    def example(index: int) -> Example:
        return Example(tuple(source.randrange(vocabulary) for _ in range(PROMPT + ANSWER)), PROMPT, index)

    forget, retain = ([example(i) for i in range(EXAMPLES)] for _ in range(2))
    alternatives = [
        Alternative(replace(example(i), tokens=e.tokens[:PROMPT] + example(i).tokens[PROMPT:]), 500.0)
        for i, e in enumerate(forget)
    ]
    reference = torch.full((EXAMPLES,), 500.0)
    return collate(forget, 0, reference, alternatives).to(device), collate(retain, 0).to(device)


def make(kind: str, layers: int, folder: str | None) -> Objective:
    given = {"layer": layers // 4} if "layer" in OBJECTIVES.kinds()[kind].model_fields else {}
    objective = OBJECTIVES.parse({"kind": kind, **given})
    if not objective.needs_reference_model:
        return objective
    before = load(folder).eval().requires_grad_(False)
    return objective.with_reference_model(lambda: nullcontext(before))


def stepper(objective: Objective, model: Any, batches: tuple[Batch, Batch]) -> Callable[[], float]:
    """One step, which returns its seconds."""
    names = objective.trainable(model)
    learning = [p for name, p in model.named_parameters() if names is None or name in names]
    optimizer = torch.optim.AdamW(learning, lr=1e-6, fused=True)

    def step() -> float:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)
        started = time.perf_counter()
        objective(model, *batches).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return step


def measure(kind: str, folder: str | None, result: Any) -> None:
    torch.set_num_threads(THREADS)
    empty = held_bytes(peak=False)
    model = load(folder)
    batches = draw(model.config.vocab_size, next(model.parameters()).device)
    layers = model.config.num_hidden_layers
    ours = stepper(make(kind, layers, folder), model, batches)
    for _ in range(WARM_UP):
        ours()
    memory = (held_bytes(peak=True) - empty) / 2**20
    theirs = stepper(make(BASELINE, layers, folder), model, batches)
    theirs()
    times = [(ours(), theirs()) for _ in range(ROUNDS)]
    result.send((median(a for a, _ in times), median(a / b for a, b in times), memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model folder of the pipeline; default: a small random Llama")
    folder = parser.parse_args().model
    # A fork before torch has started a thread: a fresh process without importing everything again.
    context = get_context("spawn" if torch.cuda.is_available() else "fork")
    with_a_loss = [kind for kind, objective in OBJECTIVES.kinds().items() if objective.trained]
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {THREADS} thread"
    what = folder or "Llama, " + ", ".join(f"{value} {name}" for name, value in SMALL.items())
    print(f"{what}; {place}; fp32; {EXAMPLES} + {EXAMPLES} examples of {PROMPT} + {ANSWER} tokens\n")
    print("| objective | ms a step | / GradDiff | peak MiB | / GradDiff |\n|---|---|---|---|---|")
    baseline = 0.0
    for kind in sorted(with_a_loss, key=lambda kind: kind != BASELINE):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=measure, args=(kind, folder, sender))
        process.start()
        sender.close()
        seconds, ratio, memory = receiver.recv()
        process.join()
        baseline = baseline or memory
        times = f"{1e3 * seconds:.0f} | {ratio:.2f}"
        print(f"| {kind} | {times} | {memory:.0f} | {memory / baseline:.2f} |", flush=True)


if __name__ == "__main__":
    main()
