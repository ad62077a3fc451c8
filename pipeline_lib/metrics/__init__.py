"""The metrics of the field as pure functions, one idea a file, each declared beside its function.

A new metric is one file here and nothing else: its list `METRICS` of `Metric` (definition.py) is found, so
that it is computed (scores.py) and stands in docs/metrics.md (page.py) and in the tables that it names.
Nothing here imports torch, and no file imports a heavy package before a number is computed: reporting and
the plan read the declarations.
"""

from __future__ import annotations

import hashlib
import pkgutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from itertools import chain
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.definition import READ_BY_REPORTING, Metric


@cache
def by_module() -> dict[str, list[Metric]]:
    """The metrics of each file that declares some, by its dotted name; files in the order of their first."""
    found = {
        module.name: getattr(import_module(module.name), "METRICS", [])
        for module in pkgutil.walk_packages(__path__, f"{__name__}.")
    }
    return {
        name: metrics
        for name, metrics in sorted(found.items(), key=lambda item: [metric.order for metric in item[1]][:1])
        if metrics
    }


@cache
def declared() -> dict[str, Metric]:
    """Every metric by its name in metrics.csv, in the order of its rows there."""
    found: dict[str, Metric] = {}
    for metric in _ordered(chain(*by_module().values())):
        if metric.name in found:
            raise UserError(f"two metrics are called {metric.name!r}; give one of them another name")
        found[metric.name] = metric
    return found


@cache
def measures() -> tuple[Metric, ...]:
    """Every metric once for each thing it is measured on, in the order of the rows of metrics.csv."""
    return tuple(
        _ordered(
            each
            for metric in declared().values()
            for each in (
                metric,
                *(replace(metric, on=on, order=order, needs=()) for on, order in metric.also.items()),
            )
        )
    )


def modules_on_studies() -> tuple[str, ...]:
    """Dotted names of the files whose metrics need the other models of a study."""
    return tuple(
        name for name, metrics in by_module().items() if any(metric.on == "study" for metric in metrics)
    )


def modules_for(evaluation: Mapping[str, Any], splits: Collection[str]) -> tuple[str, ...]:
    """Dotted names of the files whose metrics a run can have at all.

    `evaluation`: the task's resolved settings of that block; `splits`: names of its evaluated splits.
    """
    return tuple(
        name
        for name, metrics in by_module().items()
        if any(
            m.on != "study" and all(evaluation.get(what) or what in splits for what in m.only_with)
            for m in metrics
        )
    )


def shown() -> str:
    """Hash of all that reporting reads of the declarations: its jobs depend on this and not on the files."""
    read = [
        [getattr(metric, name) for name in READ_BY_REPORTING] + [need.text for need in metric.needs]
        for metric in declared().values()
    ]
    return hashlib.sha256(repr(read).encode()).hexdigest()[:16]


def _ordered(metrics: Iterable[Metric]) -> list[Metric]:
    return sorted(metrics, key=lambda metric: metric.order)
