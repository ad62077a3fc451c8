"""What training and evaluation cost, against what this machine can compute and against a peer, in one run.

First the machine's own rates: products of fp32 and bf16 matrices, and copies. Then a training pair: loss and
gradient of GradDiff on forget and retain batches of TOFU, with a plain template and with the chat template,
in turn with OpenUnlearning's loss on its own collator's batches of the same tokens (`--peer`) and with an
older checkout of this project (`--before`), each in a process of its own on one thread. Then an evaluation
(answers, likelihoods of all texts). Beside each stands its arithmetic: the operations of its linear layers at
the machine's rate; and where its time goes, by kind of operation. What is evaluated are questions that the
model of `--evaluated` has not learned, as benchmarks/evaluation.py makes one that knows others.

    python benchmarks/arithmetic.py --model FOLDER --data TOFU_FOLDER --peer OPEN_UNLEARNING --before CHECKOUT

bf16 is measured where the CPU has instructions for it, in turn with our own fp32. CPU seconds are those of
the fastest of `--tries` on the same pair, and rates too: what else a shared machine does only slows it.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import cpu_facts, has_bf16, kinds, operations, rates, shown

from pipeline_lib.core.files import read_jsonl

BATCH, QUESTIONS = 8, 40
TEMPLATES = ("plain", "chat")
FILES = {"forget": "forget10.json", "retain": "retain90.json", "scored": "forget10_perturbed.json"}


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

    objective = OBJECTIVES.parse({"kind": "GradDiff"})
    return lambda pair: (
        objective(model, *(micro_batches(own, BATCH, tokenizer.eos_token_id)[0] for own in pair)).total
    )


def peers_loss(model: Any, tokenizer: Any, peer: Path) -> Callable[[list[list[Any]]], torch.Tensor]:
    from tofu_ways.openunlearning import grad_diff_loss

    return grad_diff_loss(model, tokenizer, peer)


def serve(arguments: argparse.Namespace) -> None:
    """Answer each line of stdin, a pair's number, with its CPU seconds, loss, and what `told` asks for."""
    from pipeline_lib.models.memory import peak_memory_mb

    model, tokenizer = loaded(arguments.model)
    rows = tofu(arguments.data)
    model.train()
    if arguments.serve == "peer":
        loss_of = peers_loss(model, tokenizer, arguments.peer)
    else:
        loss_of = our_loss(model, tokenizer)

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
            with operations(model) as found:
                pair(0)
            gflop = 3 * sum(work for work, _ in found) / 1e9  # forwards once, backwards twice
            print(json.dumps({"gflop": gflop, "kinds": kinds(lambda: pair(0))}), flush=True)
            continue
        started = time.process_time()
        loss = pair(number)
        answer = {"cpu": time.process_time() - started, "loss": loss}
        answer["peak"] = peak_memory_mb(torch.device("cpu"))
        print(json.dumps(answer), flush=True)


def command(kind: str, arguments: argparse.Namespace, *options: str) -> list[Any]:
    """This file in a process of its own."""
    paths = ["--model", arguments.model, "--data", arguments.data, "--peer", arguments.peer or "."]
    tries = ["--evaluated", arguments.evaluated or arguments.model, "--tries", str(arguments.tries)]
    return [sys.executable, Path(__file__).resolve(), "--serve", kind, *options, *paths, *tries]


