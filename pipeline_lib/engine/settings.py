"""What an evaluation depends on, as typed values. Those that a suite can set have no default here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record

# The module that judges at equal retention; an evaluation that is asked for that imports it by this name.
EQUAL_RETAIN = "pipeline_lib.engine.equal_retain"
ASKED = "pipeline_lib.engine.asked_otherwise"  # likewise, where a model is asked in other ways
SOFT_PROMPT = "pipeline_lib.engine.soft_prompt"  # likewise, where free embeddings stand in the prompt
LIKELIHOOD_ONLY = "likelihood_only"  # setting of an evaluation that reads the true answers and writes none


@dataclass(frozen=True)
class Decoding:
    """How any answer is generated, greedy or drawn.

    `ends`: tokens that end an answer. `pad_id` fills up batches. `max_tokens_per_batch`: tokens of a batch,
    prompts and limits together. `compute`: "bf16" runs matrix products under autocast, which is faster on a
    GPU and may decide near ties between two tokens the other way; "fp32" takes the weights as they are.
    """

    ends: Collection[int]
    pad_id: int
    max_tokens_per_batch: int
    compute: str = "fp32"


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """`n` answers a prompt, drawn from softmax(logits / temperature) in fp32.

    The distribution is cut to the smallest set of most likely tokens whose mass is at least `top_p` (nucleus
    sampling, Holtzman et al. 2020, arXiv 1904.09751, section 3.1). Raises `UserError` for a temperature that
    is not above 0, a `top_p` outside (0, 1], or n below 1.
    """

    n: int
    temperature: float
    top_p: float

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UserError(
                f"temperature must be above 0, found {self.temperature}; greedy answers need no sampling"
            )
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, found {self.top_p}")
        if self.n < 1:
            raise UserError(f"the number of samples must be at least 1, found {self.n}")


@dataclass(frozen=True, kw_only=True)
class SplitSampling(Sampling):
    """Answers drawn for the questions of these splits."""

    splits: list[str]


@dataclass(frozen=True)
class Parts:
    """Where the finished parts of an evaluation wait for the rest.

    `folder` receives a file for each finished part; the caller may delete it once all rows are stored.
    `fingerprint` names the model (the hash of its weights) and whatever else all parts depend on.
    """

    folder: Path
    fingerprint: str

    def path(self, name: str, depends_on: dict[str, Any]) -> Path:
        """The file of a part: another one if anything differs that the part depends on."""
        content = json.dumps({"model": self.fingerprint, **depends_on}, sort_keys=True)
        return self.folder / f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.jsonl"


@dataclass(frozen=True, kw_only=True)
class ScoringSettings:
    """What likelihoods depend on.

    `max_tokens_per_batch`: tokens of a batch, padding included. `max_records`: split -> number of records,
    spread evenly over its groups; None, or a split that is not named: all. `max_length`: tokens of prompt and
    answer together.
    """

    max_tokens_per_batch: int
    max_records: dict[str, int] | None
    max_length: int

    def records_of(self, split: str, records: list[Record]) -> list[Record]:
        limit = (self.max_records or {}).get(split)
        if limit is not None and limit < 1:
            raise UserError(f"max_records of split {split!r} must be at least 1, found {limit}")
        return records if limit is None else spread_over_groups(records, limit)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(ScoringSettings):
    """What an evaluation depends on, for all splits.

    `max_new_tokens`: limit of an answer, end token included; one number, or one a split. `compute`: see
    `Decoding`; likelihoods are never computed under autocast. `likelihood_only`: splits without generated
    answers (non-members). `distribution_splits`: where next-token distributions are described.
    `grad_norm_splits`: where the gradient's norm is measured. `samples`: None if no answers are drawn.
    `as_released`: also ask as the paper's released code does (see rows.released_fields).
    """

    max_new_tokens: int | dict[str, int]
    compute: str
    likelihood_only: list[str]
    distribution_splits: list[str]
    grad_norm_splits: list[str]
    samples: SplitSampling | None
    as_released: bool

    def __post_init__(self) -> None:
        if self.compute not in ("fp32", "bf16"):
            raise UserError(f"evaluation compute must be 'fp32' or 'bf16', found {self.compute!r}")

    def new_tokens_of(self, split: str) -> int:
        if isinstance(self.max_new_tokens, int):
            return self.max_new_tokens
        if split not in self.max_new_tokens:
            raise UserError(f"max_new_tokens names no limit for split {split!r}; give one number or add it")
        return self.max_new_tokens[split]

    def generates(self, split: str) -> bool:
        return split not in self.likelihood_only

    def samples_of(self, split: str) -> Sampling | None:
        """How answers are drawn for this split; None if none are."""
        return self.samples if self.samples is not None and split in self.samples.splits else None


def spread_over_groups(records: list[Record], limit: int) -> list[Record]:
    """At most `limit` records at even distances, each group in proportion to its size; order kept."""
    if limit >= len(records):
        return records
    first_seen = {record.group: i for i, record in reversed(list(enumerate(records)))}
    by_group = sorted(range(len(records)), key=lambda i: (first_seen[records[i].group], i))
    picked = {by_group[(2 * k + 1) * len(records) // (2 * limit)] for k in range(limit)}
    return [record for i, record in enumerate(records) if i in picked]
