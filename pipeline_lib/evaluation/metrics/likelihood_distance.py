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

from collections.abc import Iterable


def token_nlls(answers: Iterable[tuple[float, int]]) -> list[float]:
    """Mean NLL of a token, in nats, from summed NLL and number of tokens."""
    return [nll / tokens for nll, tokens in answers]
