"""The metrics of the field as pure functions, one idea a file, and what each one is called and means.

Nothing here imports torch: reporting takes labels, arrows and sources from `METRICS`.
A new metric is one file here and one entry below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FORGET_SPLIT = "forget"
UTILITY_SPLIT = "utility"  # not a split of data: metrics over all utility splits together
RUN_SPLIT = "run"  # not a split of data: what is true of a run as a whole
AT_EQUAL_RETAIN = "_at_equal_retain"  # of the model mixed with the original, see ../equal_retain.py


@dataclass(frozen=True)
class Metric:
    """What a number of metrics.json means.

    `higher_is_better` holds on every split but `forget`; there `higher_is_better_on_forget` does. None
    means that neither direction is better.
    """

    name: str
    label: str
    higher_is_better: bool | None
    higher_is_better_on_forget: bool | None
    range: tuple[float, float]
    source: str


_INF = float("inf")
_TOFU = "TOFU, arXiv 2401.06121"
_TOFU_UTILS = "TOFU, arXiv 2401.06121 (its utils.py; also SOUL, arXiv 2404.18239)"
_OPEN_UNLEARNING = "OpenUnlearning, arXiv 2506.12618"
_CONTROL = "Unlearning with Control, arXiv 2406.09179 (its model mixing)"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("probability", "Probability", True, False, (0, 1), _TOFU),
        Metric("rouge_l_recall", "ROUGE-L recall", True, False, (0, 1), _TOFU),
        Metric("truth_ratio", "Truth Ratio", True, True, (0, 1), _TOFU),
        Metric("truth_ratio_arithmetic", "Truth Ratio (arithmetic)", True, True, (0, 1), _TOFU_UTILS),
        Metric("extraction_strength", "Extraction Strength", True, False, (0, 1), _OPEN_UNLEARNING),
        Metric("exact_memorization", "Exact Memorization", True, False, (0, 1), _OPEN_UNLEARNING),
        Metric(
            "multiple_choice_accuracy",
            "Multiple-choice accuracy",
            True,
            False,
            (0, 1),
            "length-normalised argmax",
        ),
        Metric("forget_quality", "Forget Quality (p)", True, True, (0, 1), _TOFU),
        Metric("forget_quality_log10", "Forget Quality (log10 p)", True, True, (-_INF, 0), _TOFU),
        Metric("ks_statistic", "KS statistic D", False, False, (0, 1), _TOFU),
        Metric(
            "forget_quality_arithmetic", "Forget Quality (p, arithmetic)", True, True, (0, 1), _TOFU_UTILS
        ),
        Metric(
            "forget_quality_log10_arithmetic",
            "Forget Quality (log10 p, arithmetic)",
            True,
            True,
            (-_INF, 0),
            _TOFU_UTILS,
        ),
        Metric("ks_statistic_arithmetic", "KS statistic D (arithmetic)", False, False, (0, 1), _TOFU_UTILS),
        Metric("model_utility", "Model Utility", True, None, (0, 1), _TOFU),
        Metric("model_utility_arithmetic", "Model Utility (arithmetic)", True, None, (0, 1), _TOFU_UTILS),
        Metric(
            "equal_retain_mix", "Length of the unlearning at equal retention", None, None, (0, 2), _CONTROL
        ),
    )
}
METRICS |= {
    metric.name: metric
    for metric in (
        replace(
            METRICS[name],
            name=name + AT_EQUAL_RETAIN,
            label=f"{METRICS[name].label} at equal retention",
            source=f"{METRICS[name].source}; {_CONTROL}",
        )
        for name in (
            "probability",
            "extraction_strength",
            "truth_ratio",
            "forget_quality_log10",
            "ks_statistic",
        )
    )
}


def direction(split: str, metric: str) -> bool | None:
    """Is a higher value of `metric` on `split` better? None: neither."""
    declared = METRICS[metric]
    return declared.higher_is_better_on_forget if split == FORGET_SPLIT else declared.higher_is_better


def arrow(split: str, metric: str) -> str:
    """The direction as a table heading shows it: an arrow up, an arrow down, or nothing."""
    return {True: "↑", False: "↓", None: ""}[direction(split, metric)]
