"""The settings that tuning tries: points of a Halton sequence, or every point of a grid.

Both follow from names and ranges alone, so that the workflow knows all trials before any job runs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from pipeline_lib.core.ranges import placed


def sample(
    ranges: Mapping[str, Any], trials: int, sampler: str, labels: Sequence[str]
) -> list[dict[str, Any]]:
    """The settings of every trial, in the order of the trials.

    `ranges`: setting -> {"low", "high", "scale"} with scale "log" or "linear", or the list of its values.
    `sampler` "halton": a scrambled Halton sequence, seeded by `labels`; more trials keep the
    earlier ones. "grid": the product of the lists, the last setting
    changing fastest.
    """
    names = sorted(ranges)  # the order in the file must not matter
    if sampler == "grid":
        grid = product(*(ranges[name] for name in names))
        return [dict(zip(names, values, strict=True)) for values in grid]
    return [
        {name: placed(float(u), ranges[name]) for name, u in zip(names, point, strict=True)}
        for point in points(len(names), trials, labels)  # (trials, settings)
    ]


def grid_size(ranges: Mapping[str, Sequence[Any]]) -> int:
    """Points of the grid over lists of values."""
    return math.prod(len(values) for values in ranges.values())


def points(dimensions: int, n: int, labels: Sequence[str]) -> np.ndarray:
    """(n, dimensions) in [0, 1), scrambled by a hash of the labels, which is the same in every process."""
    from scipy.stats import qmc  # takes a second, and only tuned suites need it

    digest = hashlib.sha256(json.dumps(list(labels)).encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return qmc.Halton(dimensions, scramble=True, seed=generator).random(n)
