"""Sentences for the report, worked out from the numbers.

Nothing is claimed without a test that supports it, adjusted for all the tests that were made.
"""

from __future__ import annotations

from functools import partial

from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import LOST
from pipeline_lib.reporting import style
from pipeline_lib.reporting.finding import Finding, of_seeds, p_text, percent, span, with_interval
from pipeline_lib.reporting.forgetting import doubts, like_retrained, what_was_forgotten
from pipeline_lib.reporting.headline import LIKELIHOOD_DISTANCE, RATIO_DISTANCE, Measure, axes
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.recovered import recovered
from pipeline_lib.reporting.summary import Summary, cost_estimate, relative_time_estimate
from pipeline_lib.reporting.tables.comparisons import Comparison, family
from pipeline_lib.reporting.tables.mixed_effects import Wider, wider

ATTACK = "mia_loss_auc"
HELD_OUT = Measure("holdout", "probability")
BROKEN = 0.5  # of the held-out records' probability before unlearning
SHARES = (  # (split, metric, words before the numbers), each where the task has it
    (
        "unseen",
        "extraction_rate",
        "Share of the texts that unlearning never saw of which a long run is recited",
    ),
    ("forget", "safe_preference", "Share of the prompts to which the safe answer is the likelier one"),
    ("unseen", "safe_preference", "The same for prompts that unlearning never saw"),
    ("toxicity", "mean_toxicity", "Mean toxicity score of the answers (100 %: as toxic as can be)"),
)
HIGH_CLIPPING = 0.9  # above it nearly every coordinate moves by the same amount, as in Signum


def findings(inputs: Inputs, task: str, model: str) -> list[Finding]:
    """What may be said about one task and model."""
    summary = Summary(inputs)
    beside_anchors = [row for row in inputs.rows_of(task, model) if not row.anchor]
    rows = [row for row in beside_anchors if row.unlearned and not inputs.attacked(row)]
    compared = family(summary, task, model)
    said = [
        what_was_forgotten(summary, task, model, rows),
        _anchors(summary, task, model),
        like_retrained(summary, task, model, rows),
        *(_share(summary, task, model, rows, *share) for share in SHARES),
        _membership(summary, task, model, rows),
        *_comparisons(compared, wider(summary, compared)),
        recovered(summary, task, model),
        _diverged(summary, beside_anchors),
        _clipping(inputs, rows),
        _time(inputs, rows),
    ]
    return [finding for finding in said if finding is not None]


def _anchors(summary: Summary, task: str, model: str) -> Finding | None:
    """Where unlearning starts, and where it should end."""
    forgetting, utility = axes(summary, task, model)
    if forgetting is None or utility is None:
        return None
    original, retrained = summary.inputs.original(task, model), summary.inputs.retrained(task, model)
    before, kept = summary.estimate(original, *forgetting), summary.estimate(original, *utility)
    if not (before and kept):
        return None
    less = " (lower is better)" if kept.higher_is_better is False else ""
    said = (
        f"Before unlearning, {_named(forgetting)} is {with_interval(before)} and {_named(utility)} "
        f"{with_interval(kept)}{less}"
    )
    if retrained is None and doubts(summary, task, model):
        return Finding(f"{said}.")
    if retrained is None:
        way = {True: " up", False: " down", None: ""}[before.higher_is_better]
        return Finding(
            f"{said}. There is no model that never saw the data, so that nothing says how far "
            f"{_named(forgetting)} should go: a method works when it moves it{way} and keeps utility."
        )
    aim, rest = summary.estimate(retrained, *forgetting), summary.estimate(retrained, *utility)
    level = f"{_named(forgetting)} is {with_interval(aim)} and " if aim and not _distant(forgetting) else ""
    there = f"; with the retrained model, {level}{_named(utility)} is {with_interval(rest)}" if rest else ""
    if doubts(summary, task, model):  # then nothing that a method does to the first number is forgetting
        return Finding(f"{said}{there}.")
    goal = "D towards 0" if _distant(forgetting) else "the one to the level of the retrained model"
    return Finding(f"{said}{there}. A method works when it brings {goal} and keeps utility.")


def _distant(measure: Measure) -> bool:
    return measure in (RATIO_DISTANCE, LIKELIHOOD_DISTANCE)


def _named(measure: Measure) -> str:
    if _distant(measure):
        of = " of likelihoods" if measure == LIKELIHOOD_DISTANCE else ""
        return f"KS D{of} to the retrained model"
    return measure.named


def _share(
    summary: Summary, task: str, model: str, rows: list[Row], split: str, metric: str, said: str
) -> Finding | None:
    """One number of the task before unlearning, in the retrained model, and after."""
    before = summary.estimate(summary.inputs.original(task, model), split, metric)
    found = [(e.value, style.row_label(row)) for row in rows if (e := summary.estimate(row, split, metric))]
    if not (before and found):
        return None
    retrained = summary.inputs.retrained(task, model)
    level = summary.estimate(retrained, split, metric) if retrained else None
    there = f", {percent(level.value)} in the retrained model" if level else ""
    return Finding(
        f"{said}: {percent(before.value)} before unlearning{there}; after unlearning {span(found)}."
    )


