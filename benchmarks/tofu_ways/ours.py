"""Our engine and metrics."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline_lib.data.records import Record
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.settings import EvaluationSettings, Parts
from pipeline_lib.metrics.probability import probability
from pipeline_lib.metrics.rouge import rouge_recall
from pipeline_lib.metrics.truth_ratio import log_truth_ratio
from pipeline_lib.models.products import use_fast_products
from tofu_ways import NEW_TOKENS, SOUL_PROMPT, TOFU_PROMPT, TOTAL_TOKENS, extraction

Row = dict[str, Any]
TOKENS_PER_BATCH = 24576  # all answers of 80 questions at once
VARIANTS = ("as it is", "answers not begun by the scores", "bf16 answers")


def prepare(records: list[Record], definition: str, variant: str) -> Callable[[Any, Any], dict[str, Any]]:
    """A function (model, tokenizer) -> values; `variant` is one of VARIANTS."""
    from pipeline_lib.engine import asking  # here: `score` runs with older checkouts too

    if variant == VARIANTS[1]:
        asking.greedy_beginning = lambda *_: []
    compute = "bf16" if variant == VARIANTS[2] else "fp32"
    evaluate = _tofu if definition == "tofu" else _soul
    return lambda model, tokenizer: evaluate(use_fast_products(model), tokenizer, records, compute)


def _rows(model, tokenizer, prompt, splits, limit: int, as_released: bool, compute: str) -> list[Row]:
    settings = EvaluationSettings(
        max_new_tokens=limit,
        max_tokens_per_batch=TOKENS_PER_BATCH,
        max_records=None,
        max_length=512,
        compute=compute,
        likelihood_only=[],
        distribution_splits=[],
        grad_norm_splits=[],
        samples=None,
        as_released=as_released,
    )
    with tempfile.TemporaryDirectory() as folder:
        return evaluate_model(
            model, tokenizer, prompt, splits, settings, Parts(Path(folder), "benchmark"), progress=False
        )


def score(model, tokenizer, records: list[Record], compute: str = "fp32") -> list[Row]:
    """What the engine records by TOFU's definition."""
    return _rows(model, tokenizer, TOFU_PROMPT, {"forget": records}, NEW_TOKENS, False, compute)


def _tofu(model, tokenizer, records: list[Record], compute: str) -> dict[str, Any]:
    rows = score(model, tokenizer, records, compute)
    return {
        "probability": [probability(row["answer_nll"], row["answer_tokens"]) for row in rows],
        "truth ratio": [math.exp(-_log_ratio(row, "geometric")) for row in rows],
        "ROUGE-L": [rouge_recall(row["generation"], row["answer"]) for row in rows],
        "extraction": [extraction(row["argmax_correct"][:-1]) for row in rows],
        "answers": [row["generation"] for row in rows],
        "ended": [row["generation_ended"] for row in rows],
    }


def _soul(model, tokenizer, records: list[Record], compute: str) -> dict[str, Any]:
    original = [replace(record, paraphrased_answer=None, distractors=()) for record in records]
    asked_anew = [
        replace(  # its definition asks for no probability of the original answer here
            record,
            id=f"{record.id}, asked anew",
            prompt=record.paraphrased_prompt or record.prompt,
            answer=record.paraphrased_answer or record.answer,
            paraphrased_prompt=None,
            paraphrased_answer=None,
        )
        for record in records
    ]
    original = [replace(record, paraphrased_prompt=None) for record in original]
    shortest = min(len(SOUL_PROMPT.encode_prompt(tokenizer, r.prompt)) for r in [*original, *asked_anew])
    splits = {"both": [*original, *asked_anew]}
    rows = _rows(model, tokenizer, SOUL_PROMPT, splits, TOTAL_TOKENS - shortest, True, compute)
    first, second = rows[: len(records)], rows[len(records) :]
    probabilities = [probability(math.fsum(row["token_nll"][:-1]), row["answer_tokens"] - 1) for row in first]
    # its texts begin with the end of the prefix, of which it cuts the first token only
    rouge = [rouge_recall(f"Answer: {row['generation']}", row["answer"]) for row in first]
    return {
        "mean probability": [math.fsum(probabilities) / len(first)],
        "truth ratio": [math.exp(-_log_ratio(row["as_released"], "arithmetic")) for row in second],
        "mean ROUGE-L": [math.fsum(rouge) / len(first)],
        "answers": [row["generation"] for row in rows],
        "ended": [row["generation_ended"] for row in rows],
    }


def _log_ratio(row: Row, variant: Any) -> float:
    return log_truth_ratio(
        row["paraphrase_nll"],
        row["paraphrase_tokens"],
        row["distractor_nll"],
        row["distractor_tokens"],
        variant,
    )