def environment(kind: str, arguments: argparse.Namespace) -> dict[str, str]:
    """With the library of this checkout, or of the older one, on one thread."""
    here = Path(__file__).resolve().parent
    root = arguments.before if kind == "before" else here.parent
    paths = {"PYTHONPATH": f"{root}{os.pathsep}{here}"}
    return {**os.environ, **paths, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


class Way:
    """A process that answers in turn."""

    def __init__(
        self, name: str, kind: str, arguments: argparse.Namespace, template: str, compute: str
    ) -> None:
        self.name, self.compute = name, compute
        self._process = subprocess.Popen(  # noqa: S603  # this file
            command(kind, arguments, "--template", template, "--compute", compute),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(kind, arguments),
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
    """One line a way: what it costs, in turn with the others and the machine's rate, and its arithmetic.

    Beside bf16 stands our own fp32.
    """
    asked = {
        ("ours", "ours", compute): True,
        ("ours, fp32", "ours", "fp32"): compute == "bf16",
        ("before", "before", compute): arguments.before,
        ("peer", "peer", compute): arguments.peer,
    }
    ways = [Way(*way[:2], arguments, template, way[2]) for way, wanted in asked.items() if wanted]
    for way in ways:
        way.ask(0)  # warm
    answers, speeds = [], []
    for _ in range(arguments.tries):
        answers.append([way.ask(0) for way in ways])
        speeds.append(rates())  # now: machines that are shared change from minute to minute
    best = {kind: max(speed[kind] for speed in speeds) for kind in {way.compute for way in ways}}
    told = [way.ask(-1) for way in ways]
    for way in ways:
        way.end()
    texts = f"{BATCH} + {BATCH} texts; {best[compute]:.0f} GFLOP/s"
    print(f"\ntraining pair, {template} template, {compute}: {texts}")
    head = f"{'way':<12}{'CPU s':>9}{'/ peer':>9}{'arithmetic s':>14}{'CPU / it':>10}{'largest d loss':>16}"
    print(f"{head}{'peak MiB':>10}")
    for i, way in enumerate(ways):
        seconds, last = (min(row[way]["cpu"] for row in answers) for way in (i, -1))
        ratio = f"{seconds / last:.2f}" if arguments.peer else ""
        limit = told[i]["gflop"] / best[way.compute]
        apart = max(abs(row[i]["loss"] - row[0]["loss"]) for row in answers)
        costs = f"{seconds:>9.2f}{ratio:>9}{limit:>14.2f}{seconds / limit:>10.2f}{apart:>16.1e}"
        print(f"{way.name:<12}{costs}{answers[-1][i]['peak']:>10.0f}")
    for i, way in enumerate(ways):
        products = min(row[i]["cpu"] for row in answers) * told[i]["kinds"]["products"]
        reached = told[i]["gflop"] / products / best[way.compute]
        print(f"{way.name}: {shown(told[i]['kinds'])}; products at {reached:.0%} of the rate", flush=True)


def evaluation(arguments: argparse.Namespace) -> None:
    """An evaluation by TOFU's definition, in this process: its scores, and the answers that it writes.

    Scores are of all seven texts of a question. Answers are what an evaluation with them costs more. The
    limit of a product is its operations at the machine's rate, or the reading of its weight if longer.
    """
    from tofu_ways import NEW_TOKENS, ours, perturbed_records

    from pipeline_lib.study.evaluation import Evaluation

    model, tokenizer = loaded(arguments.evaluated or arguments.model)
    model.eval()
    records = perturbed_records(tofu(arguments.data)["scored"][-QUESTIONS:])
    cases = {"scores": 1, "all": NEW_TOKENS}  # tokens of answers; the scores show the first
    ours.TOKENS_PER_BATCH = Evaluation.model_fields["max_tokens_per_batch"].default
    steps: list[int] = []  # rows of each

    def evaluate(limit: int) -> None:
        ours.NEW_TOKENS = limit
        steps.clear()
        rows = ours.score(model, tokenizer, records)
        assert len(rows) == len(records)

    def stepped(module: Any, given: Any, options: Any) -> None:
        rows, width = options["input_ids"].shape
        steps.extend([rows] * (width == 1))

    model.register_forward_pre_hook(stepped, with_kwargs=True)

    work = {}
    for name, case in cases.items():
        with operations(model) as work[name]:
            evaluate(case)  # warm
    seconds, speeds = defaultdict(list), [rates()]
    for _ in range(arguments.tries):
        for name, case in cases.items():
            started = time.process_time()
            evaluate(case)
            seconds[name].append(time.process_time() - started)
            speeds.append(rates())
    product, read = (1e9 * max(speed[what] for speed in speeds) for what in ("fp32", "read"))
    cost = {name: min(tries) for name, tries in seconds.items()}
    limit = {name: sum(max(n / product, size / read) for n, size in found) for name, found in work.items()}
    for costs in cost, limit:
        costs["answers"] = costs["all"] - costs["scores"]
    print(f"\nevaluation of {QUESTIONS} questions; {product / 1e9:.0f} GFLOP/s")
    print(f"answers: {sum(steps)} tokens in {len(steps)} steps")
    for name in ("scores", "answers", "all"):
        ratio = cost[name] / limit[name]
        print(f"{name}: {cost[name]:.2f} CPU s, {limit[name]:.2f} s of arithmetic: {ratio:.2f} times")
    for name, case in cases.items():
        print(f"{name}: {shown(kinds(lambda case=case: evaluate(case)))}", flush=True)


def missing(arguments: argparse.Namespace) -> list[str]:
    """What is not there, said before anything is measured."""
    lines = [
        f"--data: no file {path}" for name in FILES.values() if not (path := arguments.data / name).is_file()
    ]
    for option, folder in (("--model", arguments.model), ("--evaluated", arguments.evaluated)):
        if folder and not (folder / "config.json").is_file():
            lines.append(f"{option}: no file {folder / 'config.json'}")
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
    parser.add_argument(
        "--evaluated", type=Path, help="folder of the model that is evaluated; default: --model"
    )
    parser.add_argument(
        "--templates", nargs="*", choices=TEMPLATES, default=TEMPLATES, help="of training pairs; may be none"
    )
    parser.add_argument(
        "--tries", type=int, default=4, help="of a pair, in turn with the peer, and of the evaluation"
    )
    parser.add_argument("--serve", choices=["ours", "before", "peer", "evaluation"], help=argparse.SUPPRESS)
    parser.add_argument("--template", choices=TEMPLATES, help=argparse.SUPPRESS)
    parser.add_argument("--compute", choices=["fp32", "bf16"], default="fp32", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.serve == "evaluation":
        evaluation(arguments)
        return
    if arguments.serve:
        serve(arguments)
        return
    if lines := missing(arguments):
        parser.error("nothing is measured before all of this is there:\n  " + "\n  ".join(lines))
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
    for name in ("ours", "before") if arguments.before else ("ours",):
        print(f"\n{name}", flush=True)
        done = command("evaluation", arguments)
        subprocess.run(done, env=environment(name, arguments), check=True)  # noqa: S603  # this file


if __name__ == "__main__":
    main()