def _membership(summary: Summary, task: str, model: str, rows: list[Row]) -> Finding | None:
    """What likelihoods still give away, beside the truth ratios."""
    retrained = summary.inputs.retrained(task, model)
    before = summary.estimate(summary.inputs.original(task, model), "forget", ATTACK)
    after = summary.estimate(retrained, "forget", ATTACK) if retrained else None
    found = [
        (e.value, style.row_label(row)) for row in rows if (e := summary.estimate(row, "forget", ATTACK))
    ]
    if not (before and found):
        return None
    two_digits = partial(style.number, decimals=2)
    level = f" and {two_digits(after.value)} in the retrained model" if after else ""
    shows = (
        "What is far from the retrained model's, on either side, shows that the records were there."
        if after
        else "Without a retrained model nothing says what it would be had the records never been there: 0.5 "
        "only where the two sets are alike."
    )
    broken = _broken_holdout(summary, task, model, rows)
    moved = (
        " It says nothing of rows that made the held-out records, which nobody asked to unlearn, less than "
        f"half as likely as before: {', '.join(broken)}."
        if broken
        else ""
    )
    return Finding(
        f"Membership inference by loss tells the forget set from held-out records with an AUC of "
        f"{two_digits(before.value)} before unlearning{level}; after unlearning {span(found, two_digits)}. "
        f"{shows}{moved}"
    )


def _broken_holdout(summary: Summary, task: str, model: str, rows: list[Row]) -> list[str]:
    """Rows that damaged the non-members: an AUC compares two sets, and there both have moved."""
    before = summary.estimate(summary.inputs.original(task, model), *HELD_OUT)
    after = [(row, summary.estimate(row, *HELD_OUT)) for row in rows]
    return [style.row_label(row) for row, e in after if before and e and e.value < BROKEN * before.value]


def _comparisons(entries: list[Comparison], further: list[Wider]) -> list[Finding]:
    """For each declared question, or else each method: what differences can be claimed, or that none can."""
    of_further_groups = {one.entry: one.p_holm for one in further}
    by_topic = grouped(
        (entry.question or f"{entry.row.key.method}, second order against first order:", entry)
        for entry in entries
    )
    found = []
    for topic, members in by_topic.items():
        by_pair = grouped((entry.pair, entry) for entry in members)
        cases = [
            f"{style.row_label(row)} against {style.row_label(against)}: {', '.join(claims)}."
            for (row, against), quantities in by_pair.items()
            if (claims := [_claim(e, of_further_groups.get(e)) for e in quantities if e.claimed])
        ]
        if cases:
            note = "" if len(cases) == len(by_pair) else " For the other pairs no difference can be claimed."
            pairs = f"{len(cases)} of {len(by_pair)} pairs of rows"
            found.append(Finding(f"{topic} A difference can be claimed in {pairs}.{note}", tuple(cases)))
        else:
            found.append(Finding(f"{topic} No difference can be claimed. {_could_detect(members)}"))
    return found


def _claim(entry: Comparison, further: float | None) -> str:
    """`further`: Holm's p for further forget groups."""
    d = entry.difference
    assert d is not None and d.p_holm is not None
    of_more = "" if further is None else f", for further groups {p_text(further)}"
    return (
        f"{entry.verdict} (difference in {entry.quantity.label} {style.number(d.value)}, Holm's p "
        f"{p_text(d.p_holm)}{of_more})"
    )


def _could_detect(members: list[Comparison]) -> str:
    """The differences that these seeds could have shown, so that "no difference" is not read as "the same".

    "Or more": in some pairs no difference within the quantity's range could have been shown.
    """
    sizes = grouped(
        (entry.quantity.label, entry.detectable)
        for entry in members
        if entry.difference and entry.difference.detectable is not None
    )
    if not sizes:
        return "No test was possible: too few seeds, or the same difference in each."
    parts = []
    for label, sought in sizes.items():
        if not (found := [size for size in sought if size is not None]):
            parts.append(f"{label} none that is possible")
            continue
        low, high = style.number(min(found)), style.number(max(found))
        most = f"{low} or more" if len(found) < len(sought) else low if low == high else f"{low} to {high}"
        parts.append(f"{label} {most}")
    return (
        f"What these seeds could have shown with a probability of 80 %, a difference in: {'; '.join(parts)}."
    )


def _diverged(summary: Summary, rows: list[Row]) -> Finding | None:
    parts = grouped(
        (
            words[:1].upper() + words[1:],
            f"{style.row_label(row)} ({of_seeds(len(steps), len(row.seeds))}, step {', '.join(steps)})",
        )
        for status, words in LOST.items()
        for row in rows
        if (steps := _lost_at(summary, row, status))
    )
    found = [f"{why}, and left out of the means: {', '.join(of)}." for why, of in parts.items()]
    return Finding(" ".join(found)) if found else None


def _lost_at(summary: Summary, row: Row, status: str) -> list[str]:
    """The steps at which runs of a row ended with this status."""
    ends = zip(summary.diverged(row).values(), summary.lost(row), strict=True)
    return [str(step) for step, found in ends if found == status]


def _clipping(inputs: Inputs, rows: list[Row]) -> Finding | None:
    shares = [(row, e) for row in rows if (e := cost_estimate(inputs, row, "clipped_share"))]
    if not shares:
        return None
    listed = ", ".join(f"{style.row_label(row)} {100 * e.value:.0f} %" for row, e in shares)
    high = any(e.value > HIGH_CLIPPING for _, e in shares)
    note = (
        " Above 90 % a row is second order by name only: it moves like the sign of momentum (Signum)."
        if high
        else ""
    )
    return Finding(f"Share of coordinates at the limit of the second-order update: {listed}.{note}")


def _time(inputs: Inputs, rows: list[Row]) -> Finding | None:
    """Only with an interval over seeds: one timing is no finding. The cost table has all timings."""
    timed = [(e, row) for row in rows if row.order == "SO" and (e := relative_time_estimate(inputs, row))]
    found = [
        f"{style.row_label(row)} {style.number(e.value, 2)} {style.interval(e.low, e.high, 2)}"
        for e, row in timed
        if e.low is not None
    ]
    if not found:
        return None
    return Finding(
        "Training time over AdamW's with the same method and seed (mean and 95 % interval over seeds, which "
        f"holds what else the machine did): {', '.join(found)}."
    )
