"""One table a family of metrics; docs/metrics.md shows them in this order."""

from __future__ import annotations

from pipeline_lib.evaluation.metrics.definition import Metric
from pipeline_lib.evaluation.metrics.tables.answers import ANSWERS
from pipeline_lib.evaluation.metrics.tables.as_released import RELEASED
from pipeline_lib.evaluation.metrics.tables.collapse import COLLAPSE
from pipeline_lib.evaluation.metrics.tables.external import BENCHMARKS, TOXICITY
from pipeline_lib.evaluation.metrics.tables.membership import MEMBERSHIP
from pipeline_lib.evaluation.metrics.tables.sampled import SAMPLED
from pipeline_lib.evaluation.metrics.tables.tofu import EQUAL_RETENTION, TOFU

FAMILIES: dict[str, tuple[Metric, ...]] = {
    "Likelihood and truth (TOFU)": TOFU,
    "Wording and memorisation": ANSWERS,
    "At equal retention": EQUAL_RETENTION,
    "Signs of collapse": COLLAPSE,
    "Membership inference": MEMBERSHIP,
    "Sampled answers": SAMPLED,
    "Toxicity": TOXICITY,
    "Benchmarks": BENCHMARKS,
    "As released by the paper": RELEASED,
}
