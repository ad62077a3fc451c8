"""What was forgotten, and whether the study can show forgetting at all.

Forgetting is the loss of something that `original` knew and `retrained` does not. Where `original` itself
passes the test of forgetting, gives the forget answers no more probability than `retrained`, or prefers wrong
answers, nothing that happens to an unlearned model can be called forgetting.
"""

from __future__ import annotations

import math

from pipeline_lib.reporting import style
from pipeline_lib.reporting.finding import Finding, percent
from pipeline_lib.reporting.headline import LIKELIHOOD_QUALITY, RATIO_QUALITY, Measure
from pipeline_lib.reporting.inputs import Row
from pipeline_lib.reporting.summary import Summary

LEVEL = 0.05  # of the KS test: TOFU's criterion
INDIFFERENT = 0.5  # R / (1 + R) where the right answer is as likely as the wrong ones: R = 1
PROBABILITY = Measure("forget", "probability")
TRUTH = Measure("forget", "truth_ratio_probability")
# What a model says word for word, the most telling first, in words before the numbers.
VERBATIM = (
    (Measure("forget", "extraction_rate"), "the share of the forget texts of which a long run is recited"),
    (Measure("forget", "rouge_l_recall"), "the share of the forget answers' words that the model says"),
)


def what_was_forgotten(summary: Summary, task: str, model: str, rows: list[Row]) -> Finding | None:
    """The first finding: verbatim before and after, how much of it is gone, and what forbids to say so."""
    blind = doubts(summary, task, model)
    said = _verbatim(summary, task, model, rows)
    if said is None and not blind:
        return None
    parts = [f"What was forgotten: {said}"] if said else []
    parts += [f"This study cannot show forgetting: {'; '.join(blind)}."] if blind else []
    return Finding(" ".join(parts))


def _verbatim(summary: Summary, task: str, model: str, rows: list[Row]) -> str | None:
    """One number before unlearning, in the retrained model and after, and the share that is gone."""
    measured = [(m, words) for m, words in VERBATIM if summary.has(task, model, *m)]
    taught = summary.inputs.manifests.get(task, {}).get("finetune", {}).get("target")
    if not taught:  # a base model's own answers are no copies of the forget set
        measured = [(m, words) for m, words in measured if m.metric == "extraction_rate"]
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
    said = f"{words} is {percent(before.value)} before unlearning{there}; after unlearning {_span(after)}."
    floor = level.value if level else 0.0
    if before.value <= floor:
        return said
    gone = [((before.value - value) / (before.value - floor), name) for value, name in after]
    of = "what the retrained model does not say" if level else "it"
    over = " More than 100 % is less than a model that never saw the data says." if level else ""
    return f"{said} Of {of}, {_span(gone)} is gone.{over if max(gone)[0] > 1 else ''}"


def _span(values: list[tuple[float, str]]) -> str:
    low, high = (f"{percent(value)} ({name})" for value, name in (min(values), max(values)))
    return low if len(values) == 1 else f"{low} to {high}"


def doubts(summary: Summary, task: str, model: str) -> list[str]:
    """Why no row of this study can be said to forget; empty where `original` knows what `retrained` does not.

    Without `retrained` nothing says what a model that never saw the data would know.
    """
    original, retrained = summary.inputs.original(task, model), summary.inputs.retrained(task, model)
    if retrained is None:
        return []
    found = []
    if tested := _tested(summary, task, model):
        quality, what = tested
        p = summary.by_seed(original, *quality)
        if passed := _passed(p):
            found.append(
                f"`original` itself passes the test (in {passed} of {len(p)} seeds its {what} are not told "
                f"from those of the retrained model, KS p > {LEVEL})"
            )
        truth = summary.estimate(original, *TRUTH) if quality == RATIO_QUALITY else None
        if truth and truth.value < INDIFFERENT:
            found.append(
                "the right answers are less likely than the wrong ones before unlearning already (truth "
                "ratio below 1), so that a low truth ratio shows nothing"
            )
    knew, never = summary.by_seed(original, *PROBABILITY), summary.by_seed(retrained, *PROBABILITY)
    shared = [seed for seed in knew if seed in never]
    if ignorant := sum(knew[seed] <= never[seed] for seed in shared):
        found.append(
            f"`original` does not know the forget set (in {ignorant} of {len(shared)} seeds it gives the "
            "answers no more probability than the retrained model does)"
        )
    return found


def like_retrained(summary: Summary, task: str, model: str, rows: list[Row]) -> Finding | None:
    """TOFU's criterion, of every row and of `original`: the test of forget quality does not reject at 5 %."""
    tested = _tested(summary, task, model)
    if tested is None:
        return None
    quality, what = tested
    if doubts(summary, task, model):
        return Finding(
            f"No row is said to be like the retrained model: a KS test of the {what} means nothing where the "
            "study cannot show forgetting."
        )
    p_original = summary.by_seed(summary.inputs.original(task, model), *quality)
    sighted = f"The same test tells `original` from it in {len(p_original)} of {len(p_original)} seeds."
    parts = []
    for row in rows:
        p = summary.by_seed(row, *quality)
        if passed := _passed(p):
            parts.append(f"{style.row_label(row)} ({passed} of {len(row.seeds)} seeds)")
    if not parts:
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
    for quality, what in ((RATIO_QUALITY, "truth ratios"), (LIKELIHOOD_QUALITY, "likelihoods")):
        if summary.has(task, model, *quality):
            return quality, what
    return None
