"""One pass of a model over the records of all splits: likelihoods and greedy answers, one row an example.

Every metric is computed later from these rows alone (`score.py`), without the model. Each finished split is
kept in a work folder, so that a killed job continues after the last whole split and returns the same rows.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from pipeline_lib.data.records import Record
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.generation import Generation, generate
from pipeline_lib.evaluation.scoring import TextScore, score_records
from pipeline_lib.files import read_jsonl, write_jsonl

if TYPE_CHECKING:
    from pipeline_lib.models.prompt import PromptFormat

PART_FORMAT = 1  # raise it when rows change their meaning, so that old parts are not reused


@dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation depends on, for all splits.

    `max_new_tokens`: limit of the greedy answer, end token included; one number or one a split.
    `max_tokens_per_batch`: padded tokens of a batch. `max_records`: split -> number of records, spread
    evenly over its groups; None or a split not named: all. `max_length`: prompt and answer together.
    `compute`: "fp32" takes the weights as they are, "bf16" generates under autocast; likelihoods are
    never computed under autocast.
    """

    max_new_tokens: int | dict[str, int] = 64
    max_tokens_per_batch: int = 4096
    max_records: dict[str, int] | None = None
    max_length: int = 512
    compute: str = "fp32"

    def __post_init__(self) -> None:
        if self.compute not in ("fp32", "bf16"):
            raise UserError(f"evaluation compute must be 'fp32' or 'bf16', found {self.compute!r}")

    def new_tokens_of(self, split: str) -> int:
        if isinstance(self.max_new_tokens, int):
            return self.max_new_tokens
        if split not in self.max_new_tokens:
            raise UserError(f"max_new_tokens names no limit for split {split!r}; give one number or add it")
        return self.max_new_tokens[split]

    def records_of(self, split: str, records: list[Record]) -> list[Record]:
        limit = (self.max_records or {}).get(split)
        if limit is not None and limit < 1:
            raise UserError(f"max_records of split {split!r} must be at least 1, found {limit}")
        return records if limit is None else spread_over_groups(records, limit)


