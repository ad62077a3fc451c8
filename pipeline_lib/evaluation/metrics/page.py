"""docs/metrics.md, printed from the metric tables.

`python -m pipeline_lib.evaluation.metrics.page > docs/metrics.md` brings the page up to date.
"""

from __future__ import annotations

import sys

from pipeline_lib.evaluation.metrics.definition import Metric
from pipeline_lib.evaluation.metrics.tables import FAMILIES

_INTRODUCTION = """\
# Metrics

Every number of metrics.csv by name. The page is printed from `pipeline_lib/evaluation/metrics/tables/` (a
test keeps it in step); the file of each metric beside that folder has the whole definition. NLL = summed
negative log-likelihood of an answer in nats, end token included. Likelihoods are teacher forced and in fp32;
answers are greedy.

Running text (passages of a book, web documents) has no end token. Its answer is the rest of the passage after
the prompt; the greedy continuation is as many tokens long as that, or `max_new_tokens` if that is fewer, and
is compared with the true continuation cut to as many tokens. Whether it ended is not judged, and there is no
truth ratio without wrong answers.

Better: ↑ higher, ↓ lower, · neither; what is said for `forget` holds on the forget split.
Intervals are 95 %, by bootstrap over groups (members and non-members independently of each other). A number
from a search and those of the released protocol that mix up their rows have none.
"""


def render() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for family, metrics in FAMILIES.items():
        parts.append(
            f"## {family}\n\n"
            "| name | label | better | range | formula | source | trap |\n"
            "|---|---|---|---|---|---|---|\n" + "".join(map(_line, metrics))
        )
    return "\n".join(parts)


def _line(metric: Metric) -> str:
    low, high = metric.range
    cells = (
        f"`{metric.name}`",
        metric.label,
        _arrows(metric),
        f"{low:g} to {high:g}",
        metric.formula,
        metric.source,
        metric.trap,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _arrows(metric: Metric) -> str:
    arrows = {True: "↑", False: "↓", None: "·"}
    general, forget = arrows[metric.higher_is_better], arrows[metric.higher_is_better_on_forget]
    return general if general == forget else f"{general}, forget {forget}"


if __name__ == "__main__":
    sys.stdout.write(render())
