"""Losses of a short run, kept: whatever changes them must be meant.

In fp64, where rounding differs between machines by far less than the tolerance. After a change that is
meant, run this file, and copy what the failure prints.
"""

from __future__ import annotations

import pytest
import torch

from tests.objectives.cases import CASES, held
from tests.tiny import in_float64, labels_without_chance, tiny_model
from tests.training.runs import data, run

GOLDEN = {  # (objective, optimiser) -> loss of each step
    ("GradDiff", "adamw"): [-1.55717133, -1.60170827, -2.2916609, -5.48674855, -5.4212497, -5.5746462],
    ("GradDiff", "signum"): [-1.55717133, -1.60179253, -2.3665966, -5.56183597, -5.50222538, -5.453169],
    ("GradDiff", "sophia"): [-1.55717133, -1.61288518, -2.42368454, -5.58404204, -5.61676243, -5.50852266],
    ("GradDiff", "sophia_as_released"): [
        -1.55717133,
        -1.61013555,
        -2.36941723,
        -5.709374,
        -5.84375338,
        -5.72328483,
    ],
    ("GradAscent", "adamw"): [-5.15739744, -5.88298644, -6.42835903, -8.06836273, -8.08806039, -8.2617414],
    ("KL", "sophia"): [-3.29821424, -4.11298054, -4.7058337, -6.35274245, -6.30039056, -6.51901112],
    ("PO", "signum"): [8.75762355, 9.62008998, 8.29765991, 6.1125363, 5.73361095, 4.37881673],
    ("NPO", "adamw"): [15.5951787, 3.75652858, 5.69353738, 2.60923496, 1.81621734, 14.5588941],
}


def losses(objective, kind, tmp_path):
    outcome = run(
        tiny_model(0, torch.float64),
        tmp_path / "c",
        kind,
        objective=CASES[objective](held(tiny_model(1, torch.float64))),
        training_data=data(reference_nll=torch.linspace(5.0, 30.0, 10, dtype=torch.float64)),
        warmup=0.3,
        decay="linear",
    )
    return [row["loss"] for row in outcome.log]


@pytest.mark.parametrize("objective, kind", GOLDEN)
@in_float64()
def test_losses_are_as_they_were(objective, kind, tmp_path, monkeypatch):
    labels_without_chance(monkeypatch)  # how labels are drawn differs between platforms
    assert losses(objective, kind, tmp_path) == pytest.approx(GOLDEN[objective, kind], rel=1e-6)
