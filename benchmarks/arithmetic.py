"""What training and evaluation cost, against what this machine can compute and against a peer, in one run.

First the machine's own rates: products of fp32 and bf16 matrices, and copies. Then a training pair: loss and
gradient of GradDiff on forget and retain batches of TOFU, with a plain template and with the chat template,
in turn with OpenUnlearning's loss on its own collator's batches of the same tokens (`--peer`) and with an
older checkout of this project (`--before`), each in a process of its own on one thread. Then an evaluation
(answers, likelihoods of all texts). Beside each stands its arithmetic: the operations of its linear layers at
the machine's rate; and where its time goes, by kind of operation.

    python benchmarks/arithmetic.py --model FOLDER --data TOFU_FOLDER --peer OPEN_UNLEARNING --before CHECKOUT

bf16 is measured where the CPU has instructions for it. CPU seconds; the median over the pairs counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch

from pipeline_lib.core.files import read_jsonl

BATCH, QUESTIONS = 8, 16
TEMPLATES = ("plain", "chat")
SHAPES = ((600, 576, 1536), (600, 1536, 576), (600, 576, 576), (2048, 2048, 2048))
FILES = {"forget": "forget10.json", "retain": "retain90.json", "scored": "forget10_perturbed.json"}
KINDS = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear_pointwise"),
    "attention": ("scaled_dot_product",),
    "softmax of the vocabulary": ("softmax", "logsumexp", "nll_loss", "argmax", "aten::max"),
    "copies": ("aten::copy_", "index", "aten::cat", "gather", "aten::fill_", "aten::embedding"),
}


# The machine


def rate(function: Callable[[], object], work: float, tries: int = 7) -> float:
    """`work` a second, of the fastest try."""
    function()
    seconds = []
    for _ in range(tries):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return work / min(seconds)


def rates() -> dict[str, float]:
    """GFLOP/s of products by kind, the best of the shapes; GB/s of a copy, read and written."""
    found: dict[str, float] = defaultdict(float)
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    for n, k, m in SHAPES:
        a, b = torch.randn(n, k), torch.randn(m, k)
        ways: dict[str, Callable[[], object]] = {"fp32": lambda a=a, b=b: a @ b.t()}
        if onednn is not None:
            ways["fp32, oneDNN"] = lambda a=a, b=b: onednn(a, b, None, "none", [], "")
        if has_bf16():
            half = a.bfloat16(), b.bfloat16()
            ways["bf16"] = lambda half=half: half[0] @ half[1].t()
        for name, way in ways.items():
            found[name] = max(found[name], rate(way, 2 * n * k * m / 1e9))
    source = torch.ones(1 << 27)
    target = torch.empty_like(source)
    found["copy"] = rate(lambda: target.copy_(source), 2 * source.nbytes / 1e9)
    return dict(found)


def fastest(compute: str) -> float:
    """GFLOP/s of this kind's products now; machines that are shared change from minute to minute."""
    return max(value for name, value in rates().items() if name.startswith(compute))


def cpu_facts() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def has_bf16() -> bool:
    return bool({"avx512_bf16", "amx_bf16"} & set(cpu_facts()["flags"].split()))


# Work of one process, in turn with the others: it is asked for pair after pair


def tofu(data: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: read_jsonl(data / file) for name, file in FILES.items()}


def loaded(model: Path) -> tuple[Any, Any]:
    from pipeline_lib.models.products import use_fast_products
    from pipeline_lib.models.source import load_folder

    found, tokenizer = load_folder(model)
    return use_fast_products(found), tokenizer


def prompt_format(template: str) -> Any:
    from tofu_ways import TOFU_PROMPT

    from pipeline_lib.models.prompt import PromptFormat

    return TOFU_PROMPT if template == "plain" else PromptFormat("chat")


def examples(tokenizer: Any, template: str, rows: dict[str, Any], pair: int) -> list[list[Any]]:
    """Forget and retain examples of a pair, the same in every process."""
    from pipeline_lib.data.records import Record
    from pipeline_lib.models.encoding import encode_records

    draw = random.Random(pair)
    chosen = [draw.sample(rows[name], BATCH) for name in ("forget", "retain")]
    return [
        encode_records(
            [Record(str(i), row["question"], row["answer"], str(i)) for i, row in enumerate(own)],
            tokenizer,
            prompt_format(template),
            max_length=512,
            learn=True,
        )
        for own in chosen
    ]


