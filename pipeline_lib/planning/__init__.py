"""What a study will need before any of it runs: memory, time and what will not fit. Never imports torch."""

from __future__ import annotations

from pipeline_lib.planning.access import check_access
from pipeline_lib.planning.context import check_context, context_faults
from pipeline_lib.planning.local_files import check_files
from pipeline_lib.planning.table import check_fits, finished, groups_of, plan_text

__all__ = [
    "check_access",
    "check_context",
    "check_files",
    "check_fits",
    "context_faults",
    "finished",
    "groups_of",
    "plan_text",
]
