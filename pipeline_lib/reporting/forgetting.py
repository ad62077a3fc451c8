"""What was forgotten, and whether the study can show forgetting at all.

Forgetting is the loss of something that `original` knew and `retrained` does not. Where `original` itself is
like `retrained` (likeness.py), gives the forget answers no more probability than `retrained`, or prefers
wrong answers, nothing that happens to an unlearned model can be called forgetting.
"""

from __future__ import annotations

from pipeline_lib.core.grouping import grouped
from pipeline_lib.reporting import style
from pipeline_lib.reporting.finding import Finding, of_seeds, p_text, percent, span
from pipeline_lib.reporting.headline import JOINT_UTILITY, RATIO_QUALITY, Measure, axes
from pipeline_lib.reporting.inputs import Row
from pipeline_lib.reporting.likeness import APART, AVOIDS, CLOSE, KNOWS, LIKE, MIXED, Likeness, likeness
from pipeline_lib.reporting.paired import LEVEL
from pipeline_lib.reporting.summary import Summary

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
    before = likeness(summary, original) if retrained else None
    if before and before.p is not None and before.p >= LEVEL:
        found.append(
            f"`original` itself is not told from a further seed of the retrained model (its gap of "
            f"{style.number(before.gap)} has p = {style.number(before.p)})"
        )
    by_ratios = summary.has(task, model, *RATIO_QUALITY) or axes(summary, task, model)[0] == RATIO
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
    """Which rows lie inside the interval of further `retrained` seeds; on which side the others."""
    if summary.inputs.retrained(task, model) is None or not rows:
        return None
    if doubts(summary, task, model):
        return Finding(
            "No row is said to be like the retrained model, where the study cannot show forgetting."
        )
    judged = [(row, style.row_label(row), found) for row in rows if (found := likeness(summary, row))]
    if not judged:
        return None  # every run diverged, or no gap was measured
    scale = judged[0][2].scale
    if scale is None:
        return Finding(
            "No row is said to be like the retrained model: with one seed of it nothing says how far "
            "two such "
            "models are apart. Add `retrained_seeds`."
        )
    by_verdict = grouped(
        (found.verdict, f"{name} ({_of_gap(found)}{_kept(summary, row)})") for row, name, found in judged
    )
    parts = [
        f"{words}: {', '.join(by_verdict[verdict])}"
        for verdict, words in _VERDICTS.items()
        if verdict in by_verdict
    ]
    if LIKE not in by_verdict:
        parts.insert(0, "no row is like the retrained model")
    said = "; ".join(parts)
    between, inner, single = scale.freedom
    return Finding(
        f"Gap to the retrained model, in nats per token: {said}. The scale is that of {scale.seeds} "
        f"retrained seeds "
        f"({between}, {inner} and {single} degrees of freedom, of seeds, groups and questions); a gap of "
        f"likelihoods says "
        "nothing of what the model says instead."
    )


_VERDICTS = {
    LIKE: "like the retrained model",
    KNOWS: "still knows",
    AVOIDS: "avoids the answers, which tells that they were there",
    MIXED: "unlike it on both sides, some answers known and some avoided",
    APART: "like it on average, but single seeds told apart",
    CLOSE: "not told apart, but with so few retrained seeds little would be",
}


def _kept(summary: Summary, row: Row) -> str:
    """The joint utility of a row, as likeness without it is cheap, and seeds that diverged."""
    kept = summary.estimate(row, *JOINT_UTILITY) if summary.has(*row.key[:2], *JOINT_UTILITY) else None
    lost = len(summary.diverged(row))
    alone = f", {of_seeds(len(row.seeds) - lost, len(row.seeds))} finished" if lost else ""
    return f", joint utility {style.number(kept.value, 2)}{alone}" if kept else alone


def _of_gap(found: Likeness) -> str:
    return f"{style.number(found.gap)}, p {p_text(found.p or 0.0)}"
