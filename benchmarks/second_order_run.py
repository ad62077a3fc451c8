"""A whole unlearning run, second order against first order: the loop alone, curvature at every 10th step.

A Llama with random weights (8 layers of 256, vocabulary 8192) unlearns by GradDiff with 8 forget and 8
retain examples of 64 tokens a step, three quarters of them answer. Every round runs 10 steps (one
estimate) of each method in turn, so that other work on the machine slows all of them; each is
divided by AdamW of the same round, and the median over rounds is shown. Processor time is steadier
than wall time where the machine does other work. One thread, one or two minutes.
"""

from __future__ import annotations

import io
import random
import statistics
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from pipeline_lib.data.batching import Example
from pipeline_lib.distributed.group import ALONE

# MAKE
from pipeline_lib.objectives.grad_diff import GradDiff
from pipeline_lib.optimizers import Optimizer
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.optimizers.sophia import Sophia, SophiaAsReleased
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import train
from pipeline_lib.training.settings import Training
from pipeline_lib.training.updates import gradient_update

STEPS, EXAMPLES, TOKENS, PROMPT, VOCABULARY = 10, 8, 64, 16, 8192
ROUNDS = 3
RATE = {"learning_rate": 1e-5}


def sophia(estimator: str, **settings: Any) -> Sophia:
    """Published Sophia with curvature at every 10th step."""
    return Sophia(kind="sophia", estimator=estimator, update_every=STEPS, **RATE, **settings)


METHODS = {
    "AdamW": AdamW(kind="adamw", **RATE),
    "Sophia, Gauss-Newton-Bartlett": sophia("gauss_newton_bartlett"),
    "Sophia, Hutchinson": sophia("hutchinson_rademacher"),
    "Sophia, Hutchinson on retain": sophia("hutchinson_rademacher", curvature_data="retain"),
    "Sophia, Hutchinson on 2 of 8": sophia("hutchinson_rademacher", curvature_examples=2),
    "Sophia, Hutchinson on 1 of 8": sophia("hutchinson_rademacher", curvature_examples=1),
    "Sophia as released": SophiaAsReleased(kind="sophia_as_released", **RATE),
}


def examples(seed: int) -> list[Example]:
    """Random ones for `STEPS` steps."""
    source = random.Random(seed)
    return [
        Example(tuple(source.randrange(VOCABULARY) for _ in range(TOKENS)), PROMPT, i)
        for i in range(STEPS * EXAMPLES)
    ]


def build() -> torch.nn.Module:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")


def run(method: Optimizer, data: TrainingData) -> tuple[float, float, float]:
    """Wall and processor time of the loop, and the wall time of its one estimate, in seconds."""
    model = build()
    plan = Training(
        epochs=1,
        batch_size=EXAMPLES,
        accumulation=1,
        warmup=0.0,
        decay="constant",
        max_grad_norm=1.0,
        compute="fp32",
        checkpoint_seconds=1e9,
    )
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        started = time.process_time()
        objective = GradDiff(kind="GradDiff")
        update = gradient_update(method, model, plan.max_grad_norm, ALONE)
        kept = Kept(Path(folder) / "c", "")
        outcome = train(model, objective, update, MiniBatches(data, plan, 0), kept)
        used = time.process_time() - started
    assert outcome.status == "ok" and outcome.steps == STEPS
    return outcome.train_time_s, used, outcome.log[0].get("curvature_s") or 0.0


def main() -> None:
    torch.set_num_threads(1)
    data = TrainingData(examples(1), examples(2), pad_id=0)
    run(METHODS["AdamW"], data)  # warm up
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in METHODS}
    for turn in range(ROUNDS):
        order = [*METHODS][turn % len(METHODS) :] + [*METHODS][: turn % len(METHODS)]
        for name in order:
            times[name].append(run(METHODS[name], data))
    count = sum(p.numel() for p in build().parameters())
    print(f"{count / 1e6:.1f} M parameters, {STEPS} steps a run, one thread, {ROUNDS} rounds")
    print(f"{'method':<32}{'ms a step':>11}{'estimate, ms':>14}{'to AdamW: wall':>16}{'processor':>11}")
    for name, found in times.items():
        wall, processor = (
            statistics.median(mine[i] / first[i] for mine, first in zip(found, times["AdamW"], strict=True))
            for i in (0, 1)
        )
        step = 1e3 * min(mine[0] for mine in found) / STEPS
        estimate = 1e3 * min(mine[2] for mine in found)
        print(f"{name:<32}{step:>11.0f}{estimate:>14.0f}{wall:>16.2f}{processor:>11.2f}")


if __name__ == "__main__":
    main()
