"""lm-evaluation-harness on our engine: its own task definitions, our data and our scoring.

The package is optional (`pip install "unlearning-pipeline[lm-eval]"`) and imported only here and in
harness_model.py. `run_harness` gives the same rows as the built-in evaluation, `harness_model` an `LM` of
lm-eval for any other of its tasks:

    lm_eval.simple_evaluate(model=harness_model(model, tokenizer, ...), tasks=["lambada_openai"])
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.benchmarks.documents import Document
from pipeline_lib.evaluation.benchmarks.encoding import fit, longest_input, text_tokens
from pipeline_lib.evaluation.benchmarks.evaluate import Row, part_name, question_pairs
from pipeline_lib.evaluation.benchmarks.prompts import Choices, Passage
from pipeline_lib.evaluation.benchmarks.readers import load_benchmark, load_documents
from pipeline_lib.evaluation.benchmarks.tasks import benchmark
from pipeline_lib.files import read_jsonl, write_jsonl

INSTALL = 'pip install "lm-eval>=0.4.13"'


def require_lm_eval():
    """The package `lm_eval`, or an error with the command that installs it."""
    try:
        import lm_eval
    except ImportError as error:
        raise UserError(
            f"lm-evaluation-harness is not installed ({error}); install it with: {INSTALL}. "
            "The built-in evaluation (engine: builtin) does not need it."
        ) from None
    return lm_eval


def harness_model(
    model, tokenizer, *, max_tokens_per_batch: int, pad_id: int, max_length: int | None = None, progress=True
) -> Any:
    """Our engine as a model of lm-eval. `max_length`: tokens read at once; None: what the model can."""
    require_lm_eval()
    from pipeline_lib.evaluation.benchmarks.harness_model import EngineLM

    return EngineLM(
        model,
        tokenizer,
        max_tokens_per_batch=max_tokens_per_batch,
        pad_id=pad_id,
        max_length=longest_input(model, tokenizer) if max_length is None else max_length,
        progress=progress,
    )


def run_harness(
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
    """The rows of `evaluate_benchmarks`, with questions asked and judged by lm-eval's task definitions.

    The data come through our readers, so lm-eval downloads nothing.
    """
    require_lm_eval()
    lm = harness_model(
        model.eval(), tokenizer, max_tokens_per_batch=max_tokens_per_batch, pad_id=pad_id, progress=progress
    )
    rows: list[Row] = []
    for name in tasks:
        shots = 0 if benchmark(name).shots is None else mmlu_shots
        asked = load_benchmark(name, folder=folder, limit=limit, shots=shots)
        part = Path(work_dir) / part_name("lm_eval", name, asked, lm.max_length, fingerprint)
        if not part.is_file():
            documents, examples = load_documents(name, folder=folder, limit=limit, shots=shots)
            judged = harness_results(lm, name, documents, examples, shots)
            write_jsonl(
                part,
                [
                    harness_row(name, question, judged[question.id], tokenizer, lm.max_length)
                    for question in asked
                ],
            )
        rows += read_jsonl(part)
    return rows


def harness_results(
    lm,
    name: str,
    documents: Sequence[Document],
    examples: dict[str, list[Document]],
    shots: int,
) -> dict[str, Row]:
    """lm-eval's log of each document of a task, by the document's id. `lm`: any of lm-eval's models."""
    lm_eval = require_lm_eval()
    from pipeline_lib.evaluation.benchmarks.harness_tasks import task_specs

    results: dict[str, Row] = {}
    specs = task_specs(name, documents, examples, shots)
    logged = lm_eval.simple_evaluate(
        model=lm,
        tasks=[spec for spec, _ in specs],
        task_manager=_task_manager(),
        log_samples=True,
        bootstrap_iters=0,
        random_seed=None,  # the caller's random state is not lm-eval's to set
        numpy_random_seed=None,
        torch_random_seed=None,
    )["samples"]
    for (_, own), samples in zip(specs, logged.values(), strict=True):
        for sample in samples:
            results[own[sample["doc_id"]].id] = sample
    return results


@cache
def _task_manager():
    """lm-eval's index of its thousands of task files; it takes seconds to build."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def harness_row(name: str, question: Choices | Passage, sample: Row, tokenizer, max_length: int) -> Row:
    """A row as the built-in evaluation writes it, from one entry of lm-eval's log."""
    row: Row = {"task": name, "group": question.group, "id": question.id}
    # a response is (log-likelihood, greedy) or, of running text, the log-likelihood alone
    nll = [-float(np.ravel(response[0])[0]) for response in sample["resps"]]
    cut = False
    if isinstance(question, Passage):
        tokens = len(text_tokens(tokenizer, question.text))
        words, size = sample["word_perplexity"][1], sample["byte_perplexity"][1]
        row |= {"nll": nll[0], "tokens": tokens, "words": words, "bytes": size}
    elif benchmark(name).metric == "mass":
        row |= {"score": float(sample["acc"]), "choice_nll": nll}
    else:
        normalised = None if question.lengths is None else int(sample["acc_norm"])
        row |= {"correct": int(sample["acc"]), "correct_norm": normalised, "choice_nll": nll}
    if isinstance(question, Choices):
        pairs = question_pairs(tokenizer, question, max_length)
        cut = any(fit(pair, max_length, question.id)[1] for pair in pairs)
        row |= {"duplicate_choice": True} if question.duplicate else {}
    return row | ({"truncated": True} if cut else {})
