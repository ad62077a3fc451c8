"""GradNorm: a model has little left to learn from what it was trained on.

Source: the gradient-norm attack as collected in arXiv 2402.17012.
Formula: score = -L2 norm over all parameters together of the gradient of the mean NLL of the answer's tokens.
Range: -inf to 0. Direction: higher = more likely a member.
Traps: the norm grows with the number of trainable parameters, so adapters and whole models do not compare.
OpenUnlearning takes the mean of the norms of single tensors instead, in training mode: other numbers.
"""

from __future__ import annotations

from pipeline_lib.metrics.membership.attack import Attack, metrics_of


def grad_norm_score(norm: float) -> float:
    """Score from the gradient's norm; raises ValueError if that is negative."""
    if norm < 0:
        raise ValueError(f"a norm cannot be negative, got {norm}")
    return -norm


METRICS = metrics_of(
    Attack(
        name="grad_norm",
        score=lambda row, _: grad_norm_score(row["grad_norm"]),
        fields=("grad_norm",),
        label="GradNorm",
        source="arXiv 2402.17012",
        formula="-L2 norm over all parameters of the gradient of the answer's mean NLL",
        trap="one backward pass a record; OpenUnlearning averages the norms of the single tensors instead",
    ),
    tables={"auc": {"membership": 60}},
    only_with=("grad_norm",),
    order=381,
)
