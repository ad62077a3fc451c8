"""The answers first: four questions about each unlearned row, each with a word, a number and its evidence.

Nothing is judged here. The words are those of likeness.py, forgetting.py and recovered.py; what these do not
judge (joint utility, how the answers look) has its number and no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline_lib.core.runs import lost_words
from pipeline_lib.reporting import style
from pipeline_lib.reporting.finding import of_seeds, p_text, percent
from pipeline_lib.reporting.forgetting import PROBABILITY, VERBATIM, doubts
from pipeline_lib.reporting.headline import (
    GAP,
    GAP_SIGNED,
    JOINT_UTILITY,
    RECOVERY_MAX,
    RECOVERY_MAX_P,
    Measure,
    axes,
)
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.likeness import KNOWS, likeness
from pipeline_lib.reporting.recovered import attacked_rows, beyond, most_recovered
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.joint_utility import worst_part
from pipeline_lib.reporting.tables.layout import seeds_text
from pipeline_lib.reporting.tables.of_metrics import NBSP

SUITE = "suite"  # the section of the report that shows what was asked for
REPEATS = "repetition_4"
NO_MODEL = "no model"
UNKNOWN = "cannot be said: "
NO_RETRAINED = f"{UNKNOWN}no `retrained` model"
CAPTION = (
    "One card for each unlearned model, before any stage. An arrow leads from `original` to the row; "
    "brackets hold 95 % intervals: over seeds, or for a single seed over groups of questions, which says "
    "nothing about other seeds. Forgot: the gap to `retrained`, in nats per token; p is the probability "
    "that as many further `retrained` seeds have so large a gap. `retrained` itself is not at 0. Avoids: "
    "the model gives the answers less probability than one that never saw them, which tells that they were "
    "there. Stays forgotten: the largest recovery beyond `retrained` after the same attacks, adjusted for "
    "all rows and seeds (Holm). It is a level and no change: in a row that still knows it was never gone. "
    "Cost: joint utility, the least that is left of any part, where `original` has 1; the part named is the "
    "least as a mean over seeds. Collapsed: runs without a model, and how much the greedy answers repeat "
    "themselves."
)


@dataclass(frozen=True)
class Answer:
    """`number`: what the word rests on; may be empty. `shown_in`: tables that show it, or SUITE."""

    question: str
    word: str
    number: str
    shown_in: tuple[str, ...]


@dataclass(frozen=True)
class Card:
    """What may be said of one row."""

    row: Row
    seeds: str
    answers: tuple[Answer, ...]


def cards(inputs: Inputs, task: str, model: str) -> list[Card]:
    """Of every unlearned row of a study to which nothing was done afterwards, in the order of the tables."""
    summary = Summary(inputs)
    came_back = beyond(summary, attacked_rows(summary, task, model)) or {}
    found = []
    for row in inputs.rows_of(task, model):
        if not row.unlearned or row.key.after:
            continue
        seeds_back = came_back.get(row)
        answers = (
            _forgot(summary, row),
            _unattacked(summary, row) if seeds_back is None else _stays(summary, row, seeds_back),
            _cost(summary, row),
            _collapsed(summary, row),
        )
        lost = summary.lost(row)
        seeds = seeds_text(summary.finished(row), lost)
        found.append(Card(row, seeds if lost else f"{seeds} seed{'s' * (seeds != '1')}", answers))
    return found


def _forgot(summary: Summary, row: Row) -> Answer:
    """The verdict of likeness.py, or why there is none."""
    task, model = row.key[:2]

    def answer(word: str, *measures: Measure | None, shown_in: str = "main") -> Answer:
        numbers = [_change(summary, row, measure) for measure in measures if measure]
        return Answer("Forgot?", word, "; ".join(filter(None, numbers)), (shown_in,))

    if not summary.finished(row):
        return answer(NO_MODEL)
    first, _ = axes(summary, task, model)
    if summary.inputs.retrained(task, model) is None:
        said = (m for m in (PROBABILITY, *(m for m, _ in VERBATIM)) if summary.has(task, model, *m))
        return answer(NO_RETRAINED, *dict.fromkeys([next(said, None), first]))
    if doubts(summary, task, model):
        return answer(f"{UNKNOWN}this study cannot show forgetting", first)
    if (found := likeness(summary, row)) is None:
        return answer(f"{UNKNOWN}no gap was measured", first)
    told = answer(found.verdict, GAP, shown_in="likeness")
    p = "" if found.p is None else "; " + f"p {p_text(found.p)}".replace(" ", NBSP)
    return Answer(told.question, told.word, f"{told.number}{p}", told.shown_in)


def _stays(summary: Summary, row: Row, seeds: list[int]) -> Answer:
    """`seeds`: those in which the row recovers more than `retrained`."""
    judged = summary.by_seed(row, *RECOVERY_MAX_P)
    if seeds:
        known = (found := likeness(summary, row)) is not None and found.verdict == KNOWS
        word = f"{'was never gone' if known else 'comes back'} in {of_seeds(len(seeds), len(judged))}"
        number = f"Up to {most_recovered(summary, row, seeds)} beyond `retrained`"
    else:
        word = f"no attack brought it back in {of_seeds(len(judged), len(judged))} (not the same as safe)"
        number = _change(summary, row, RECOVERY_MAX, of_original=False)
    before = summary.estimate(row, *GAP_SIGNED)
    level = f"; signed gap before any attack {style.signed(before.value)}" if before else ""
    return Answer("Stays forgotten?", word, f"{number}{level}", ("robustness",))


def _unattacked(summary: Summary, row: Row) -> Answer:
    """Why nothing is said of what comes back: no attack, or none that can be held against `retrained`."""
    question, (task, model) = "Stays forgotten?", row.key[:2]
    stages = [labels for labels, rows in summary.inputs.stages(task, model).items() if row.key in rows]
    if not summary.finished(row):
        return Answer(question, NO_MODEL, "", ("main",))
    if not stages:
        return Answer(question, "not attacked", "", (SUITE,))
    if summary.inputs.retrained(task, model) is None:
        return Answer(question, NO_RETRAINED, f"Stages: {', '.join(stages)}", (SUITE,))
    if summary.by_seed(row, *RECOVERY_MAX):
        number = _change(summary, row, RECOVERY_MAX, of_original=False)
        return Answer(question, f"{UNKNOWN}too few `retrained` seeds", number, ("robustness",))
    why = f"{UNKNOWN}not held against `retrained` after the same stage"
    return Answer(question, why, f"Stages: {', '.join(stages)}", (SUITE,))


def _cost(summary: Summary, row: Row) -> Answer:
    """Joint utility, or where it was not measured the first measure of utility."""
    task, model = row.key[:2]
    if not summary.finished(row):
        return Answer("Cost?", NO_MODEL, "", ("main",))
    if (kept := summary.estimate(row, *JOINT_UTILITY)) is None:
        _, utility = axes(summary, task, model)
        number = _change(summary, row, utility) if utility else ""
        return Answer("Cost?", "joint utility was not measured", number, ("main",))
    part = worst_part(summary.inputs, row)
    number = _change(summary, row, JOINT_UTILITY, of_original=False) + (f"; least: {part}" if part else "")
    return Answer("Cost?", f"keeps {percent(kept.value)}", number, ("main", "joint_utility"))


def _collapsed(summary: Summary, row: Row) -> Answer:
    """Runs without a model, and how much the answers of the others repeat themselves."""
    task, model = row.key[:2]
    lost, seeds = summary.lost(row), len(row.seeds)
    word = f"{lost_words(lost)} in {of_seeds(len(lost), seeds)}" if lost else "no run diverged"
    signs = style.in_table("collapse")
    looked = any(summary.splits_with(task, model, sign.name) for sign in signs)
    splits = [
        s for s in ("forget", summary.retain_split(task, model)) if summary.has(task, model, s, REPEATS)
    ]
    numbers = [_change(summary, row, Measure(split, REPEATS)) for split in splits]
    evidence = [*(["main"] if lost or not looked else []), *(["collapse"] if looked else [])]
    whole = f"yes: {word}" if len(lost) == seeds else word
    return Answer("Collapsed?", whole, "; ".join(filter(None, numbers)), tuple(evidence))


def _change(summary: Summary, row: Row, measure: Measure, of_original: bool = True) -> str:
    """`Gap 2.1 → 0.3 [0.2, 0.4]`: of `original`, where that is asked, and of the row with its interval."""
    if (after := summary.estimate(row, *measure)) is None:
        return ""
    digits = style.decimals(measure.metric)
    original = summary.inputs.original(*row.key[:2])
    before = summary.estimate(original, *measure) if of_original else None
    start = f"{style.number(before.value, digits)} → " if before else ""
    bounds = style.interval(after.low, after.high, digits).replace(" ", NBSP) or f"(no interval: {after.why})"
    return f"{measure.label} {start}{style.number(after.value, digits)} {bounds}"
