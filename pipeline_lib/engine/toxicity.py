"""How toxic a model's continuations are: the RealToxicityPrompts protocol, and the paper's own beside it.

RealToxicityPrompts (Gehman et al. 2020, arXiv 2009.11462, section 4.2 and table 2): 25 continuations of at
most 20 tokens of each prompt, drawn with top-p 0.9 at temperature 1; the continuation alone is judged by a
classifier. Its metrics are the expected maximum over the samples of a prompt and the share of prompts with a
sample of at least 0.5; both grow with the number of samples, so only equal numbers compare.
As released (SOUL, arXiv 2404.18239): one greedy answer that ends at 200 tokens with the prompt, and the mean
of the largest probability that the classifier gives to any of its labels. The released code counts the
padding of its batch among the 200; here an answer does not depend on the batch.

Traps: Gehman et al. judge with the Perspective API, so their numbers compare with no other classifier's. A
model that says nothing is not toxic: blank samples score 0 and are counted. Whether the classifier sees
this kind of text at all is found out before (classifiers/validation.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tqdm import tqdm

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, write_jsonl
from pipeline_lib.engine.classifiers.base import TextClassifier, Verdict
from pipeline_lib.engine.generation import Generation, generate, sample
from pipeline_lib.engine.questions import AS_RELEASED_TOKENS
from pipeline_lib.models.ends import answer_ends
from pipeline_lib.models.forward import pad_token
from pipeline_lib.models.products import packed_weights

if TYPE_CHECKING:
    from pipeline_lib.models.prompt import PromptFormat

PART_FORMAT = 1  # raise it when rows change their meaning, so that old parts are not reused
CHUNK = 64  # prompts of a part; what a killed job has to do again

BLANK = Verdict(0.0, 0.0, False)


class Prompt(Protocol):
    """What is asked of a prompt: a `Record` or a `ToxicityPrompt` has it."""

    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def prompt(self) -> str: ...


@dataclass(frozen=True)
class ToxicitySettings:
    """`chat`: ask in the model's prompt format, instead of letting it continue the bare text.

    `as_released`: also the paper's own protocol. The others are those of `sample`.
    """

    samples: int
    max_new_tokens: int
    top_p: float
    temperature: float
    chat: bool
    as_released: bool
    max_tokens_per_batch: int
    compute: str


def evaluate_toxicity(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    records: Sequence[Prompt],
    classifier: TextClassifier,
    settings: dict[str, Any],
    work_dir: Path,
    fingerprint: str,
    *,
    warning: str | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """One row a prompt, in order: its samples and what the classifier says of each.

    Row: `id`, `group`, `prompt`, `samples` (texts), `samples_ended`, `scores` (0 to 1, one a sample), `blank`
    and `truncated` (numbers of samples that say nothing, or that the classifier read only in part),
    `classifier` and `classifier_warning` (the given `warning`: why its scores may mean nothing on this kind
    of prompts, if so); with `as_released` also {"generation", "ended", "score"} under that name.
    `fingerprint` names the model; finished chunks stay in `work_dir`: a killed job goes on from there.
    A sample depends on model, prompt, settings and its record's id, not on batch, order or other prompts.

    Raises `UserError` for a prompt that leaves no room.
    """
    resolved = ToxicitySettings(**settings)
    if not records:
        raise UserError("toxicity: no prompt to continue; expected at least one")
    shown = prompt_format if resolved.chat else None
    ends = answer_ends(tokenizer, shown)
    prompts = [_tokens(tokenizer, shown, record.prompt) for record in records]
    _check_room(model, records, prompts, resolved)
    model.eval()
    rows: list[dict[str, Any]] = []
    quiet = not sys.stderr.isatty()  # a log file gets a line now and then, not a redrawn bar
    each = resolved.samples + resolved.as_released
    bar = tqdm(
        total=each * len(records),
        desc="toxicity",
        unit="answer",
        disable=not progress,
        mininterval=15 if quiet else 0.5,
    )
    with bar, packed_weights(model):
        for start in range(0, len(records), CHUNK):
            chunk = slice(start, start + CHUNK)
            part = work_dir / _part_name(records[chunk], resolved, shown, ends, classifier.name, fingerprint)
            if part.is_file():
                bar.update(each * len(records[chunk]))
            else:
                answers = _Answers(model, tokenizer, shown, ends, classifier, resolved, bar.update)
                write_jsonl(part, answers.rows(records[chunk], prompts[chunk]))
            rows += read_jsonl(part)
    # Not part of what is kept: more may be known of the classifier before the job goes on.
    return [{**row, "classifier": classifier.name, "classifier_warning": warning} for row in rows]


def _part_name(
    chunk: Sequence[Prompt],
    settings: ToxicitySettings,
    prompt_format: PromptFormat | None,
    ends: frozenset[int],
    classifier: str,
    fingerprint: str,
) -> str:
    depends_on = {
        "format": PART_FORMAT,
        "model": fingerprint,
        "classifier": classifier,
        "prompt": None if prompt_format is None else prompt_format.to_dict(),
        "ends": sorted(ends),
        "settings": asdict(settings),
        "records": [(record.id, record.group, record.prompt) for record in chunk],
    }
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    return f"toxicity-{digest[:16]}.jsonl"


@dataclass(frozen=True)
class _Answers:
    """What one chunk of prompts needs."""

    model: Any
    tokenizer: Any
    prompt_format: PromptFormat | None  # None: bare
    ends: frozenset[int]
    classifier: TextClassifier
    settings: ToxicitySettings
    on_progress: Callable[[int], object]

    def rows(self, records: Sequence[Prompt], prompts: Sequence[list[int]]) -> list[dict[str, Any]]:
        settings, tokenizer = self.settings, self.tokenizer
        shared: dict[str, Any] = {
            "end_id": self.ends,
            "pad_id": pad_token(tokenizer),
            "max_tokens_per_batch": settings.max_tokens_per_batch,
            "compute": settings.compute,
            "on_progress": self.on_progress,
        }
        drawn = sample(
            self.model,
            prompts,
            n=settings.samples,
            seeds=[_seed(record.id) for record in records],
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_new_tokens=settings.max_new_tokens,
            **shared,
        )
        results = self._judged([answer for answers in drawn for answer in answers])
        rows = []
        for i, (record, answers) in enumerate(zip(records, drawn, strict=True)):
            own = results[i * settings.samples : (i + 1) * settings.samples]
            rows.append(_row(record, answers, own))
        if settings.as_released:
            limits = [AS_RELEASED_TOKENS - len(prompt) for prompt in prompts]
            greedy = generate(self.model, prompts, max_new_tokens=limits, **shared)
            for row, answer, (text, verdict) in zip(rows, greedy, self._judged(greedy), strict=True):
                row["as_released"] = {"generation": text, "ended": answer.ended, "score": verdict.any_label}
        return rows

    def _judged(self, answers: Sequence[Generation]) -> list[tuple[str, Verdict]]:
        texts = [_text(self.tokenizer, self.prompt_format, answer.tokens) for answer in answers]
        return list(zip(texts, _judge(self.classifier, texts), strict=True))


def _row(
    record: Prompt, answers: Sequence[Generation], results: Sequence[tuple[str, Verdict]]
) -> dict[str, Any]:
    return {
        "id": record.id,
        "group": record.group,
        "prompt": record.prompt,
        "samples": [text for text, _ in results],
        "samples_ended": [answer.ended for answer in answers],
        "scores": [verdict.score for _, verdict in results],
        "blank": sum(not text.strip() for text, _ in results),
        "truncated": sum(verdict.truncated for _, verdict in results),
    }


def _tokens(tokenizer, prompt_format: PromptFormat | None, prompt: str) -> list[int]:
    """The prompt in the model's format, or bare, after what its tokenizer puts before every text."""
    if prompt_format is not None:
        return prompt_format.encode_prompt(tokenizer, prompt)
    tokens = tokenizer.encode(prompt, add_special_tokens=True, split_special_tokens=True)
    return tokens[:-1] if len(tokens) > 1 and tokens[-1] == tokenizer.eos_token_id else tokens


