"""Questions and answers as token examples, for tests that need no whole records."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.models.encoding import encode_records


def encode(
    prompts: Sequence[str], answers: Sequence[str], tokenizer, prompt_format, max_length: int
) -> list[Example]:
    """`encode_records` of pairs."""
    records = [Record(str(i), *pair, "g") for i, pair in enumerate(zip(prompts, answers, strict=True))]
    return encode_records(records, tokenizer, prompt_format, max_length, learn=False)
