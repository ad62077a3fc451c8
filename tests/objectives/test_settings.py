"""The settings of a suite and the code that takes them agree; defaults live in the suite only."""

from __future__ import annotations

import dataclasses
import inspect
from typing import get_args

import pytest

from pipeline_lib.config import methods
from pipeline_lib.config.jobs import FineTune, Training
from pipeline_lib.objectives import OBJECTIVES, make_objective
from pipeline_lib.optimizers import OPTIMIZERS, make_optimizer
from pipeline_lib.training.loop import TrainingSettings
from tests.tiny import Bigram


def settings_classes(union):
    """kind -> settings class, from a discriminated union."""
    classes = get_args(get_args(union)[0])
    return {get_args(c.model_fields["kind"].annotation)[0]: c for c in classes}


OBJECTIVE_SETTINGS = settings_classes(methods.ObjectiveSettings)
OPTIMIZER_SETTINGS = settings_classes(methods.OptimizerSettings)
# Settings that the training loop takes: when and on what the curvature is estimated.
OF_CURVATURE = {"estimator", "update_every", "drift_target", "curvature_data", "curvature_examples"}


def test_kinds_are_the_registries():
    assert list(methods.OBJECTIVE_KINDS) == list(OBJECTIVES) == list(OBJECTIVE_SETTINGS)
    assert list(methods.OPTIMIZER_KINDS) == list(OPTIMIZER_SETTINGS) == [*OPTIMIZERS, "influence"]
    assert set(OPTIMIZER_SETTINGS) > methods.SECOND_ORDER


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_objective_fields_are_the_settings_without_defaults(kind):
    fields = {field.name: field for field in dataclasses.fields(OBJECTIVES[kind])}
    fields = {name: field for name, field in fields.items() if name != "reference_model" and field.init}
    settings = OBJECTIVE_SETTINGS[kind].model_fields
    assert set(fields) | {"kind"} == set(settings)
    left_out = {name for name, setting in settings.items() if setting.exclude_if is not None}
    for name, field in fields.items():  # what resolved settings leave out has its default here too
        assert field.default == (settings[name].default if name in left_out else dataclasses.MISSING), name


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_what_resolved_settings_leave_out_changes_no_run(kind):
    """A suite that names none of the options has the settings it had before there were any."""
    plain = OBJECTIVE_SETTINGS[kind](kind=kind).model_dump()
    named = OBJECTIVE_SETTINGS[kind].model_fields
    assert plain.keys() == {name for name in named if named[name].exclude_if is None}
    assert make_objective(**plain) is not None


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimizer_arguments_are_the_settings_without_defaults(kind):
    arguments = dict(inspect.signature(OPTIMIZERS[kind]).parameters)
    assert all(argument.default is inspect.Parameter.empty for argument in arguments.values())
    assert [arguments.pop("params").name, arguments.pop("lr").name] == ["params", "lr"]
    schedule = OF_CURVATURE & set(OPTIMIZER_SETTINGS[kind].model_fields)
    assert {*arguments, "kind", "learning_rate"} | schedule == set(OPTIMIZER_SETTINGS[kind].model_fields)


@pytest.mark.parametrize("kind", sorted({*OPTIMIZERS} - {"adamw_8bit", "muon"}))
def test_resolved_settings_make_the_optimizer(kind):
    settings = OPTIMIZER_SETTINGS[kind](kind=kind, learning_rate=0.5, weight_decay=0.25).model_dump()
    settings = {name: value for name, value in settings.items() if name not in OF_CURVATURE}
    stepper = make_optimizer(model=Bigram([[0.5, 0.5]] * 2), **settings)
    assert stepper.param_groups[0]["lr"] == 0.5
    assert stepper.param_groups[0]["weight_decay"] == 0.25
    with pytest.raises(TypeError):
        make_optimizer(model=Bigram([[1.0]]), unknown=1, **settings)


def test_training_settings_are_the_blocks_of_the_suite():
    names = {field.name for field in dataclasses.fields(TrainingSettings)}
    assert names < set(Training.model_fields) < set(FineTune.model_fields)
    assert all(field.default is dataclasses.MISSING for field in dataclasses.fields(TrainingSettings))
