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

from collections.abc import Sequence

from pipeline_lib.metrics.extraction_strength import extraction_strength
from pipeline_lib.models.prompt import PromptFormat

NEW_TOKENS = 200
TOTAL_TOKENS = 200

# the same text twice, cut at another place
TOFU_PROMPT = PromptFormat("template", template="### Question: {prompt}\n### Answer:", answer_prefix=" ")
SOUL_PROMPT = PromptFormat("template", template="### Question: {prompt}\n", answer_prefix="### Answer: ")


def extraction(hits: Sequence[int]) -> float:
    """Extraction strength as OpenUnlearning computes it: 1 / length, not 0, where nothing is extractable."""
    return max(extraction_strength(hits), 1 / len(hits))
