"""Likelihoods, truth ratios and what TOFU makes of them; the same of the model at equal retention."""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.evaluation.metrics.definition import AT_EQUAL_RETAIN, INF, Metric

_TOFU = "TOFU, arXiv 2401.06121"
_TOFU_UTILS = "TOFU, arXiv 2401.06121 (its utils.py; also SOUL, arXiv 2404.18239)"
_OPEN_UNLEARNING = "OpenUnlearning, arXiv 2506.12618"
_CONTROL = "Unlearning with Control, arXiv 2406.09179 (its model mixing)"

TOFU: tuple[Metric, ...] = (
    Metric(
        "probability",
        "Probability",
        True,
        False,
        (0, 1),
        _TOFU,
        "exp(-NLL / tokens); with options P_true / (P_true + sum of P_wrong)",
        "the form with options depends on how many there are; never compare it with the plain one",
    ),
    Metric(
        "truth_ratio",
        "Truth Ratio",
        True,
        True,
        (0, 1),
        _TOFU,
        "R = P(paraphrase) / geometric mean of P(wrong); forget: mean min(R, 1/R), else mean max(0, 1 - 1/R)",
        "on forget also high for a broken model that finds everything equally unlikely",
    ),
    Metric(
        "truth_ratio_arithmetic",
        "Truth Ratio (arithmetic)",
        True,
        True,
        (0, 1),
        _TOFU_UTILS,
        "the same with the arithmetic mean of P(wrong)",
        "never larger than the geometric R; published tables use the geometric one",
    ),
    Metric(
        "truth_ratio_probability",
        "Truth Ratio (probability)",
        True,
        False,
        (0, 1),
        _OPEN_UNLEARNING,
        "mean of R / (1 + R) = P_true / (P_true + P_wrong), geometric mean of the wrong answers",
        "0.5 is indifference, also on forget: compare with `retrained`, not with 0",
    ),
    Metric(
        "forget_quality",
        "Forget Quality (p)",
        True,
        True,
        (0, 1),
        _TOFU,
        "p of the two-sample KS test between R of this model and of `retrained` on the forget questions",
        "shrinks with the number of questions; a high p is no proof of forgetting",
    ),
    Metric(
        "forget_quality_log10",
        "Forget Quality (log10 p)",
        True,
        True,
        (-INF, 0),
        _TOFU,
        "log10 of that p, exact below the smallest float",
        "as above",
    ),
    Metric(
        "ks_statistic",
        "KS statistic D",
        False,
        False,
        (0, 1),
        _TOFU,
        "largest gap between the two distributions of R",
        "two alike models are about 1.2 / sqrt(n) apart",
    ),
    Metric(
        "forget_quality_arithmetic",
        "Forget Quality (p, arithmetic)",
        True,
        True,
        (0, 1),
        _TOFU_UTILS,
        "the KS test on the arithmetic R",
        "as forget_quality",
    ),
    Metric(
        "forget_quality_log10_arithmetic",
        "Forget Quality (log10 p, arithmetic)",
        True,
        True,
        (-INF, 0),
        _TOFU_UTILS,
        "log10 of that p",
        "as forget_quality",
    ),
    Metric(
        "ks_statistic_arithmetic",
        "KS statistic D (arithmetic)",
        False,
        False,
        (0, 1),
        _TOFU_UTILS,
        "D of the arithmetic R",
        "as ks_statistic",
    ),
    Metric(
        "ks_statistic_likelihood",
        "KS statistic D of likelihoods",
        False,
        False,
        (0, 1),
        "TOFU's test, arXiv 2401.06121, on the NLL instead of R",
        "largest gap between the two distributions of NLL / tokens of the forget answers",
        "two alike models are about 1.2 / sqrt(n) apart; blind to what the model says instead",
    ),
    Metric(
        "forget_quality_likelihood_log10",
        "Forget Quality of likelihoods (log10 p)",
        True,
        True,
        (-INF, 0),
        "TOFU's test, arXiv 2401.06121, on the NLL instead of R",
        "log10 p of the two-sample KS test between NLL / tokens under this model and under `retrained`",
        "shrinks with the number of records: read D and n beside it; not TOFU's Forget Quality",
    ),
    Metric(
        "forget_quality_n40",
        "Forget Quality (p, 40 questions)",
        True,
        True,
        (0, 1),
        "subsampling; see ks_equal_n in statistics.py",
        "mean p of the KS test over subsamples of 40 questions",
        "a mean of p-values is no p-value; only to compare forget sets of different size",
    ),
    Metric(
        "forget_quality_log10_n40",
        "Forget Quality (log10 p, 40 questions)",
        True,
        True,
        (-INF, 0),
        "subsampling; see ks_equal_n in statistics.py",
        "mean log10 p over these subsamples",
        "as above",
    ),
    Metric(
        "ks_statistic_n40",
        "KS statistic D (40 questions)",
        False,
        False,
        (0, 1),
        "subsampling; see ks_equal_n in statistics.py",
        "mean D over these subsamples",
        "larger than D of all questions: fewer rows, more noise",
    ),
    Metric(
        "model_utility",
        "Model Utility",
        True,
        None,
        (0, 1),
        _TOFU,
        "harmonic mean of Probability, ROUGE-L recall and Truth Ratio of every utility split",
        "one part of 0 makes it 0; depends on which splits enter",
    ),
    Metric(
        "model_utility_arithmetic",
        "Model Utility (arithmetic)",
        True,
        None,
        (0, 1),
        _TOFU_UTILS,
        "the same with the arithmetic truth ratio",
        "lower than the published form",
    ),
)

_BY_NAME = {metric.name: metric for metric in TOFU}
_MIXED = {
    "probability": _BY_NAME["probability"],
    "extraction_strength": Metric(
        "extraction_strength", "Extraction Strength", True, False, (0, 1), _OPEN_UNLEARNING, "", ""
    ),
    "truth_ratio": _BY_NAME["truth_ratio"],
    "forget_quality_log10": _BY_NAME["forget_quality_log10"],
    "ks_statistic": _BY_NAME["ks_statistic"],
    "forget_quality_likelihood_log10": _BY_NAME["forget_quality_likelihood_log10"],
    "ks_statistic_likelihood": _BY_NAME["ks_statistic_likelihood"],
}

EQUAL_RETENTION: tuple[Metric, ...] = (
    Metric(
        "equal_retain_mix",
        "Length of the unlearning at equal retention",
        None,
        None,
        (0, 2),
        _CONTROL,
        "share of the step from the original to this model at which retention is equal (1 = as trained)",
        "found by a search, so it has no interval",
    ),
    *(
        replace(
            metric,
            name=name + AT_EQUAL_RETAIN,
            label=f"{metric.label} at equal retention",
            source=f"{metric.source}; {_CONTROL}",
            formula=f"`{name}` of the model moved to equal retention",
            trap="about another model than the one that was trained: read equal_retain_mix beside it",
        )
        for name, metric in _MIXED.items()
    ),
)
