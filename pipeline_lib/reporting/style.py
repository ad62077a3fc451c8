"""Words, number formats, colours and markers: one look for tables, figures and the report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline_lib.core.runs import BASE
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.definition import Metric
from pipeline_lib.reporting.inputs import Row

BENCHMARK_LABELS = {
    "arc_challenge": "ARC challenge",
    "arc_easy": "ARC easy",
    "boolq": "BoolQ",
    "boolq_closed_book": "BoolQ without passage",
    "hellaswag": "HellaSwag",
    "mmlu": "MMLU",
    "mmlu_stem": "MMLU STEM",
    "mmlu_humanities": "MMLU humanities",
    "mmlu_social_sciences": "MMLU social sciences",
    "mmlu_other": "MMLU other",
    "openbookqa": "OpenBookQA",
    "piqa": "PIQA",
    "truthfulqa_mc1": "TruthfulQA MC1",
    "wikitext": "WikiText-2",
    "winogrande": "WinoGrande",
}

LineStyle = Literal["-", "--", "-.", ":"]

# Okabe and Ito's colours, told apart with any colour vision: cold = first order, warm = second order. Browns
# of ours = zeroth order.
_MARKS = {
    "ZO": [("#7A4B1E", "<"), ("#A9834F", ">"), ("#6B6B00", "d")],
    "FO": [("#0072B2", "o"), ("#56B4E9", "s"), ("#009E73", "p")],
    "SO": [("#D55E00", "^"), ("#E69F00", "D"), ("#CC79A7", "v")],
}
# Groups of rows -> headings in legends.
ORDERS = {
    "ZO": "Zeroth order",
    "FO": "First order",
    "SO": "Second order",
    "none": "Neither order",
    "anchor": "Not unlearned",
}
UNTRAINED = ("#6A51A3", "P")  # methods that take no step
ORIGINAL_COLOUR = "#000000"
RETRAINED_COLOUR = "#666666"
BASE_COLOUR = "#A0A0A0"
ANCHOR_MARKS = {
    "original": (ORIGINAL_COLOUR, "X"),
    "retrained": (RETRAINED_COLOUR, "*"),
    BASE: (BASE_COLOUR, "h"),
}
BAND = "#e9e9e9"  # where a further `retrained` would lie
# Colours that would sink into a dark page -> what they are there.
ON_DARK = {
    ORIGINAL_COLOUR: "#F2F2F2",
    RETRAINED_COLOUR: "#B8B8B8",
    UNTRAINED[0]: "#A993DB",
    BAND: "#30363D",
}
ANCHOR_LINES: dict[str, LineStyle] = {"original": ":", "retrained": "--", BASE: "-."}  # of levels

PANEL_WIDTH = 3.3  # inches: one column of a two-column paper
RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure has the same bits everywhere
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "unlearning-pipeline",
    "svg.fonttype": "path",
    "savefig.dpi": 200,
}


@dataclass(frozen=True)
class Mark:
    """How an optimiser is drawn. The colours repeat from the fourth of an order on, with hollow marks."""

    label: str
    colour: str
    marker: str
    order: str
    hollow: bool

    @property
    def face(self) -> str:
        return "white" if self.hollow else self.colour

    @property
    def line(self) -> LineStyle:
        """Lines of first and zeroth order are solid, others dashed; hollow marks get the dotted forms."""
        solid: tuple[LineStyle, LineStyle] = ("-", "-.")
        dashed: tuple[LineStyle, LineStyle] = ("--", ":")
        return (solid if self.order in ("ZO", "FO") else dashed)[self.hollow]


def marks(rows: list[Row]) -> dict[str, Mark]:
    """Name of a mark -> mark, in the order of the suite; the same in every figure of a study.

    Models after a stage have the hollow mark of the optimiser that unlearned them, or of the anchor; averages
    of models that were not unlearned have a grey one.
    """
    result: dict[str, Mark] = {}
    counts = dict.fromkeys(_MARKS, 0)
    for row in rows:
        optimizer = mark_name(row)
        if row.group == "anchor" and not row.anchor:
            look = ANCHOR_MARKS.get(row.key.method, (RETRAINED_COLOUR, UNTRAINED[1]))
            result[optimizer] = Mark(row.display, *look, order="anchor", hollow=bool(row.key.after))
        elif row.group == "none":
            several = optimizer in result and result[optimizer].label != optimizer_label(row)
            label = "without training" if several else optimizer_label(row)
            result[optimizer] = Mark(label, *UNTRAINED, order=row.order, hollow=bool(row.key.after))
        elif row.key.after and row.key.optimizer in result:
            result[optimizer] = replace(result[row.key.optimizer], label=optimizer_label(row), hollow=True)
        elif row.order in counts and optimizer not in result:
            choices = _MARKS[row.order]
            index = counts[row.order]
            result[optimizer] = Mark(
                optimizer_label(row),
                *choices[index % len(choices)],
                order=row.order,
                hollow=index >= len(choices),
            )
            counts[row.order] += 1
    return result


def mark_name(row: Row) -> str:
    """The name of a row's mark: its optimiser (its method if not unlearned), and what was done afterwards."""
    name = row.key.optimizer if row.unlearned else row.key.method
    return f"{name}/{row.key.after}" if row.key.after else name


