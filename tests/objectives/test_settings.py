"""Resolved settings make the methods that they came from, and leave out what nobody asked for."""

from __future__ import annotations

import pytest

from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.optimizers import OPTIMIZERS
from tests.methods import make_optimizer
from tests.tiny import Bigram


@pytest.mark.parametrize("kind", OBJECTIVES.kinds())
def test_what_resolved_settings_leave_out_changes_no_run(kind):
    """A suite that names none of the options has the settings it had before there were any."""
    plain = OBJECTIVES.parse({"kind": kind})
    named = type(plain).model_fields
    assert plain.model_dump().keys() == {name for name in named if named[name].exclude_if is None}
    assert OBJECTIVES.parse(plain.model_dump()) == plain


@pytest.mark.parametrize(
    "kind", sorted({*OPTIMIZERS.kinds()} - {"adamw_8bit", "muon", "influence", "soap", "hybrid"})
)
def test_resolved_settings_make_the_optimizer(kind):
    settings = OPTIMIZERS.parse({"kind": kind, "learning_rate": 0.5, "weight_decay": 0.25}).model_dump()
    stepper = make_optimizer(model=Bigram([[0.5, 0.5]] * 2), **settings)
    assert stepper.param_groups[0]["lr"] == 0.5
    assert stepper.param_groups[0]["weight_decay"] == 0.25
