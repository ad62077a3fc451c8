"""Ways of one and the same TOFU evaluation, for benchmarks/evaluation.py.

Two definitions, both asked on the model that learned "### Question: ...\\n### Answer: ...":

- "tofu", as TOFU and OpenUnlearning have it: the original question, the end token counts, the truth ratio
  with the geometric mean of the wrong answers, at most `NEW_TOKENS` new tokens; extraction strength as
  OpenUnlearning's default evaluation has it;
- "soul", as the SOUL paper's code has it: paraphrase and wrong answers after the paraphrased question, both
  questions answered, no end token, "### Answer: " scored with the answer, the truth ratio with the arithmetic
  mean, at most `TOTAL_TOKENS` tokens with the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline_lib.data.records import Record
from pipeline_lib.metrics.extraction_strength import extraction_strength
from pipeline_lib.models.prompt import PromptFormat

NEW_TOKENS = 200
TOTAL_TOKENS = 200

# the same text twice, cut at another place
TOFU_PROMPT = PromptFormat("template", template="### Question: {prompt}\n### Answer:", answer_prefix=" ")
SOUL_PROMPT = PromptFormat("template", template="### Question: {prompt}\n", answer_prefix="### Answer: ")


def perturbed_records(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Records of TOFU's forget10_perturbed.json, with paraphrase and wrong answers."""
    return [
        Record(
            f"forget10-{i}",
            row["question"],
            row["answer"],
            str(i // 20),
            row["paraphrased_question"],
            row["paraphrased_answer"],
            tuple(row["perturbed_answer"]),
        )
        for i, row in enumerate(rows)
    ]


def extraction(hits: Sequence[int]) -> float:
    """Extraction strength as OpenUnlearning computes it: 1 / length, not 0, where nothing is extractable."""
    return max(extraction_strength(hits), 1 / len(hits))
