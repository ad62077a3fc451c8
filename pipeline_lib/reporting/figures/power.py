"""What the study could have seen: the smallest difference found with 80 % power, by questions and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike
from scipy import stats

from pipeline_lib.reporting import style
from pipeline_lib.reporting.figures.panels import ATTACKS_APART, legend_below, panel_title
from pipeline_lib.reporting.headline import FRONT, RATIO_DISTANCE, Measure, axes, distance
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.paired import LEVEL, POWER, detectable_difference
from pipeline_lib.reporting.summary import Summary
from pipeline_lib.reporting.tables.comparisons import Comparison, Quantity, family

CURVE, CRITICAL = "#000000", "#999999"
KINDS: dict[str, tuple[str, str, style.LineStyle]] = {
    "first": ("#444444", "o", "-"),
    "second": ("#009E73", "s", "--"),
}  # of the panel by seeds
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")  # 0.1 and 100, not powers of ten
LARGEST = 1.0  # of a difference in a metric that is a share

CAPTION = (
    "By questions: solid, the true distance D to `retrained` that a two-sample KS test at 5 % finds in at "
    "least 80 % of studies, whatever the shapes of the distributions, for so many independent forget "
    "questions. A given shape may need less: a plain shift is found as often already near the dashed line. "
    "Questions of one group are not independent: the truth lies between the filled dot (all questions "
    "independent) and the hollow one (a group counts as one question). Coloured marks: what was measured, "
    "means over seeds. A row below the dashed line was, in the mean, not told from `retrained`; that is no "
    "proof of forgetting. By seeds: the true difference between two rows that a paired t-test over seeds "
    "claims with 80 % power after Holm's adjustment for all pairs compared. Lines: for the median spread "
    "over seeds of this study's pairs; marks: each pair with its own spread and seeds. A spread from few "
    "seeds is itself uncertain, so the marks scatter. A task without wrong answers has the distance of its "
    "likelihoods in place of that of truth ratios; one that cannot have a `retrained` has no distance."
) + ATTACKS_APART


def critical_distance(n: ArrayLike) -> np.ndarray:
    """D from which the two-sample KS test with `n` and `n` values rejects at LEVEL (asymptotic form).

    sqrt(-ln(LEVEL / 2) / 2) sqrt(2 / n)   (Smirnov 1948)
    """
    return math.sqrt(-math.log(LEVEL / 2) / 2) * np.sqrt(2 / np.asarray(n, dtype=float))


def detectable_distance(n: ArrayLike) -> np.ndarray:
    """A true D that this test finds with a probability of at least POWER, whatever the shapes; at most 1.

    Where the two distributions are farthest apart, at shares p and q with p - q = D, the measured gap is
    about normal with mean D and variance (p (1 - p) + q (1 - q)) / n, at most (1 - D^2) / (2 n), and D is no
    smaller than the gap there (the bound of Massey 1950, Ann. Math. Stat. 21, 440-443, for two samples).
    Solved for D: D - c = z sqrt((1 - D^2) / (2 n)), with the critical distance c and the normal quantile z.
    Tight where the distributions differ at one point only. With smooth ones chance has many points to lift
    D above c: a shift of a normal distribution is found with 80 % at about D = c (simulated).
    """
    c = critical_distance(n)
    k = stats.norm.ppf(POWER) ** 2 / (2 * np.asarray(n, dtype=float))
    root = np.sqrt(np.maximum(0, c**2 - (1 + k) * (c**2 - k)))
    return np.where(c < 1, np.minimum(1, (c + root) / (1 + k)), 1.0)


def draw(inputs: Inputs) -> Figure:
    """Two panels for each task and model: by questions and by seeds."""
    attacked, inputs = Summary(inputs), inputs.before_attacks()  # what is declared of them is of one family
    summary = Summary(inputs)
    figure = Figure(figsize=(2 * style.PANEL_WIDTH, 2.4 * len(inputs.studies)))
    grid = figure.subplots(len(inputs.studies), 2, squeeze=False)
    for (task, model), (left, right) in zip(inputs.studies, grid, strict=True):
        _questions(left, summary, task, model)
        _seeds(right, attacked, task, model)
        for ax, title in ((left, "By questions"), (right, "By seeds")):
            ax.set_title(panel_title(inputs, task, model, title), loc="left")
    legend_below(figure, _legend(inputs.rows))
    return figure


def _questions(ax: Axes, summary: Summary, task: str, model: str) -> None:
    if (measure := distance(summary, task, model)) is None:
        alone = summary.inputs.retrained(task, model) is None
        why = "no retrained model, no KS test" if alone else "no wrong answers, no KS test"
        ax.text(0.5, 0.5, why, transform=ax.transAxes, ha="center")
        ax.set_axis_off()
        return
    rows = [
        row for row in summary.inputs.rows_of(task, model) if not row.anchor or row.key.method != "retrained"
    ]
    measured = [(row, e) for row in rows if (e := summary.estimate(row, *measure))]
    questions = next(e.n for _, e in measured if e.n)
    groups = min(questions, summary.inputs.manifests[task]["splits"]["forget"]["groups"])
    x = np.geomspace(min(4, groups), max(1000, 2 * questions), 200)
    ax.plot(x, detectable_distance(x), color=CURVE, zorder=2)
    ax.plot(x, critical_distance(x), color=CRITICAL, linestyle="--", linewidth=1, zorder=1)
    for row, estimate in measured:
        ax.plot(
            [questions],
            [estimate.value],
            linestyle="",
            marker=style.ANCHOR_MARKS[row.key.method][1] if row.anchor else "_",
            color=style.order_colour(row),
            markersize=6 if row.anchor else 9,
            markeredgewidth=None if row.anchor else 1.3,
            zorder=3,
        )
    shown = {groups: ("white", "groups"), questions: (CURVE, "questions")}  # one mark where both are as many
    for n, (face, name) in shown.items():
        found = float(detectable_distance(n))
        ax.plot([n], [found], marker="o", color=CURVE, markerfacecolor=face, markersize=5, zorder=4)
        ax.annotate(
            f"{n} {name}: {style.number(found, 2)}",
            (n, found),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=7,
        )
    label = f"KS D{'' if measure == RATIO_DISTANCE else ' of likelihoods'} to retrained"
    ax.set(xscale="log", xlabel="Independent forget questions", ylim=(0, 1.06), ylabel=label)
    ax.xaxis.set_major_formatter(PLAIN)


@dataclass(frozen=True)
class _Pairs:
    """One quantity over all pairs of a family: seeds and spread of each pair that has a test."""

    quantity: Quantity
    seeds: list[int]
    spreads: list[float]
    comparisons: int


def _pairs(entries: Sequence[Comparison], measure: Measure | None) -> _Pairs | None:
    chosen = [e for e in entries if (e.quantity.split, e.quantity.metric) == measure]
    found = [d for entry in chosen if (d := entry.difference) and d.detectable is not None]
    if not found:
        return None
    # A detectable difference is the spread times a number that depends on seeds and comparisons alone.
    tests = chosen[0].tests
    spreads = [(d.detectable or 0) / detectable_difference(1.0, d.seeds, tests) for d in found]
    return _Pairs(chosen[0].quantity, [d.seeds for d in found], spreads, tests)


def _seeds(ax: Axes, summary: Summary, task: str, model: str) -> None:
    """Draw the right panel: what judges forgetting and utility first."""
    entries = [e for e in family(summary, task, model) if not summary.inputs.attacked(e.row)]
    forgetting, utility = axes(summary, task, model)
    first = _pairs(entries, FRONT) or _pairs(entries, forgetting)  # the quantity that decides
    found = {"first": first, "second": _pairs(entries, utility)}
    if not (drawn := {kind: pairs for kind, pairs in found.items() if pairs is not None}):
        ax.text(0.5, 0.5, "no pair of rows with a test over seeds", transform=ax.transAxes, ha="center")
        ax.set_axis_off()
        return
    most = max(10, *(2 * max(pairs.seeds) for pairs in drawn.values()))
    x = range(2, most + 1)
    lowest, highest, beyond = LARGEST, LARGEST, 0
    names: list[Artist] = []
    for kind, pairs in drawn.items():
        colour, marker, line = KINDS[kind]
        curve = [detectable_difference(median(pairs.spreads), k, pairs.comparisons) for k in x]
        own = [
            detectable_difference(spread, k, pairs.comparisons)
            for spread, k in zip(pairs.spreads, pairs.seeds, strict=True)
        ]
        ax.plot(x, curve, color=colour, linestyle=line)
        names.append(
            Line2D([], [], color=colour, marker=marker, linestyle=line, ms=3.5, label=pairs.quantity.label)
        )
        # Aside, so that the marks of both can be seen.
        places = [k + (0.12 if kind == "second" else -0.12) for k in pairs.seeds]
        ax.plot(places, own, linestyle="", marker=marker, color=colour, markersize=3.5, alpha=0.6, mew=0)
        lowest = min(lowest, *curve, *own)
        if style.is_share(pairs.quantity.metric):
            beyond += sum(value > LARGEST for value in own)
        else:
            highest = max(highest, *curve, *own)
    top = LARGEST if highest == LARGEST else 1.5 * highest
    ax.set(
        yscale="log",
        ylim=(0.7 * lowest, top),
        ylabel="Difference of two rows found",
        xlim=(1.5, most + 0.5),
        xlabel="Seeds",
    )
    ax.legend(handles=names, loc="upper right", fontsize=7)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PLAIN)
    ax.yaxis.set_minor_formatter(NullFormatter())
    if beyond:
        ax.set_title(f"above 1, no power at all: {beyond}", loc="right", fontsize=7, color="#444444")


def _legend(rows: Sequence[Row]) -> dict[str, list[Artist]]:
    def handle(label: str, **look: object) -> Line2D:
        return Line2D([], [], label=label, **look)  # type: ignore[arg-type]

    tests: list[Artist] = [
        handle("found in 80 %, any shape", color=CURVE),
        handle("KS p = 0.05", color=CRITICAL, linestyle="--", linewidth=1),
    ]
    shown = {row.key.method for row in rows if row.anchor} - {"retrained"}  # which is what D is held against
    colours = {row.group: style.order_colour(row) for row in rows if not row.anchor}
    measured: list[Artist] = [
        *(
            handle(name, color=colour, marker=marker, linestyle="", markersize=6)
            for name, (colour, marker) in style.ANCHOR_MARKS.items()
            if name in shown
        ),
        *(
            handle(style.within(name), color=colours[order], marker="_", linestyle="", markersize=9, mew=1.3)
            for order, name in style.ORDERS.items()
            if order in colours
        ),
    ]
    return {"By questions": tests, "Measured": measured}
