"""docs/metrics.md, printed from the metrics' declarations.

`python -m pipeline_lib.metrics.page > docs/metrics.md` brings the page up to date.
"""

from __future__ import annotations

import sys
from itertools import chain

from pipeline_lib.core.grouping import grouped
from pipeline_lib.metrics import by_module
from pipeline_lib.metrics.definition import Metric

_INTRODUCTION = """\
# Metrics

Every number of metrics.csv by name. The page is printed from the declarations in `pipeline_lib/metrics/` (a
test keeps it in step); the file of each metric there has the whole definition. NLL = summed negative
log-likelihood of an answer in nats, end token included. Likelihoods are teacher forced and in fp32; answers
are greedy.

Running text (passages of a book, web documents) has no end token. Its answer is the rest of the passage after
the prompt; the greedy continuation is as many tokens long as that, or `max_new_tokens` if that is fewer, and
is compared with the true continuation cut to as many tokens. Whether it ended is not judged, and there is no
truth ratio without wrong answers.

Better: ↑ higher, ↓ lower, · neither; what is said for `forget` holds on the forget split.
Needs: what must be true of the records. Where it is not, the metric is not measured, for these records or for
the split: `not_measured` in metrics.json says of which and why, and the tables say what it needs.
Tables: those of the report that have a column for it; every metric stands in metrics.csv.
(w): the metric compares or counts words of the true answer.

Words of ROUGE follow from the script of the true answer, so that the answers of all models to it are on one
scale. All its letters and digits are ASCII: rouge-score's own words (a-z and 0-9, stemmed), so that numbers
of English texts are those of other projects. Any others: words of Unicode (ASCII ones stemmed as before),
each character of scripts without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese); symbols
alone: each character. Where fewer than one in five answers of a split hold a Latin letter with an accent
(names in English), they keep rouge-score's words. `unicode_answers` counts the answers of the latter two
kinds, and a split may hold all kinds: the Unicode words of an ASCII text are rouge-score's, so that they
share a scale. What is counted by words elsewhere (repetition, unknown words, longest match, extraction rate,
refusals, empty answers) has the words of `pipeline_lib/metrics/words.py`, the same for every text.

Intervals are 95 %, by bootstrap over groups (members and non-members independently of each other). There is
none where nothing varies over the resamples: one record, one group, or the same value in all of them; and
none of a number from a search, of counts of the data, or of the released protocol's numbers that mix up their
rows.
"""


def render() -> str:
    """The whole page."""
    families = grouped((metric.family, metric) for metric in chain(*by_module().values()))
    sections = (
        f"## {family}\n\n"
        "| name | label | better | range | formula | source | needs | trap | tables |\n"
        "|---|---|---|---|---|---|---|---|---|\n" + "".join(map(_line, metrics))
        for family, metrics in families.items()
    )
    return "\n".join([_INTRODUCTION, *sections])


def _line(metric: Metric) -> str:
    low, high = metric.range
    cells = (
        f"`{metric.name}`",
        metric.label,
        _arrows(metric),
        f"{low:g} to {high:g}",
        metric.formula,
        metric.source,
        "; ".join(need.text for need in metric.needs),
        metric.trap,
        ", ".join(metric.tables) + (" (w)" if metric.by_words else ""),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _arrows(metric: Metric) -> str:
    arrows = {True: "↑", False: "↓", None: "·"}
    general, forget = arrows[metric.higher_is_better], arrows[metric.higher_is_better_on_forget]
    return general if general == forget else f"{general}, forget {forget}"


if __name__ == "__main__":
    sys.stdout.write(render())
