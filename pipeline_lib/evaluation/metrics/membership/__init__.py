"""Membership inference: can one tell the records that were learned from others of the same kind?

Every score is oriented in one way: HIGHER = MORE LIKELY A MEMBER. (OpenUnlearning and MUSE use the opposite
sign and turn the labels round as well, so their AUC agrees with ours.) A score is made from one row of
records.jsonl: the log-probabilities of the true answer's tokens, end token included, given its prompt.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    """One score: part of its metrics' names, label, source, formula, trap ("": that of every AUC)."""

    name: str
    label: str
    source: str
    formula: str
    trap: str = ""


MIN_K_PERCENTS = (20, 40)
PRIVLEAK_ATTACK = "min_k_40"
REFERENCE_ATTACK = "reference"

ATTACKS: tuple[Attack, ...] = (
    Attack("loss", "LOSS", "Yeom et al. 2018, arXiv 1709.01604", "-NLL / tokens"),
    Attack(
        "zlib",
        "zlib",
        "Carlini et al. 2021, arXiv 2012.07805, section 5.2",
        "-(NLL / tokens) / bytes of the zlib-compressed answer",
        "the compressed length of a short answer is mostly header: for short texts it measures length",
    ),
    *(
        Attack(
            f"min_k_{percent}",
            f"Min-{percent} %",
            "Min-K% Prob, arXiv 2310.16789, eq. 1",
            f"mean of the {percent} % lowest token log-probabilities",
        )
        for percent in MIN_K_PERCENTS
    ),
    *(
        Attack(
            f"min_k_plus_plus_{percent}",
            f"Min-{percent} %++",
            "Min-K%++, arXiv 2404.02936, section 4",
            f"mean of the {percent} % lowest (log p - mean) / SD of the next-token distribution",
            "where the model is certain SD is near 0: it is held at 0.001 or more",
        )
        for percent in MIN_K_PERCENTS
    ),
    Attack(
        REFERENCE_ATTACK,
        "reference",
        "Carlini et al. 2021, arXiv 2012.07805, section 5.2; calibration of arXiv 2111.08440",
        "NLL / tokens under `retrained` minus NLL / tokens",
        "needs `retrained`, which an attacker would not have: an upper limit",
    ),
    Attack(
        "grad_norm",
        "GradNorm",
        "arXiv 2402.17012",
        "-L2 norm over all parameters of the gradient of the answer's mean NLL",
        "one backward pass a record; OpenUnlearning averages the norms of the single tensors instead",
    ),
)
