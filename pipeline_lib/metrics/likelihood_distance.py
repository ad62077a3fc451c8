"""How far a model's likelihoods of the forget answers are from those of `retrained`, for every task.

Source: the test of TOFU's Forget Quality (arXiv 2401.06121, section 2.2.3), on the mean token NLL of the true
answers instead of the truth ratio, which needs wrong answers that running text does not have.
Formula: per record NLL / tokens in nats; D = largest gap between the two distributions of it over the forget
records, p = p-value of the two-sided two-sample Kolmogorov-Smirnov test.
Range: D 0 to 1, log10 p below 0. Direction: lower D and higher p are better.
Traps: as Forget Quality's: p depends on the number of records, so D and n go with it, and a high p is no
proof of forgetting. It asks whether the likelihoods are those of a model that never saw the data; answers
that are less likely than under `retrained` count as distance too, as they should. Compared by distribution
and not record by record: two models that rank the records differently can still have D = 0.
"""

from __future__ import annotations

from pipeline_lib.metrics.definition import INF, Metric, at_equal_retain
from pipeline_lib.metrics.forget_quality import ks_intervals
from pipeline_lib.metrics.rows import answer_of
from pipeline_lib.metrics.statistics import Interval
from pipeline_lib.metrics.subjects import Pair


def _of_likelihoods(pair: Pair) -> tuple[Interval, Interval, Interval]:
    """The test on the mean NLL of a token, in nats."""
    unlearned, retrained = (
        [nll / tokens for nll, tokens in map(answer_of, rows)] for rows in (pair.split.rows, pair.reference)
    )
    return ks_intervals(pair, unlearned, retrained)


_SOURCE = "TOFU's test, arXiv 2401.06121, on the NLL instead of R"

DISTANCE = Metric(
    name="ks_statistic_likelihood",
    label="KS statistic D of likelihoods",
    short_label="KS D of likelihoods",
    higher_is_better=False,
    higher_is_better_on_forget=False,
    range=(0, 1),
    source=_SOURCE,
    formula="largest gap between the two distributions of NLL / tokens of the forget answers",
    trap="two alike models are about 1.2 / sqrt(n) apart; blind to what the model says instead",
    family="Likelihood and truth (TOFU)",
    of="pair",
    compute=lambda pair: pair.once(_of_likelihoods)[2],
    order=210,
)
LOG10_P = Metric(
    name="forget_quality_likelihood_log10",
    label="Forget Quality of likelihoods (log10 p)",
    short_label="Forget quality of likelihoods log10 p",
    higher_is_better=True,
    higher_is_better_on_forget=True,
    range=(-INF, 0),
    source=_SOURCE,
    formula="log10 p of the two-sample KS test between NLL / tokens under this model and under `retrained`",
    trap="shrinks with the number of records: read D and n beside it; not TOFU's Forget Quality",
    family="Likelihood and truth (TOFU)",
    decimals=1,
    of="pair",
    compute=lambda pair: pair.once(_of_likelihoods)[1],
    order=211,
)
METRICS = [
    DISTANCE,
    LOG10_P,
    at_equal_retain(DISTANCE, order=712, tables={"main": 20}),
    at_equal_retain(LOG10_P, order=713),
]
