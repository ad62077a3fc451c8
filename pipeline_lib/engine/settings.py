"""What an evaluation depends on; the values come from the suite, nothing has a default here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record

SAMPLES = {"n", "temperature", "top_p", "splits"}


@dataclass(frozen=True, kw_only=True)
class ScoringSettings:
    """What likelihoods depend on.

    `max_tokens_per_batch`: padded tokens of a batch. `max_records`: split -> number of records, spread
    evenly over its groups; None or a split not named: all. `max_length`: prompt and answer together.
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

    `max_new_tokens`: limit of an answer, end token included; one number or one a split.
    `compute`: "fp32" takes the weights as they are, "bf16" generates under autocast; likelihoods are
    never computed under autocast. `likelihood_only`: splits without generated answers (non-members).
    `distribution_splits`, `grad_norm_splits`: where the next-token distributions are described, and the
    gradient's norm measured. `samples`: None, or n, temperature, top_p and the splits they are drawn for.
    `as_released`: also ask as the paper's released code does (see rows.released_fields).
    """

    max_new_tokens: int | dict[str, int]
    compute: str
    likelihood_only: list[str]
    distribution_splits: list[str]
    grad_norm_splits: list[str]
    samples: dict[str, Any] | None
    as_released: bool

    def __post_init__(self) -> None:
        if self.compute not in ("fp32", "bf16"):
            raise UserError(f"evaluation compute must be 'fp32' or 'bf16', found {self.compute!r}")
        if self.samples is not None and set(self.samples) != SAMPLES:
            raise UserError(
                f"samples must name {', '.join(sorted(SAMPLES))}, found {', '.join(sorted(self.samples))}"
            )

    def new_tokens_of(self, split: str) -> int:
        if isinstance(self.max_new_tokens, int):
            return self.max_new_tokens
        if split not in self.max_new_tokens:
            raise UserError(f"max_new_tokens names no limit for split {split!r}; give one number or add it")
        return self.max_new_tokens[split]

    def generates(self, split: str) -> bool:
        return split not in self.likelihood_only

    def samples_of(self, split: str) -> dict[str, Any] | None:
        """n, temperature and top_p, where answers are drawn for this split."""
        if self.samples is None or split not in self.samples["splits"]:
            return None
        return {name: value for name, value in self.samples.items() if name != "splits"}


def spread_over_groups(records: list[Record], limit: int) -> list[Record]:
    """At most `limit` records at even distances, each group in proportion to its size; order kept."""
    if limit >= len(records):
        return records
    first_seen = {record.group: i for i, record in reversed(list(enumerate(records)))}
    by_group = sorted(range(len(records)), key=lambda i: (first_seen[records[i].group], i))
    picked = {by_group[(2 * k + 1) * len(records) // (2 * limit)] for k in range(limit)}
    return [record for i, record in enumerate(records) if i in picked]
