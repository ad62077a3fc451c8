"""How far a study is, from its files alone: nothing is written or asked for. Never imports torch."""

from __future__ import annotations

from pipeline_lib.operations.status.ending import ending_text
from pipeline_lib.operations.status.report import Report, report_of
from pipeline_lib.operations.status.text import as_values, status_text

__all__ = ["Report", "as_values", "ending_text", "report_of", "status_text"]
