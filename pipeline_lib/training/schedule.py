"""Learning-rate schedules as plain functions of the step."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, total_steps: int, warmup: float, decay: str) -> float:
    """Factor in [0, 1] for step 1 .. total_steps.

    The first `warmup` share of the steps rises linearly to 1; then `decay` is "constant", "linear"
    (to 0 just after the last step, so that every step moves) or "cosine" (likewise).
    """
    warmup_steps = round(warmup * total_steps)
    if step <= warmup_steps:
        return step / warmup_steps
    progress = (step - 1 - warmup_steps) / max(total_steps - warmup_steps, 1)
    factors = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    if decay not in factors:
        raise ValueError(f"unknown decay {decay!r}; allowed: {', '.join(factors)}")
    return factors[decay]
