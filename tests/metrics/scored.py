"""The metrics of rows, without what was not measured."""

from __future__ import annotations

from typing import Any

from pipeline_lib.metrics.scores import score_all


def score_run(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
    """The `metrics` list of metrics.json for one model; arguments as of `score_all`."""
    return score_all(*args, **kwargs)[0]
