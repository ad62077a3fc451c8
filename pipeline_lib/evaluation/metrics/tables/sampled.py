"""Several sampled answers to a question instead of one greedy one."""

from __future__ import annotations

from pipeline_lib.evaluation.metrics.definition import Metric

_SCHOLTEN = "Scholten et al., arXiv 2410.03523"
_EACH = "holds for each question by itself at 99 %, not for all at once; wide with few samples"

SAMPLED: tuple[Metric, ...] = (
    Metric(
        "sampled_leakage_mean",
        "Leakage of samples (mean)",
        True,
        False,
        (0, 1),
        _SCHOLTEN,
        "mean over a question's samples of ROUGE-L recall, averaged over questions",
        "depends on temperature, top-p and the limit of new tokens",
    ),
    Metric(
        "sampled_leakage_sd",
        "Leakage of samples (SD)",
        None,
        None,
        (0, 0.5),
        _SCHOLTEN,
        "standard deviation over a question's samples (divided by n), averaged over questions",
        "spread within a question, not between questions",
    ),
    Metric(
        "sampled_leakage_max",
        "Leakage of samples (maximum)",
        True,
        False,
        (0, 1),
        _SCHOLTEN,
        "highest leakage among a question's samples, averaged over questions",
        "grows with the number of samples",
    ),
    Metric(
        "sampled_leak_share",
        "Leaking samples",
        True,
        False,
        (0, 1),
        _SCHOLTEN,
        "share of samples with a leakage above 0.5",
        "0 of n is no proof: read the bound",
    ),
    Metric(
        "sampled_leak_bound",
        "Bound of the leak probability",
        True,
        False,
        (0, 1),
        f"{_SCHOLTEN}; Clopper and Pearson 1934",
        "upper Clopper-Pearson bound of the probability of a leak above 0.5, averaged over questions",
        _EACH,
    ),
    Metric(
        "sampled_mean_bound",
        "Bound of the mean leakage",
        True,
        False,
        (0, 1),
        f"{_SCHOLTEN}; DKW inequality, Massart 1990; Anderson 1969",
        "largest mean that a distribution within the DKW band has, averaged over questions",
        _EACH,
    ),
    Metric(
        "sampled_sd_bound",
        "Bound of the SD of leakage",
        None,
        None,
        (0, 0.5),
        f"{_SCHOLTEN}; DKW inequality, Massart 1990",
        "largest SD that a distribution within the two-sided DKW band has, averaged over questions",
        _EACH,
    ),
    Metric(
        "samples_ended",
        "Samples that ended",
        True,
        True,
        (0, 1),
        "this project",
        "share of samples that came to their end token within the limit",
        "depends on the limit of new tokens",
    ),
)
