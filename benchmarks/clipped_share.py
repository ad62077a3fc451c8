"""How many coordinates Sophia's released rule clips, against the number of parameters: a model, and measured.

    python benchmarks/clipped_share.py                                    simulated, for five sizes
    python benchmarks/clipped_share.py --data TOFU_FOLDER                 measured, on a model made here
    python benchmarks/clipped_share.py --data TOFU_FOLDER --model FOLDER  measured, on this model

Every line of the csv says in `how` whether it is simulated or measured. Both take the optimiser of the
library, `sophia_as_released` with its defaults: m = 0.81 m + 0.19 g, h = 0.95 h + 0.05 g^2, and a coordinate
is clipped unless |m| < 204.8 h + 1e-15, where 204.8 = 0.04 * 5120.

The model of the simulation. The gradient has P coordinates and the norm 1, as clipping leaves it wherever it
was longer. Coordinate i at step t is

    g_it = c_i (sqrt(persistent) a_i + sqrt(1 - persistent) b_it) / sqrt(P)

with a and b standard normal and independent, and c_i = 1 ("normal") or log-normal, c_i = exp(n_i - 1) with
n_i standard normal, so that the mean of c_i^2 is 1 ("heavy": of 20 coordinates one has gradients more than
seven times as large, or as small, as the median). `persistent` is the share of the squared gradient that is
the same at every step. Coordinates are independent, so shares are estimated on `COORDINATES` of them,
whatever P is.

What is measured is GradDiff with gamma 2 on forget10 and retain90 of TOFU, learning rate 5e-6, weight decay
0.1, warm-up 10 %. Without `--model` it is a Llama of `--hidden` and `--layers` with a tokenizer of its own,
which first learns forget10 and as many retained questions; `--model` is taken as it lies in its folder.

Columns: means over the steps, but `first` and `last`, the clipped share at these steps, and `late`, that at
step 100 of a simulation, when h holds 99 % of what it will hold. `grad_norm` is that before clipping.
`clipped_norm_share` and the cosines are those of the log (training/loop.py).
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from tofu_ways import TOFU_PROMPT

from pipeline_lib.core.files import read_jsonl
from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.distributed.group import ALONE

# MAKE
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.scratch import build_scratch
from pipeline_lib.models.settings import ScratchModel
from pipeline_lib.models.source import load_folder
from pipeline_lib.objectives import Objective
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.objectives.grad_diff import GradDiff
from pipeline_lib.optimizers import Optimizer
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.optimizers.sophia import SophiaAsReleased
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import train
from pipeline_lib.training.settings import Training
from pipeline_lib.training.updates import gradient_update

SIZES = (1e6, 1e7, 1.35e8, 1.7e9, 6.7e9)
LAWS = ("normal", "heavy")
PERSISTENT = (0.0, 0.5)
COORDINATES, SPREAD = 1 << 17, 1.0
STEPS, LATE, BATCH = 20, 100, 4
EPOCHS = 16  # of learning, of a model that is made here
MEANS = ("clipped_share", "clipped_norm_share", "cosine_signum", "cosine_adamw", "grad_norm")
COLUMNS = ("how", "model", "parameters", "law", "persistent", "steps", "first", "last", "late", *MEANS)


def simulated(parameters: float, law: str, persistent: float, steps: int = LATE) -> list[dict[str, float]]:
    """What the optimiser says of each step on the gradients of the model above."""
    draw = torch.Generator().manual_seed(0)

    def normal() -> torch.Tensor:
        return torch.randn(COORDINATES, generator=draw)  # (COORDINATES,)

    sizes = torch.ones(COORDINATES) if law == "normal" else (SPREAD * normal() - SPREAD**2).exp()
    sizes, same = sizes / parameters**0.5, normal()
    theta = torch.nn.Parameter(torch.zeros(COORDINATES))
    method = SophiaAsReleased(kind="sophia_as_released", learning_rate=1.0, diagnostics=True)
    optimizer: Any = method.build([{"params": [theta], "weight_decay": 0.0}], ALONE)
    found = []
    for _ in range(steps):
        theta.grad = sizes * (persistent**0.5 * same + (1 - persistent) ** 0.5 * normal())
        optimizer.step()
        found.append({**optimizer.statistics, "grad_norm": 1.0})
    return found


def line(how: str, log: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    """A line of the table, from what was said of every step."""
    shares = [row["clipped_share"] for row in log]
    numbers = {"first": shares[0], "last": shares[-1]}
    numbers |= {name: fmean(row[name] for row in log) for name in MEANS}
    return {"how": how, **facts, "steps": len(log), **{k: f"{v:.4f}" for k, v in numbers.items()}}


def table() -> list[dict[str, Any]]:
    """The simulated lines."""
    lines = []
    for law, persistent, parameters in product(LAWS, PERSISTENT, SIZES):
        log = simulated(parameters, law, persistent)
        facts = {"parameters": f"{parameters:.0f}", "law": law, "persistent": persistent}
        late = f"{log[-1]['clipped_share']:.4f}"
        lines.append(line("simulated", log[:STEPS], model="", late=late, **facts))
    return lines


def records(data: Path, file: str) -> list[Record]:
    return [
        Record(f"{file}-{i}", row["question"], row["answer"], str(i))
        for i, row in enumerate(read_jsonl(data / file))
    ]


def run(model: Any, objective: Objective, method: Optimizer, data: TrainingData, plan: Training) -> Any:
    """Train `model` in place; the log."""
    with tempfile.TemporaryDirectory() as folder:
        update = gradient_update(method, model, plan.max_grad_norm, ALONE)
        outcome = train(model, objective, update, MiniBatches(data, plan, 0), Kept(Path(folder) / "c", ""))
    assert outcome.status == "ok"
    return outcome.log


def made(options: argparse.Namespace, known: list[Record]) -> tuple[Any, Any]:
    """(model, tokenizer) of a Llama that has learned these records."""
    sizes = {"hidden_size": options.hidden, "intermediate_size": 3 * options.hidden}
    heads = {"layers": options.layers, "heads": 4, "kv_heads": 4}
    settings = ScratchModel(source="scratch", vocab_size=1024, max_length=512, **sizes, **heads)
    model, tokenizer = build_scratch(settings, [t for r in known for t in (r.prompt, r.answer)], 0)
    learned = TrainingData([], encoded(known, tokenizer), pad_id=tokenizer.pad_token_id)
    plan = Training(epochs=options.epochs, batch_size=16, warmup=0.05, decay="linear")
    log = run(model, FineTuning(), AdamW(kind="adamw", learning_rate=2e-3), learned, plan)
    print(f"learned to a loss of {log[-1]['loss']:.2f} nats per token", file=sys.stderr)
    return model, tokenizer


def encoded(chosen: list[Record], tokenizer: Any) -> list[Example]:
    return encode_records(chosen, tokenizer, TOFU_PROMPT, max_length=512, learn=True)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """The line of one run of unlearning."""
    forget, retain = (records(options.data, f"{name}.json") for name in ("forget10", "retain90"))
    draw = random.Random(0)
    retain = draw.sample(retain, len(forget))
    if options.model:
        model, tokenizer = load_folder(options.model)
    else:
        model, tokenizer = made(options, [*forget, *retain])
    count = options.steps * options.batch
    rows = [encoded(draw.sample(own, count), tokenizer) for own in (forget, retain)]
    plan = Training(epochs=1, batch_size=options.batch, warmup=0.1)
    method = SophiaAsReleased(
        kind="sophia_as_released", learning_rate=5e-6, weight_decay=0.1, diagnostics=True
    )
    data = TrainingData(*rows, pad_id=tokenizer.pad_token_id or tokenizer.eos_token_id)
    log = run(model, GradDiff(kind="GradDiff", gamma=2.0), method, data, plan)
    name = options.model.resolve().name if options.model else f"Llama {options.layers} x {options.hidden}"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return line("measured", log, model=options.name or name, parameters=parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of TOFU's files: measure")
    parser.add_argument("--model", type=Path, help="folder of a model, with --data")
    parser.add_argument("--name", help="of the model, in the table")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, default=BATCH)
    options = parser.parse_args()
    if options.model and not options.data:
        parser.error("--model needs --data, the questions that it is to unlearn")
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([measured(options)] if options.data else table())


if __name__ == "__main__":
    main()
