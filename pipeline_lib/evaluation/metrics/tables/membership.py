"""Every attack's AUC, TPR at 1 % FPR and distance from `retrained`; PrivLeak."""

from __future__ import annotations

from pipeline_lib.evaluation.metrics.definition import INF, Metric
from pipeline_lib.evaluation.metrics.membership import ATTACKS, Attack
from pipeline_lib.evaluation.metrics.needs import NONMEMBERS, RETRAINED_ERRS

_AUC = "0.5 is chance; far below 0.5 is a trace too: judge the gap to `retrained`"
_TPR = "near the lowest rate that the number of non-members can show: coarse"
_GAP = "needs `retrained`; resampling noise makes the interval lie above 0"


def _metrics_of(attack: Attack) -> tuple[Metric, ...]:
    name, label = f"mia_{attack.name}", f"MIA {attack.label}"
    return (
        Metric(
            f"{name}_auc",
            f"{label}: AUC",
            None,
            None,
            (0, 1),
            attack.source,
            f"P(score of a member > of a non-member) + half of the ties; score = {attack.formula}",
            attack.trap or _AUC,
        ),
        Metric(
            f"{name}_tpr_at_1_fpr",
            f"{label}: TPR at 1 % FPR",
            False,
            False,
            (0, 1),
            f"{attack.source}; Carlini et al. 2022, arXiv 2112.03570",
            "share of members above the lowest threshold that at most 1 % of the non-members reach",
            _TPR,
            needs=(NONMEMBERS,),
        ),
        Metric(
            f"{name}_auc_gap",
            f"{label}: AUC gap to retrained",
            False,
            False,
            (0, 1),
            f"{attack.source}; compared with `retrained` as in MUSE, arXiv 2407.06460",
            "|AUC - AUC of `retrained`| on the same records",
            _GAP,
        ),
    )


MEMBERSHIP: tuple[Metric, ...] = (
    *(metric for attack in ATTACKS for metric in _metrics_of(attack)),
    Metric(
        "privleak",
        "PrivLeak",
        None,
        None,
        (-100, INF),
        "MUSE, arXiv 2407.06460, its third criterion (no privacy leakage)",
        "100 (A - A_retrained) / A_retrained with A = 1 - AUC of Min-40 %",
        "0 is ideal, below it members still show, above they hide too well; huge for small A_retrained",
        needs=(RETRAINED_ERRS,),
    ),
)