def _text(tokenizer, prompt_format: PromptFormat | None, tokens: list[int]) -> str:
    if prompt_format is not None:
        return prompt_format.decode_answer(tokenizer, tokens)
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _seed(identifier: str) -> int:
    """From the record's id: samples stay the same when prompts are added, left out or reordered."""
    return int.from_bytes(hashlib.sha256(identifier.encode()).digest()[:8], "big")


def _check_room(
    model, records: Sequence[Prompt], prompts: Sequence[Sequence[int]], settings: ToxicitySettings
) -> None:
    """Before anything is computed, so that a prompt that is too long does not stop a job halfway."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    if settings.as_released and context < AS_RELEASED_TOKENS:
        raise UserError(
            f"as_released needs a context of {AS_RELEASED_TOKENS} tokens, the model has {context}; "
            "set as_released to false"
        )
    for record, prompt in zip(records, prompts, strict=True):
        if len(prompt) + settings.max_new_tokens > context:
            raise UserError(
                f"prompt {record.id!r} has {len(prompt)} tokens, which with max_new_tokens "
                f"{settings.max_new_tokens} do not fit the model's context of {context}. Lower it, or "
                "leave the prompt out."
            )
        if settings.as_released and len(prompt) >= AS_RELEASED_TOKENS:
            raise UserError(
                f"prompt {record.id!r} has {len(prompt)} tokens, and the protocol as released ends at "
                f"{AS_RELEASED_TOKENS} with the answer; leave the prompt out, or set as_released to false"
            )


def _judge(classifier: TextClassifier, texts: Sequence[str]) -> list[Verdict]:
    """Verdicts in order; a blank text says nothing toxic, and classifiers would make up a number for it."""
    speaking = [i for i, text in enumerate(texts) if text.strip()]
    verdicts = [BLANK] * len(texts)
    for i, verdict in zip(speaking, classifier.classify([texts[i] for i in speaking]), strict=True):
        if not (math.isfinite(verdict.score) and 0 <= verdict.score <= 1):
            raise UserError(f"{classifier.name}: a score must be from 0 to 1, found {verdict.score}")
        verdicts[i] = verdict
    return verdicts
