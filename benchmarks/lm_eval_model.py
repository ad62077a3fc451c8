"""Standard benchmarks on our engine against lm-evaluation-harness's own model, row by row.

The same weights, questions and task definitions; CPU seconds of the log-likelihoods alone. Needs a model
folder and the data of docs/benchmarks.md:

    python benchmarks/lm_eval_model.py --model FOLDER --data FOLDER [--limit 100] [TASK ...]

`d NLL` is the largest difference of a log-likelihood, `d row` that of a row's score (MC2 is a share of
probability), `d task` that of what lm-eval reports: the mean of the rows, or a word's perplexity, relative.
With `--dtype float64` both compute in fp64, so that what differs is the definition and not the rounding.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from pipeline_lib.benchmarks.data import Asked
from pipeline_lib.benchmarks.harness import ask, members
from pipeline_lib.benchmarks.harness_model import EngineLM
from pipeline_lib.benchmarks.tasks import TASKS, Row
from pipeline_lib.models.products import use_fast_products
from pipeline_lib.models.source import load_folder

REQUESTS = ("loglikelihood", "loglikelihood_rolling")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="folder of a pretrained model")
    parser.add_argument("--data", type=Path, help="folder with the questions")
    parser.add_argument("--limit", type=int, default=100, help="questions a task")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--shots", type=int, default=0, help="examples before a question of MMLU")
    parser.add_argument("--batch-size", type=int, default=16, help="of lm-eval's model")
    parser.add_argument("tasks", nargs="*", default=[name for name in TASKS if name != "boolq"])
    given = parser.parse_args()
    if given.model is None or given.data is None:
        print("nothing to compare: name a model and a folder of questions with --model and --data")
        return
    _compare(given)


def _compare(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    data, dtype = str(given.data), getattr(torch, given.dtype)
    model, tokenizer = load_folder(given.model, dtype)
    fast = use_fast_products(load_folder(given.model, dtype)[0])
    ours = EngineLM(fast, tokenizer, max_tokens_per_batch=4096, progress=False)
    theirs: Any = HFLM(
        pretrained=model,
        tokenizer=tokenizer,
        batch_size=given.batch_size,
        device="cpu",
        softmax_dtype=torch.float64,
    )
    theirs.cut, theirs.tokens = ours.cut, ours.tokens  # what rows are made of beside its answers
    head = f"{'task':<20}{'rows':>6}{'right':>8}{'judged otherwise':>18}"
    print(f"{head}{'d NLL':>10}{'d row':>10}{'d task':>10}{'theirs / ours':>15}")
    for name in given.tasks:
        asked = Asked([name], {}, given.limit, given.shots, data)
        rows, seconds = _rows(ours, name, asked)
        others, their_seconds = _rows(theirs, name, asked)
        pairs = list(zip(rows, others, strict=True))
        otherwise = sum(a.get(key) != b.get(key) for a, b in pairs for key in ("correct", "correct_norm"))
        nll = max(abs(x - y) for a, b in pairs for x, y in zip(_nll(a), _nll(b), strict=True))
        score = max(abs(a.get("score", 0.0) - b.get("score", 0.0)) for a, b in pairs)
        task = abs(_reported(rows) - _reported(others))
        right = [row["correct"] for row in rows if "correct" in row]
        shown = f"{sum(right) / len(right):.2f}" if right else "-"
        print(
            f"{name:<20}{len(rows):>6}{shown:>8}{otherwise:>18}{nll:>10.1e}{score:>10.1e}{task:>10.1e}"
            f"{their_seconds / seconds:>15.2f}",
            flush=True,
        )


def _rows(lm: Any, name: str, asked: Asked) -> tuple[list[Row], float]:
    """Rows of one task and the CPU seconds that `lm` took for them."""
    spent = [0.0]

    def timed(method: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            started = time.process_time()
            result = method(*arguments, **options)
            spent[0] += time.process_time() - started
            return result

        return run

    for request in REQUESTS:
        setattr(lm, request, timed(getattr(lm, request)))
    rows = ask(lm, name, members(name, asked))
    for request in REQUESTS:
        delattr(lm, request)  # the class's own again
    return rows, spent[0]


def _reported(rows: list[Row]) -> float:
    """A task's score as lm-eval reports it; of perplexity its logarithm, whose error is the relative one."""
    if "words" in rows[0]:
        return sum(row["nll"] for row in rows) / sum(row["words"] for row in rows)
    return sum(row.get("score", row.get("correct")) for row in rows) / len(rows)


def _nll(row: Row) -> list[float]:
    return row["choice_nll"] if "choice_nll" in row else [row["nll"]]


if __name__ == "__main__":
    main()