def our_loss(model: Any, tokenizer: Any) -> Callable[[list[list[Any]]], torch.Tensor]:
    from pipeline_lib.data.batching import micro_batches
    from pipeline_lib.objectives import OBJECTIVES

    with suppress(ImportError):  # an older checkout has none
        from pipeline_lib.models.memory import keep_freed_memory

        keep_freed_memory()
    objective = OBJECTIVES.parse({"kind": "GradDiff"})
    return lambda pair: (
        objective(model, *(micro_batches(own, BATCH, tokenizer.eos_token_id)[0] for own in pair)).total
    )


def peers_loss(model: Any, tokenizer: Any, peer: Path) -> Callable[[list[list[Any]]], torch.Tensor]:
    from tofu_ways.openunlearning import grad_diff_loss

    return grad_diff_loss(model, tokenizer, peer)


def serve(arguments: argparse.Namespace) -> None:
    """Answer each line of stdin, a pair's number, with its CPU seconds, loss, and what `told` asks for."""
    torch.set_num_threads(1)
    model, tokenizer = loaded(arguments.model)
    rows = tofu(arguments.data)
    model.train()
    make = peers_loss if arguments.serve == "peer" else our_loss
    loss_of = make(model, tokenizer, arguments.peer) if arguments.serve == "peer" else make(model, tokenizer)

    def pair(number: int) -> float:
        for parameter in model.parameters():
            parameter.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.compute == "bf16"):
            loss = loss_of(examples(tokenizer, arguments.template, rows, number))
        loss.backward()
        return loss.item()

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        number = int(line)
        if number < 0:
            with operations(model) as count:
                pair(0)
            # forwards once, backwards twice
            print(json.dumps({"gflop": 3 * count[0] / 1e9, "kinds": kinds(lambda: pair(0))}), flush=True)
            continue
        started = time.process_time()
        loss = pair(number)
        print(json.dumps({"cpu": time.process_time() - started, "loss": loss}), flush=True)


