"""A zeroth-order step against the forward passes that it consists of, in time and in memory.

    python -m benchmarks.zeroth_order

The model and the texts of `second_order_run.py`: GradDiff on pairs of a forget and a retain text of 64
tokens. In every round each step is taken in turn with as many passes of the same losses as it makes, 2 a
query (one more for HiZOO), and divided by their time; the median over rounds is shown. So is AdamW's step,
over two such passes. Memory: the largest resident size of a process of its own, over that of one that makes
the passes alone. Processor time; one thread, eight minutes.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.second_order_run import TOKENS, VOCABULARY, build, examples
from pipeline_lib.distributed.group import ALONE
from pipeline_lib.objectives.grad_diff import GradDiff
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.make import make_update
from pipeline_lib.training.settings import Unlearn
from pipeline_lib.training.updates import Step

ROUNDS = 7
PAIRS = (8, 32)
WAYS: dict[str, dict[str, Any]] = {
    "zo_sgd": {},
    "zo_sgd, 4 queries": {"kind": "zo_sgd", "queries": 4},
    "zo_sgd, sphere": {"kind": "zo_sgd", "directions": "sphere"},
    "zo_adamm": {},
    "r_adazo": {},
    "hizoo": {},
    "adamw": {},
}


def prepared(way: str, pairs: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step of this way, and the passes that it is held against."""
    method = OPTIMIZERS.parse({"kind": way, "learning_rate": 1e-9, **WAYS[way]})
    model = build()
    training = Unlearn(batch_size=pairs, compute="fp32")
    course = MiniBatches(TrainingData(examples(0), examples(1), pad_id=0), training, 0)
    update = make_update(method, model, course, training, ALONE)
    forget, retain = course.batches(0)
    objective = GradDiff(kind="GradDiff")
    parameters = [p for held in update.optimizer.param_groups for p in held["params"]]
    step = Step(0, 0, model, parameters, objective, forget, retain, 0, "fp32", ALONE, lambda: None)
    passes = method.forward_passes or 2
    return lambda: update.take(step), lambda: [step.losses() for _ in range(passes)]


def seconds(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def peak(way: str, pairs: int, which: str) -> float:
    """Largest resident size (MiB) of a process that takes two steps, or makes the passes twice."""
    command = [sys.executable, "-m", "benchmarks.zeroth_order", way, str(pairs), which]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        way, pairs, which = sys.argv[1:]
        function = prepared(way, int(pairs))[which == "passes"]
        function()
        function()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print(f"{sum(p.numel() for p in build().parameters())} parameters, {VOCABULARY} tokens of vocabulary")
    print("step,pairs,tokens,time over its passes,memory over theirs")
    for pairs in PAIRS:
        for way in WAYS:
            step, passes = prepared(way, pairs)
            step(), passes()
            ratios = [seconds(step) / seconds(passes) for _ in range(ROUNDS)]
            memory = peak(way, pairs, "step") / peak(way, pairs, "passes")
            print(
                f'"{way}",{pairs},{2 * pairs * TOKENS},{statistics.median(ratios):.2f},{memory:.2f}',
                flush=True,
            )


if __name__ == "__main__":
    main()
