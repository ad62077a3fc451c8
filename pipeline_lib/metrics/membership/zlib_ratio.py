"""zlib: the loss relative to how well the text compresses.

Source: Carlini et al. 2021 (arXiv 2012.07805, section 5.2): loss divided by the zlib entropy of the text.
Formula: score = -(NLL / tokens) / length of zlib.compress(UTF-8 bytes of the answer), default level.
Range: -inf to 0. Direction: higher = more likely a member.
Traps: of a short answer the compressed length is mostly header (8 bytes for the empty text), so there the
score measures length as well.
"""

from __future__ import annotations

import zlib

from pipeline_lib.metrics.membership.attack import Attack, metrics_of
from pipeline_lib.metrics.rows import answer_of


def zlib_score(nll: float, tokens: int, text: str) -> float:
    """Score from the answer's summed NLL in nats, its number of tokens and its text."""
    return -nll / tokens / len(zlib.compress(text.encode()))


METRICS = metrics_of(
    Attack(
        name="zlib",
        score=lambda row, _: zlib_score(*answer_of(row), row["answer"]),
        label="zlib",
        source="Carlini et al. 2021, arXiv 2012.07805, section 5.2",
        formula="-(NLL / tokens) / bytes of the zlib-compressed answer",
        trap="the compressed length of a short answer is mostly header: for short texts it measures length",
    ),
    tables={"auc": {"membership": 20}},
    order=321,
)
