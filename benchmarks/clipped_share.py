"""How many coordinates Sophia's released rule clips, against the number of parameters: a model, and measured.

    python benchmarks/clipped_share.py                                    simulated, for five sizes
    python benchmarks/clipped_share.py --data TOFU_FOLDER                 measured, on a model made here
    python benchmarks/clipped_share.py --data TOFU_FOLDER --model FOLDER  measured, on this model
    python benchmarks/clipped_share.py --figure FILE                      the figure of docs/measurements

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
Each number of `--steps` is a run of its own, from the same model.

Columns: means over the steps, but `first` and `last`, the clipped share at these steps, and `late`, that at
step 100 of a simulation, when h holds 99 % of what it will hold. `grad_norm` is that before clipping.
`clipped_norm_share` and the cosines are those of the log (training/loop.py).

The figure is drawn from `--table`. Its dashed line is `even_share`, which is no bound of the measured points.
"""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import random
import sys
import tempfile
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from tofu_ways import TOFU_PROMPT

from pipeline_lib.core.files import read_jsonl
from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.distributed.group import ALONE
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
from pipeline_lib.reporting import style
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import train
from pipeline_lib.training.settings import Training
from pipeline_lib.training.updates import gradient_update

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES = (1e6, 1e7, 1.35e8, 1.7e9, 6.7e9)
LAWS = ("normal", "heavy")
PERSISTENT = (0.0, 0.5)
COORDINATES, SPREAD = 1 << 17, 1.0
STEPS, LATE, BATCH = 20, 100, 4
EPOCHS = 16  # of learning, of a model that is made here
MEANS = ("clipped_share", "clipped_norm_share", "cosine_signum", "cosine_adamw", "grad_norm")
SIZE_NAMES = ("1 M", "10 M", "135 M", "1.7 B", "6.7 B")
TABLE = Path(__file__).parents[1] / "docs" / "measurements" / "clipped_share.csv"
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


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A line for each run of unlearning."""
    forget, retain = (records(options.data, f"{name}.json") for name in ("forget10", "retain90"))
    draw = random.Random(0)
    retain = draw.sample(retain, len(forget))
    drawn = draw.getstate()
    if options.model:
        model, tokenizer = load_folder(options.model)
    else:
        model, tokenizer = made(options, [*forget, *retain])
    name = options.model.resolve().name if options.model else f"Llama {options.layers} x {options.hidden}"
    facts = {"model": options.name or name, "parameters": sum(p.numel() for p in model.parameters())}
    lines = []
    for steps in options.steps:
        draw.setstate(drawn)
        rows = [encoded(draw.sample(own, steps * options.batch), tokenizer) for own in (forget, retain)]
        plan = Training(epochs=1, batch_size=options.batch, warmup=0.1)
        method = SophiaAsReleased(
            kind="sophia_as_released", learning_rate=5e-6, weight_decay=0.1, diagnostics=True
        )
        data = TrainingData(*rows, pad_id=tokenizer.pad_token_id or tokenizer.eos_token_id)
        log = run(copy.deepcopy(model), GradDiff(kind="GradDiff", gamma=2.0), method, data, plan)
        lines.append(line("measured", log, **facts))
    return lines


def even_share(parameters: float, step: int) -> float:
    """The clipped share at this step is above this if |m| is the same in all coordinates.

    Unclipped coordinates together have less than 204.8 sum(h) of the sum of |m|, which is the norm of m times
    sqrt(P) if it is spread evenly. Gradients have the norm 1, so that sum(h) = 1 - 0.95^t, and those of two
    steps are orthogonal, so that the squared norm of m is 0.19^2 (1 + 0.81^2 + ... + 0.81^(2 t - 2)). Where
    gradients agree m is longer, and the share above a higher limit.
    """
    method = SophiaAsReleased(kind="sophia_as_released", learning_rate=1.0)
    keep = method.beta1**2
    norm = (1 - keep) * sum(keep ** (2 * ago) for ago in range(step)) ** 0.5
    room = method.rho * method.BATCH_CONSTANT * (1 - method.beta2**step)
    return max(0.0, 1 - room / (norm * parameters**0.5))


def figure(rows: list[dict[str, str]]) -> Figure:
    """Clipped share against parameters, from lines of the table."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(style.PANEL_WIDTH, 5.0))
    above, below = drawing.subplots(2, sharex=True)
    steps = range(1, STEPS + 1)
    panel(above, rows, f"mean of steps 1 to {STEPS}", ("clipped_share", "clipped_share"), steps)
    panel(below, rows, f"step {LATE}", ("late", "last"), range(LATE, LATE + 1))
    below.set_xticks(SIZES, SIZE_NAMES)
    below.set_xlabel("parameters")
    drawing.legend(*above.get_legend_handles_labels(), loc="outside upper center")
    return drawing


def panel(ax: Axes, rows: list[dict[str, str]], title: str, columns: tuple[str, str], steps: range) -> None:
    """Heights are unclipped shares on a logarithmic axis that points down; its ticks name clipped shares.

    `columns` are those of simulated and of measured lines, of runs that end with the last of `steps`.
    """
    rest: dict[float, list[float]] = {size: [] for size in SIZES}
    points = []
    for row in rows:
        if row["how"] == "simulated":
            rest[float(row["parameters"])].append(1 - float(row[columns[0]]))
        elif int(row["steps"]) == steps[-1]:
            points.append((float(row["parameters"]), 1 - float(row[columns[1]])))
    low, high = [min(v) for v in rest.values()], [max(v) for v in rest.values()]
    ax.vlines(SIZES, low, high, style.RETRAINED_COLOUR, lw=7, alpha=0.4, label="simulated, four variants")
    ax.plot(*zip(*sorted(points), strict=True), "o", ms=4.5, color=style.ORIGINAL_COLOUR, label="measured")
    even = [1 - fmean(even_share(size, step) for step in steps) for size in SIZES]
    ax.plot(SIZES, even, "--", color=style.UNTRAINED[0], label="least, if |m| is spread evenly")
    ax.set(title=title, ylabel="clipped share")
    ax.set(xscale="log", yscale="log", xlim=(5e5, 1.4e10), ylim=(1, 1e-4))
    ax.set_yticks([1, 0.5, 0.1, 1e-2, 1e-3, 1e-4], ["0", "0.5", "0.9", "0.99", "0.999", "0.9999"])
    ax.minorticks_off()
    ax.grid(axis="y", color="#DDDDDD", lw=0.5)


def write_figure(table: Path, file: Path) -> None:
    """Write the figure of `table`, whose SHA-256 the picture keeps."""
    import matplotlib

    text = table.read_bytes()
    source = f"{table.name}, SHA-256 {hashlib.sha256(text).hexdigest()}"
    rows = list(csv.DictReader(text.decode().splitlines()))
    with matplotlib.rc_context(style.RC):
        figure(rows).savefig(file, metadata={"Source": source, "Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of TOFU's files: measure")
    parser.add_argument("--model", type=Path, help="folder of a model, with --data")
    parser.add_argument("--name", help="of the model, in the table")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--steps", type=int, nargs="+", default=[STEPS])
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--figure", type=Path, help="write a picture of --table to this .png file")
    parser.add_argument("--table", type=Path, default=TABLE, help="(default: that of docs/measurements)")
    options = parser.parse_args()
    if options.figure:
        write_figure(options.table, options.figure)
        return
    if options.model and not options.data:
        parser.error("--model needs --data, the questions that it is to unlearn")
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(measured(options) if options.data else table())


if __name__ == "__main__":
    main()