def order_colour(row: Row) -> str:
    """One colour for all optimisers of an order."""
    if row.anchor:
        return ANCHOR_MARKS[row.key.method][0]
    colours = {order: choices[0][0] for order, choices in _MARKS.items()} | {"anchor": RETRAINED_COLOUR}
    return colours.get(row.group, UNTRAINED[0])


def optimizer_label(row: Row) -> str:
    """Name of an optimiser in a figure: the `display` of a row ("NPO + AdamW") without its method."""
    if row.order == "none":
        return row.display if row.key.after else row.key.method
    return row.display.removeprefix(row.key.method).lstrip(" +") or row.key.optimizer


def metric_label(metric: str) -> str:
    """Name of a metric for people."""
    return declared()[metric].short


def in_table(table: str) -> list[Metric]:
    """The metrics that say they stand in this table, in the order of its columns."""
    found = [metric for metric in declared().values() if table in metric.tables]
    return sorted(found, key=lambda metric: metric.tables[table])


def within(name: str) -> str:
    """A name as it stands within a sentence: ROUGE-L keeps its capitals, Probability does not."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def is_share(metric: str) -> bool:
    """Whether the metric lies between 0 and 1, as its declaration says."""
    low, high = declared()[metric].range
    return low >= 0 and high <= 1


def decimals(metric: str) -> int:
    """Digits after the point that a table gives a metric."""
    found = declared()[metric]
    if found.decimals is not None:
        return found.decimals
    low, high = found.range
    return 3 if high - low <= 2 else 2


def split_label(split: str) -> str:
    """Name of a split for people."""
    return split.replace("_", " ")


def benchmark_label(split: str) -> str:
    """Name of a standard benchmark for people."""
    return BENCHMARK_LABELS.get(split, split_label(split))


def study_label(task: str, model: str) -> str:
    """Name of one task with one model."""
    return f"{task}, {model}"


def row_label(row: Row) -> str:
    """First column of a table."""
    return row.key.method if row.anchor else row.display


def arrow(higher_is_better: bool | None) -> str:
    """Up: higher is better. Down: lower is better. Nothing: neither."""
    return {True: "↑", False: "↓", None: ""}[higher_is_better]


def signed(value: float, decimals: int = 3) -> str:
    """As `number`, with a plus sign where it is positive."""
    return f"+{number(value, decimals)}" if value > 0 else number(value, decimals)


def number(value: float, decimals: int = 3) -> str:
    """Fixed decimals, a true minus sign, no minus zero."""
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def interval(low: float | None, high: float | None, decimals: int = 3) -> str:
    """`[low, high]`, or nothing where there is no interval."""
    return "" if low is None or high is None else f"[{number(low, decimals)}, {number(high, decimals)}]"
