"""Is a row like `retrained`? Its mean gap against that of as many further `retrained` seeds.

A row is like `retrained` where so large a mean gap, or a larger one, has a probability of at least 5 % for as
many further seeds of `retrained` as the row has (metrics/further_seed.py). A test that rejects little would
call everything alike, so the row is called that only where the study could have told it: where the gap that
such seeds stay below with 95 % is at most a quarter of the gap of `original`. A mean hides single seeds: one
that by itself is told from `retrained` at 5 % over the number of the row's seeds (Bonferroni) makes the row
like it on average only. An unlike row still knows, or
avoids, where the signed gap is at least half of the gap in each of its runs that alone are told apart; else
it is unlike on both sides. With fewer than two `retrained` seeds nothing is calibrated.
The test is lenient: at a nominal 5 % it rejects under 1 % of real held-out `retrained` models
(docs/inference.md), because one variance for all questions does not fit them. Where not rejecting is the
claim that is no merit: read "like" as "within the limit", which is printed.
Of `base` nothing is said: it learned neither what is to be forgotten nor what is to be kept. Nor of a row
`matched`: its runs end where `retrained` is nearest, so that the test would find what was chosen. Nor of one
after an attack: it is held against `retrained` after the same attack (tables/robustness.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from pipeline_lib.core.runs import BASE, MATCHED
from pipeline_lib.metrics.further_seed import FurtherSeed
from pipeline_lib.reporting.headline import GAP, GAP_SIGNED
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.paired import LEVEL
from pipeline_lib.reporting.summary import Summary

TELLS = 0.25  # of the gap of `original`: the limit must not be above it

LIKE, KNOWS, AVOIDS = "like `retrained`", "still knows", "avoids"
MIXED = "unlike, on both sides"
APART = "like it on average, single seeds told apart"
CLOSE = "too few `retrained` seeds to tell"
UNCALIBRATED = "not calibrated: one `retrained`"
CHOSEN = "not judged: ends where `retrained` is nearest"
ATTACKED = "not judged: see the table of robustness"


@dataclass(frozen=True)
class Likeness:
    """What may be said of a row. `inside`: seeds that alone are not told from `retrained`; `p`, `limit`: of
    the row.

    Without two `retrained` seeds there is no `scale`, and neither `p` nor `limit` nor `inside`.
    """

    gap: float
    signed: float
    seeds: int
    scale: FurtherSeed | None = None
    p: float | None = None
    limit: float | None = None
    inside: int | None = None
    verdict: str = UNCALIBRATED


def scale_of(inputs: Inputs, task: str, model: str) -> FurtherSeed | None:
    """What the `retrained` seeds of a study say about a further one; None with fewer than two."""
    original = inputs.original(task, model)
    found = [
        inputs.studied[key] for seed in original.seeds if (key := original.key.seeded(seed)) in inputs.studied
    ]
    return found[0].further_seed() if found and len(found[0].retrained) > 1 else None


def likeness(summary: Summary, row: Row) -> Likeness | None:
    """None where no seed has a gap: all diverged, or a `retrained` without a second one."""
    task, model = row.key[:2]
    gaps, signed = (summary.by_seed(row, *measure) for measure in (GAP, GAP_SIGNED))
    if not gaps:
        return None
    gap, sign, runs = fmean(gaps.values()), fmean(signed.values()), len(gaps)
    scale = scale_of(summary.inputs, task, model)
    unjudged, chosen = row.anchor and row.key.method != "original", row.key.after == MATCHED
    attacked = summary.inputs.attacked(row)
    if scale is None or unjudged or chosen or attacked:
        bare = row.anchor and row.key.method == BASE
        said = CHOSEN if chosen else ATTACKED if attacked else "" if scale or bare else UNCALIBRATED
        return Likeness(gap, sign, runs, scale, verdict=said)
    p, limit = scale.p_value(gap, runs), scale.limit(runs)
    inside = sum(scale.p_value(one) >= LEVEL for one in gaps.values())
    if p < LEVEL:
        sides = {_side(gaps[seed], signed[seed]) for seed in gaps if scale.p_value(gaps[seed]) < LEVEL}
        verdict = sides.pop() if len(sides) == 1 else MIXED
    else:
        alone = min(map(scale.p_value, gaps.values())) >= LEVEL / runs
        told = limit <= TELLS * _memory(summary, task, model)
        verdict = APART if not alone else LIKE if told else CLOSE
    return Likeness(gap, sign, runs, scale, p, limit, inside, verdict)


def _side(gap: float, signed: float) -> str:
    """On which side of `retrained` most of a gap lies."""
    return MIXED if abs(signed) < gap / 2 else KNOWS if signed > 0 else AVOIDS


def _memory(summary: Summary, task: str, model: str) -> float:
    """The gap of `original`: what there was to forget."""
    return fmean(summary.by_seed(summary.inputs.original(task, model), *GAP).values())
