"""The paper's own protocol (SOUL, arXiv 2404.18239) as its released code computes it, named `_as_released`.

The code's label mask starts one token before the end of the question, so the prompt's last token is scored
with every answer, and its answer marker ("### Answer: ") too; no end token is. Its answers end where prompt
and answer together have 200 tokens. All of it is reproduced; the marker where it is the `answer_prefix`.
"""

from __future__ import annotations

from functools import partial

from pipeline_lib.metrics.definition import Metric
from pipeline_lib.metrics.rows import Row

# A metric of this protocol, which has names of its own.
released = partial(
    Metric,
    source="SOUL, arXiv 2404.18239 (its released code)",
    family="As released by the paper",
    fields=("as_released",),
    only_with=("as_released",),
)


def told(row: Row) -> str:
    """The answer that this protocol judges: its own where it asked anew."""
    return row["as_released"].get("answer", row["generation"])
