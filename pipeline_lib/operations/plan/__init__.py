"""The needs of a study before it runs: memory, time, and what will not fit. Never imports torch."""

from __future__ import annotations

from pipeline_lib.operations.plan.access import check_access
from pipeline_lib.operations.plan.context import context_faults
from pipeline_lib.operations.plan.inputs import check_inputs, pairs_of_targets
from pipeline_lib.operations.plan.other_study import check_same_study, check_unchanged
from pipeline_lib.operations.plan.power import sign_flips
from pipeline_lib.operations.plan.table import check_fits, finished, groups_of, plan_text

__all__ = [
    "check_access",
    "check_fits",
    "check_inputs",
    "check_same_study",
    "check_unchanged",
    "context_faults",
    "finished",
    "groups_of",
    "pairs_of_targets",
    "plan_text",
    "sign_flips",
]