def evaluate_model(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    splits: dict[str, list[Record]],
    settings: dict[str, Any],
    work_dir: Path,
    fingerprint: str,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Rows of records.jsonl for all splits, in the order of `splits` and of their records.

    `fingerprint` names the model (the hash of its weights). `work_dir` receives one file a finished split,
    named after fingerprint, settings and records; the caller may delete it once the rows are stored.
    The model stays on its device and is put into evaluation mode.
    """
    resolved = EvaluationSettings(**settings)
    chosen = {split: resolved.records_of(split, records) for split, records in splits.items()}
    for split, records in chosen.items():
        if not records:
            raise UserError(f"split {split!r} holds no record; a split needs at least one")
    model.eval()
    rows: list[dict[str, Any]] = []
    quiet = not sys.stderr.isatty()  # a log file gets a line now and then, not a redrawn bar
    steps = 2 * sum(len(records) for records in chosen.values())  # each record is scored and generated for
    with tqdm(total=steps, unit="step", disable=not progress, mininterval=15 if quiet else 0.5) as bar:
        for split, records in chosen.items():
            part = Path(work_dir) / _part_name(split, records, resolved, prompt_format, fingerprint)
            if part.is_file():
                bar.update(2 * len(records))
            else:
                write_jsonl(
                    part, _evaluate_split(model, tokenizer, prompt_format, split, records, resolved, bar)
                )
            rows += read_jsonl(part)
    return rows


def spread_over_groups(records: list[Record], limit: int) -> list[Record]:
    """At most `limit` records at even distances, each group in proportion to its size; order kept."""
    if limit >= len(records):
        return records
    first_seen = {record.group: i for i, record in reversed(list(enumerate(records)))}
    by_group = sorted(range(len(records)), key=lambda i: (first_seen[records[i].group], i))
    picked = {by_group[(2 * k + 1) * len(records) // (2 * limit)] for k in range(limit)}
    return [record for i, record in enumerate(records) if i in picked]


def _part_name(
    split: str,
    records: list[Record],
    settings: EvaluationSettings,
    prompt_format: PromptFormat,
    fingerprint: str,
) -> str:
    """A split's file name: equal only if model, records, prompt and the settings that matter are equal."""
    depends_on = {
        "format": PART_FORMAT,
        "model": fingerprint,
        "split": split,
        "prompt": prompt_format.to_dict(),
        "settings": {
            **asdict(settings),
            "max_new_tokens": settings.new_tokens_of(split),
            "max_records": len(records),
        },
        "records": [asdict(record) for record in records],
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return f"{split}-{digest[:16]}.jsonl"


def _evaluate_split(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    split: str,
    records: list[Record],
    settings: EvaluationSettings,
    bar: tqdm,
) -> list[dict[str, Any]]:
    pad_id = pad_token(tokenizer)
    bar.set_description(f"scoring {split}")
    scores = score_records(
        model,
        tokenizer,
        prompt_format,
        records,
        split=split,
        max_length=settings.max_length,
        max_tokens_per_batch=settings.max_tokens_per_batch,
        pad_id=pad_id,
        on_progress=bar.update,
    )
    bar.set_description(f"answering {split}")
    generations = _answer(
        model, tokenizer, prompt_format, split, records, settings, pad_id, on_progress=bar.update
    )
    return [
        _row(split, record, texts, generation, prompt_format.decode_answer(tokenizer, generation.tokens))
        for record, texts, generation in zip(records, scores, generations, strict=True)
    ]


def _answer(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    split: str,
    records: list[Record],
    settings: EvaluationSettings,
    pad_id: int,
    on_progress: Callable[[int], object],
) -> list[Generation]:
    """Greedy answers to all records' prompts."""
    limit = settings.new_tokens_of(split)
    prompts = [prompt_format.encode_prompt(tokenizer, record.prompt) for record in records]
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for record, prompt in zip(records, prompts, strict=True):
        if context is not None and len(prompt) + limit > context:
            raise UserError(
                f"split {split!r}, record {record.id!r}: a prompt of {len(prompt)} tokens and max_new_tokens "
                f"{limit} do not fit the model's context of {context} tokens. Lower max_new_tokens to "
                f"{context - len(prompt)} or less for this split."
            )
    return generate(
        model,
        prompts,
        max_new_tokens=limit,
        end_id=tokenizer.eos_token_id,
        pad_id=pad_id,
        max_tokens_per_batch=settings.max_tokens_per_batch,
        compute=settings.compute,
        on_progress=on_progress,
    )


def pad_token(tokenizer) -> int:
    """What fills batches up; it is masked everywhere, so the end token does as well."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def likelihood_row(split: str, record: Record, texts: list[TextScore]) -> dict[str, Any]:
    """What a row of records.jsonl says without the model's own answer.

    `texts` are the scores of the answer, the paraphrase if there is one, and the distractors.
    """
    has_paraphrase = record.paraphrased_answer is not None
    true = texts[0]
    paraphrase = texts[1] if has_paraphrase else true
    distractors = texts[1 + has_paraphrase :]
    return {
        "id": record.id,
        "group": record.group,
        "split": split,
        "prompt": record.prompt,
        "answer": record.answer,
        "answer_nll": true.nll,
        "answer_tokens": true.tokens,
        "paraphrase_nll": paraphrase.nll,
        "paraphrase_tokens": paraphrase.tokens,
        "distractor_nll": [score.nll for score in distractors],
        "distractor_tokens": [score.tokens for score in distractors],
        "token_nll": true.token_nll,
        "argmax_correct": true.argmax_correct,
    }


def _row(
    split: str, record: Record, texts: list[TextScore], generation: Generation, answer: str
) -> dict[str, Any]:
    """One row of records.jsonl."""
    return {
        **likelihood_row(split, record, texts),
        "generation": answer,
        "generation_tokens": len(generation.tokens) + generation.ended,
        "generation_ended": generation.ended,
    }
