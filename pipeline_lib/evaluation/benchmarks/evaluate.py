"""The built-in evaluation on standard benchmarks: one row a question, from which `score` makes accuracies.

It needs no further package and agrees with lm-evaluation-harness on the same data (see harness.py, which runs
that harness's own task definitions). Every finished task is kept in a work folder, so that a killed job
continues after it and returns the same rows.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pipeline_lib.evaluation.benchmarks.encoding import (
    Pair,
    encode_pair,
    first_token,
    fit,
    longest_input,
    rolling_pairs,
    text_tokens,
)
from pipeline_lib.evaluation.benchmarks.likelihoods import score_pairs
from pipeline_lib.evaluation.benchmarks.prompts import Choices, Passage
from pipeline_lib.evaluation.benchmarks.readers import load_benchmark
from pipeline_lib.evaluation.benchmarks.tasks import benchmark
from pipeline_lib.files import read_jsonl, write_jsonl

PART_FORMAT = 1  # raise it when rows change their meaning, so that old parts are not reused

Row = dict[str, Any]


def evaluate_benchmarks(
    model,
    tokenizer,
    tasks: Sequence[str],
    *,
    limit: int | None,
    mmlu_shots: int,
    folder: str | None,
    max_tokens_per_batch: int,
    pad_id: int,
    work_dir: Path,
    fingerprint: str,
    progress: bool = True,
) -> list[Row]:
    """Rows of all tasks, in the order of `tasks` and of their questions.

    `limit`, `folder`: see `load_benchmark`. `mmlu_shots`: example questions before each of MMLU's.
    `fingerprint` names the model (the hash of its weights); `work_dir` receives a file for each finished
    task, which the caller may delete once the rows are stored.

    Rows of multiple choice: `correct` and `correct_norm` (0 or 1; null where the task does not report it) and
    `choice_nll`, the NLL in nats of each choice. `truthfulqa_mc2`: `score`, the share of probability on the
    right choices, and `choice_nll`. Perplexity: `nll` in nats, `tokens`, `words`, `bytes`. Flags, only where
    true: `truncated`, the context was cut from the left; `duplicate_choice`, a choice that counts as wrong
    has the words of a right one.
    """
    questions = {
        name: load_benchmark(
            name, folder=folder, limit=limit, shots=0 if benchmark(name).shots is None else mmlu_shots
        )
        for name in tasks
    }
    model.eval()
    max_length = longest_input(model, tokenizer)
    rows: list[Row] = []
    for name, asked in questions.items():
        part = Path(work_dir) / part_name("builtin", name, asked, max_length, fingerprint)
        if not part.is_file():
            scored = score_questions(
                model,
                tokenizer,
                name,
                asked,
                max_length=max_length,
                max_tokens_per_batch=max_tokens_per_batch,
                pad_id=pad_id,
                progress=progress,
            )
            write_jsonl(part, scored)
        rows += read_jsonl(part)
    return rows


def part_name(
    engine: str, name: str, asked: Sequence[Choices | Passage], max_length: int, fingerprint: str
) -> str:
    """A task's file name: equal only if the model and every word that it is asked are equal."""
    depends_on = [PART_FORMAT, fingerprint, max_length, [asdict(question) for question in asked]]
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return f"{engine}-{name}-{digest[:16]}.jsonl"


def score_questions(
    model,
    tokenizer,
    name: str,
    asked: Sequence[Choices | Passage],
    *,
    max_length: int,
    max_tokens_per_batch: int,
    pad_id: int,
    progress: bool = False,
) -> list[Row]:
    """Rows of one task's questions."""
    pairs: list[Pair] = []
    owners: list[int] = []
    truncated = [False] * len(asked)
    for number, question in enumerate(asked):
        for pair in question_pairs(tokenizer, question, max_length):
            fitting, cut = fit(pair, max_length, f"benchmark {name}, question {question.id}")
            pairs.append(fitting)
            owners.append(number)
            truncated[number] |= cut
    with progress_bar(name, len(pairs), progress) as bar:
        scores = score_pairs(
            model,
            pairs,
            [f"benchmark {name}, question {asked[owner].id}" for owner in owners],
            max_tokens_per_batch=max_tokens_per_batch,
            pad_id=pad_id,
            on_progress=bar.update,
        )
    by_question: list[list[Any]] = [[] for _ in asked]
    for owner, score in zip(owners, scores, strict=True):
        by_question[owner].append(score)
    rows: list[Row] = []
    for question, own, cut in zip(asked, by_question, truncated, strict=True):
        row: Row = {"task": name, "group": question.group, "id": question.id}
        if isinstance(question, Passage):
            row |= {
                "nll": sum(score.nll for score in own),
                "tokens": sum(score.tokens for score in own),
                "words": question.words,
                "bytes": question.bytes,
            }
        else:
            row |= judge(question, [score.nll for score in own], benchmark(name).metric)
        rows.append(row | ({"truncated": True} if cut else {}))
    return rows


def question_pairs(tokenizer, question: Choices | Passage, max_length: int) -> list[Pair]:
    """Tokens of one question: a pair for each choice, or the windows of a page."""
    if isinstance(question, Passage):
        tokens = text_tokens(tokenizer, question.text)
        return rolling_pairs(tokens, first_token(tokenizer), max_length)
    return [
        encode_pair(tokenizer, context, continuation)
        for context, continuation in zip(question.contexts, question.continuations, strict=True)
    ]


def judge(question: Choices, nll: Sequence[float], metric: str) -> Row:
    """What a question's row says, from the NLL of each choice. The first of equally likely choices counts.

    "choice": is the likeliest choice right? `correct` compares summed log-likelihoods, `correct_norm` those
    divided by the choice's characters, so that long choices have no disadvantage.
    "mass" (TruthfulQA's MC2): sum of exp(-nll) over right choices / sum over all.
    """
    loglikelihood = -np.asarray(nll)
    labels = np.asarray(question.labels)
    row: Row
    if metric == "mass":
        p = np.exp(loglikelihood - loglikelihood.max())
        row = {"score": float(p[labels == 1].sum() / p.sum())}
    else:
        normalised = None
        if question.lengths is not None:
            normalised = int(labels[np.argmax(loglikelihood / np.asarray(question.lengths))])
        row = {"correct": int(labels[np.argmax(loglikelihood)]), "correct_norm": normalised}
    row["choice_nll"] = list(nll)
    return row | ({"duplicate_choice": True} if question.duplicate else {})


def progress_bar(name: str, total: int, shown: bool) -> tqdm:
    """A bar on a terminal; in a log file a line now and then."""
    quiet = not sys.stderr.isatty()
    return tqdm(total=total, desc=name, unit="text", disable=not shown, mininterval=15 if quiet else 0.5)