@contextmanager
def operations(model: Any) -> Iterator[list[float]]:
    """Counts the operations of all linear layers, forwards."""
    count = [0.0]

    def counted(layer: Any, inputs: Any, output: torch.Tensor) -> None:
        count[0] += 2 * output.numel() * layer.in_features

    handles = [
        layer.register_forward_hook(counted)
        for layer in model.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


def kinds(work: Callable[[], object]) -> dict[str, float]:
    """Shares of the CPU time by kind of operation."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as record:
        work()
    shares: dict[str, float] = defaultdict(float)
    for event in record.key_averages():
        kind = next((k for k, names in KINDS.items() if any(n in event.key for n in names)), "the rest")
        shares[kind] += event.self_cpu_time_total
    whole = sum(shares.values())
    return {kind: shares[kind] / whole for kind in (*KINDS, "the rest")}


class Way:
    """A process that answers in turn."""

    def __init__(self, kind: str, arguments: argparse.Namespace, template: str, compute: str) -> None:
        self.kind = kind
        here = Path(__file__).resolve()
        root = arguments.before if kind == "before" else here.parents[1]
        options = ["--serve", kind, "--template", template, "--compute", compute]
        paths = ["--model", arguments.model, "--data", arguments.data, "--peer", arguments.peer or "."]
        self._process = subprocess.Popen(  # noqa: S603  # this file
            [sys.executable, here, *options, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": f"{root}{os.pathsep}{here.parent}",
                "OMP_NUM_THREADS": "1",
                "TQDM_DISABLE": "1",
            },
        )
        if self._read() != "ready":
            raise SystemExit(f"{kind}: its process did not start")

    def ask(self, number: int) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line.startswith(('"', "{")) else None

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


# Tables


def training(arguments: argparse.Namespace, template: str, compute: str) -> None:
    """One line a way: what it costs, in turn with the others and the machine's rate, and its arithmetic."""
    names = ["ours", *(["before"] if arguments.before else []), *(["peer"] if arguments.peer else [])]
    ways = [Way(name, arguments, template, compute) for name in names]
    for way in ways:
        way.ask(0)  # warm
    answers, speeds = [], []
    for number in range(1, arguments.pairs + 1):
        answers.append([way.ask(number) for way in ways])
        speeds.append(fastest(compute))
    speed = median(speeds)
    told = [way.ask(-1) for way in ways]
    for way in ways:
        way.end()
    print(f"\ntraining pair, {template} template, {compute}: {BATCH} + {BATCH} texts; {speed:.0f} GFLOP/s")
    print(f"{'way':<10}{'CPU s':>9}{'/ peer':>9}{'arithmetic s':>14}{'CPU / it':>10}{'largest d loss':>16}")
    for i, way in enumerate(ways):
        seconds = median(row[i]["cpu"] for row in answers)
        last = median(row[i]["cpu"] / row[-1]["cpu"] for row in answers)
        ratio = f"{last:.2f}" if arguments.peer else ""
        limit = told[i]["gflop"] / speed
        apart = max(abs(row[i]["loss"] - row[0]["loss"]) for row in answers)
        print(f"{way.kind:<10}{seconds:>9.2f}{ratio:>9}{limit:>14.2f}{seconds / limit:>10.2f}{apart:>16.1e}")
    for i, way in enumerate(ways):
        print(f"{way.kind}: {shown(told[i]['kinds'])}", flush=True)


def shown(shares: dict[str, float]) -> str:
    return ", ".join(f"{kind} {share:.1%}" for kind, share in shares.items())


def evaluation(arguments: argparse.Namespace) -> None:
    """One evaluation by TOFU's definition, in this process."""
    from tofu_ways import ours

    from pipeline_lib.data.records import Record
    from pipeline_lib.models.memory import keep_freed_memory

    keep_freed_memory()
    model, tokenizer = loaded(arguments.model)
    model.eval()
    records = [
        Record(
            f"forget10-{i}",
            row["question"],
            row["answer"],
            str(i),
            row["paraphrased_question"],
            row["paraphrased_answer"],
            tuple(row["perturbed_answer"]),
        )
        for i, row in enumerate(tofu(arguments.data)["scored"][:QUESTIONS])
    ]
    evaluate = ours.prepare(records, "tofu", ours.VARIANTS[0])
    evaluate(model, tokenizer)  # warm
    before = fastest("fp32")
    started = time.process_time()
    evaluate(model, tokenizer)
    seconds = time.process_time() - started
    with operations(model) as count:
        evaluate(model, tokenizer)
    limit = count[0] / 1e9 / ((before + fastest("fp32")) / 2)
    print(
        f"\nevaluation, {QUESTIONS} questions: {seconds:.2f} CPU s, {limit:.2f} s of arithmetic at the rate"
    )
    print(f"of products: {seconds / limit:.2f} times; {shown(kinds(lambda: evaluate(model, tokenizer)))}")


def missing(arguments: argparse.Namespace) -> list[str]:
    """What is not there, said before anything is measured."""
    lines = [
        f"--data: no file {path}" for name in FILES.values() if not (path := arguments.data / name).is_file()
    ]
    if not (arguments.model / "config.json").is_file():
        lines.append(f"--model: no file {arguments.model / 'config.json'}")
    if arguments.before and not (arguments.before / "pipeline_lib").is_dir():
        lines.append(f"--before: {arguments.before} is no checkout of this project")
    if arguments.peer:
        check = (
            "from pathlib import Path; from tofu_ways import openunlearning as o; o.import_trainers(Path())"
        )
        here = Path(__file__).resolve().parent
        done = subprocess.run(  # noqa: S603  # the line above
            [sys.executable, "-c", check],
            cwd=arguments.peer if arguments.peer.is_dir() else None,
            env={**os.environ, "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines.append(f"--peer {arguments.peer}: {done.stderr.strip().splitlines()[-1]}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a pretrained model")
    parser.add_argument("--data", type=Path, required=True, help="folder with TOFU's JSON files")
    parser.add_argument("--peer", type=Path, help="checkout of OpenUnlearning")
    parser.add_argument("--before", type=Path, help="older checkout of this project")
    parser.add_argument("--templates", nargs="+", choices=TEMPLATES, default=TEMPLATES)
    parser.add_argument("--pairs", type=int, default=3, help="of batches, in turn with the peer")
    parser.add_argument("--serve", choices=["ours", "before", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--template", choices=TEMPLATES, help=argparse.SUPPRESS)
    parser.add_argument("--compute", choices=["fp32", "bf16"], default="fp32", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments)
        return
    if lines := missing(arguments):
        parser.error("nothing is measured before all of this is there:\n  " + "\n  ".join(lines))
    torch.set_num_threads(1)
    found = rates()
    name, family, number = (cpu_facts()[key] for key in ("model name", "cpu family", "model"))
    print(f"{name}, family {family}, model {number}; torch {torch.__version__}; one thread")
    print(", ".join(f"{way} {value:.0f}" for way, value in found.items()) + " (GFLOP/s; GB/s)", flush=True)
    for template in arguments.templates:
        training(arguments, template, "fp32")
        if has_bf16():
            training(arguments, template, "bf16")
    if not has_bf16():
        print("\nbf16 is not measured: this CPU has neither avx512_bf16 nor amx_bf16")
    evaluation(arguments)


if __name__ == "__main__":
    main()
