"""The logit lens: does a layer before the last one still show the answer?

Source: nostalgebraist 2020, "interpreting GPT: the logit lens" (lesswrong.com); for unlearning, Patil et al.
2023, arXiv 2309.17410 (what is deleted from the output is read in layers before it). The maximum over layers,
and its calibration, are this project's.
Formulas: lens[l] = log p(answer) in nats per token where the state of layer l goes through the final norm and
the output embedding (engine/inside.py); largest = max of lens over all layers looked into but the last, which
is the output. lens_log_probability = mean over questions of largest; lens_knowledge = the same less the
largest of `retrained`. A maximum over layers is above any one layer's value by chance alone; `retrained`
takes the same maximum, so that this cancels.
Range: lens_log_probability up to 0. Direction: neither; lens_knowledge is 0 for a model like `retrained`;
above, a layer still shows the answer; below, the layers avoid it.
Needs: for lens_knowledge `retrained`.
Traps: early layers do not speak the language of the output embedding, so that the lens sees little there
whatever they know (Belrose et al. 2023, arXiv 2303.08112, whose tuned lens learns a translation): a low value
is no proof of absence. Unlearning may turn that language alone: read depth_score beside it. The lens compares
models with one tokenizer only. The depth score's authors read all models through `original`'s norm and head;
here each model has its own, since that is what whoever holds the model would do.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline_lib.metrics.definition import INF, Metric
from pipeline_lib.metrics.rows import Row


def largest(lens: list[float]) -> float:
    """The largest of the log-probabilities (L,) that layers show, without the last layer's."""
    return max(lens[:-1])


def _above_retrained(row: Row) -> float:
    return largest(row["lens"]) - largest(row["lens_of_retrained"])


_LENS = Metric(
    name="lens_log_probability",
    label="Largest log-probability of the logit lens",
    short_label="Lens",
    higher_is_better=None,
    higher_is_better_on_forget=None,
    range=(-INF, 0),
    source="nostalgebraist 2020; the maximum is this project's",
    formula="mean over questions of the largest log p(answer), nats per token, that a layer before the last "
    "shows through the final norm and the output embedding",
    trap="a maximum, so it is inflated: hold it against `retrained`'s",
    family="Inside the model",
    tables={"inside": 10},
    decimals=3,
    on="inside",
    compute=lambda row: largest(row["lens"]),
    order=802,
    only_with=("inside",),
)
METRICS = [
    _LENS,
    replace(
        _LENS,
        name="lens_knowledge",
        label="Logit lens against `retrained`",
        short_label="Lens, above `retrained`",
        range=(-INF, INF),
        formula="mean over questions of that value less the same of `retrained`",
        trap="0 is like `retrained`, below 0 is avoidance; a low value is no proof of absence: early layers "
        "do not speak the output's language",
        tables={"inside": 20},
        fields=("lens_of_retrained",),
        compute=_above_retrained,
        order=803,
        compares=True,
    ),
]
