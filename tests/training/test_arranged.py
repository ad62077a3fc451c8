"""Curvature that is arranged on its way from the estimator to the optimiser."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pipeline_lib.curvature.arranged import Arrangement
from pipeline_lib.distributed.group import ALONE
from tests.tiny import flat, tiny_model
from tests.training.runs import curvature_of, optimizer_of, run
from tests.training.test_refresh import Told


@pytest.mark.parametrize("how", ["permuted", "mean"])
def test_estimates_are_arranged_before_they_are_averaged_and_before_drift(how, tmp_path, monkeypatch):
    """Told where its values are: h holds them elsewhere, and drift is that of h."""

    class Uneven(Told):
        def estimate(self, *arguments, **options):
            values = super().estimate(*arguments, **options)
            return [v + torch.arange(v.numel()).view(v.shape) for v in values]

    model = tiny_model()
    optimizer = optimizer_of("sophia", model)
    given, update = [], optimizer.update_curvature
    monkeypatch.setattr(optimizer, "update_curvature", lambda e: given.append(list(e)) or update(e))
    arrangement = Arrangement(how, 4)
    uneven = Uneven(levels=(2.0, 4.0))
    curvature = curvature_of("sophia", estimator=uneven, arrangement=arrangement)
    outcome = run(model, tmp_path / "c", "sophia", optimizer=optimizer, curvature=curvature)
    for level, values in zip((2.0, 4.0, 4.0), given, strict=True):
        for number, value in enumerate(values):
            plain = level + torch.arange(value.numel()).view(value.shape)
            assert torch.equal(value, arrangement.of(plain, plain, number, ALONE))
    h = [0.01 * flat(given[0])]
    for values in given[1:]:
        h.append(0.99 * h[-1] + 0.01 * flat(values))
    found = [row for row in outcome.log if row["curvature_mean"] is not None]
    assert [row["curvature_mean"] for row in found] == pytest.approx([float(e.mean()) for e in h], rel=1e-4)
    drifts = [float((new - old).abs().sum() / old.abs().sum()) for old, new in pairwise(h)]
    assert [row["curvature_drift"] for row in found[1:]] == pytest.approx(drifts, rel=1e-3)
