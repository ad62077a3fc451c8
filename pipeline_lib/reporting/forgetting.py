"""What was forgotten, and whether the study can show forgetting at all.

Forgetting is the loss of something that `original` knew and `retrained` does not. Where `original` itself
passes the test of forgetting, gives the forget answers no more probability than `retrained`, or prefers wrong
answers, nothing that happens to an unlearned model can be called forgetting.
"""

from __future__ import annotations

import math

from pipeline_lib.reporting import style
from pipeline_lib.reporting.finding import Finding, of_seeds, percent, span
from pipeline_lib.reporting.headline import LIKELIHOOD_QUALITY, RATIO_QUALITY, Measure, axes
from pipeline_lib.reporting.inputs import Row
from pipeline_lib.reporting.summary import Summary

LEVEL = 0.05  # of the KS test: TOFU's criterion
INDIFFERENT = 0.5  # R / (1 + R) where the right answer is as likely as the wrong ones: R = 1
PROBABILITY = Measure("forget", "probability")
RATIO = Measure("forget", "truth_ratio")
TRUTH = Measure("forget", "truth_ratio_probability")
LEAST_KNOWN = 0.05  # more than `retrained` says; a share of anything smaller would be noise
# Measures of what a model says word for word, the most telling first, with the words before the number.
VERBATIM = (
    (Measure("forget", "extraction_rate"), "the share of the forget texts of which a long run is recited"),
    (Measure("forget", "rouge_l_recall"), "the share of the forget answers' words that the model says"),
    (
        Measure("forget", "extraction_strength"),
        "the share of a forget answer that the model ends without a mistake, given its beginning",
    ),
)


def what_was_forgotten(summary: Summary, task: str, model: str, rows: list[Row]) -> Finding | None:
    """The first finding: what is recited before and after, how much is gone, and why that may not be said."""
    blind = doubts(summary, task, model)
    said = _verbatim(summary, task, model, rows, may_be_gone=not blind)
    if blind:
        numbers = f" {said[0].upper()}{said[1:]}" if said else ""
        return Finding(f"This study cannot show forgetting: {'; '.join(blind)}.{numbers}")
    return Finding(f"What was forgotten: {said}") if said else None


def _verbatim(summary: Summary, task: str, model: str, rows: list[Row], may_be_gone: bool) -> str | None:
    """One number before unlearning, in the retrained model and after, and the share that is gone."""
    taught = summary.inputs.manifests.get(task, {}).get("finetune", {}).get("target")
    # A base model's own answers are no copies of the forget set.
    measured = [
        (m, words)
        for m, words in VERBATIM
        if summary.has(task, model, *m) and (taught or m.metric == "extraction_rate")
    ]
    if not measured:
        return None
    measure, words = measured[0]
    before = summary.estimate(summary.inputs.original(task, model), *measure)
    after = [(e.value, style.row_label(row)) for row in rows if (e := summary.estimate(row, *measure))]
    if not (before and after):
        return None
    retrained = summary.inputs.retrained(task, model)
    level = summary.estimate(retrained, *measure) if retrained else None
    there = f" and {percent(level.value)} in the retrained model" if level else ""
    said = f"{words} is {percent(before.value)} before unlearning{there}; after unlearning {span(after)}."
    if not may_be_gone:
        return said
    floor = level.value if level else 0.0
    if before.value - floor < LEAST_KNOWN:
        than = "more than in the retrained model" if level else "in all"
        return (
            f"{said} No share of it can be said to be gone: before unlearning it was less than "
            f"{percent(LEAST_KNOWN)} {than}."
        )
    gone = [((before.value - value) / (before.value - floor), name) for value, name in after]
    of = "what the retrained model does not say" if level else "it"
    shares = [round(100 * share) for share, _ in gone]
    more = " Below 0 %: the model says more of it than before unlearning." if min(shares) < 0 else ""
    over = " Above 100 %: the model says less of it than the retrained model." if max(shares) > 100 else ""
    return f"{said} Of {of}, {span(gone)} is gone.{more}{over}"


def doubts(summary: Summary, task: str, model: str) -> list[str]:
    """Why no row of this study can be said to forget; empty where `original` knows what `retrained` does not.

    Without `retrained` nothing says what a model that never saw the data would know. Then the only doubt is
    that `original` prefers wrong answers, where truth ratios judge the task.
    """
    original, retrained = summary.inputs.original(task, model), summary.inputs.retrained(task, model)
    found = []
    tested = _tested(summary, task, model) if retrained else None
    if tested:
        quality, what = tested
        p = summary.by_seed(original, *quality)
        if passed := _passed(p):
            found.append(
                f"`original` itself passes the test (in {of_seeds(passed, len(p))} its {what} are not told "
                f"from those of the retrained model, KS p > {LEVEL})"
            )
    by_ratios = tested[0] == RATIO_QUALITY if tested else axes(summary, task, model)[0] == RATIO
    truth = summary.estimate(original, *TRUTH) if by_ratios else None
    if truth and truth.value < INDIFFERENT:
        found.append(
            "the right answers are less likely than the wrong ones before unlearning already (truth "
            "ratio below 1), so that a low truth ratio shows nothing"
        )
    knew = summary.by_seed(original, *PROBABILITY)
    never = summary.by_seed(retrained, *PROBABILITY) if retrained else {}
    shared = [seed for seed in knew if seed in never]
    if ignorant := sum(knew[seed] <= never[seed] for seed in shared):
        found.append(
            f"`original` does not know the forget set (in {of_seeds(ignorant, len(shared))} it gives the "
            "answers no more probability than the retrained model does)"
        )
    return found


def like_retrained(summary: Summary, task: str, model: str, rows: list[Row]) -> Finding | None:
    """TOFU's criterion for all rows and `original`: the test of forget quality does not reject at 5 %."""
    if (tested := _tested(summary, task, model)) is None:
        return None
    quality, what = tested
    if doubts(summary, task, model):
        return Finding(
            f"No row is said to be like the retrained model: a KS test of the {what} means nothing where the "
            "study cannot show forgetting."
        )
    seeds = len(summary.by_seed(summary.inputs.original(task, model), *quality))
    sighted = f"The same test tells `original` from it in {of_seeds(seeds, seeds)}."
    tests = [(style.row_label(row), p) for row in rows if (p := summary.by_seed(row, *quality))]
    if not tests:
        return None  # every run diverged
    if not (parts := [f"{name} ({of_seeds(_passed(p), len(p))})" for name, p in tests if _passed(p)]):
        return Finding(
            f"In no run are the {what} of the forget set statistically like those of the retrained "
            f"model (KS p > {LEVEL}). {sighted}"
        )
    return Finding(
        f"{what.capitalize()} that a KS test cannot tell from the retrained model's (p > {LEVEL}): "
        f"{', '.join(parts)}. {sighted} Passing the test is not proof of forgetting: with few questions it "
        "has little power."
    )


def _passed(log10_p: dict[int, float]) -> int:
    return sum(value > math.log10(LEVEL) for value in log10_p.values())


def _tested(summary: Summary, task: str, model: str) -> tuple[Measure, str] | None:
    """The test of forgetting that this task has, and what it compares."""
    tests = ((RATIO_QUALITY, "truth ratios"), (LIKELIHOOD_QUALITY, "likelihoods"))
    return next((test for test in tests if summary.has(task, model, *test[0])), None)
