"""Settings of second-order optimisers: what goes together, and what is refused before any job."""

from __future__ import annotations

import pytest

from pipeline_lib.study import parse_suite
from tests.study.suites import error, small


def sophia(**settings):
    return small(optimizers={"sophia": {"learning_rate": 1e-4, **settings}}, runs=None)


def test_automatic_settings_name_their_goal() -> None:
    held = sophia(gamma="auto", clipped_target=0.5, update_every="auto", drift_target=0.1)
    settings = parse_suite(held).optimizers["sophia"]
    assert (settings.gamma, settings.clipped_target) == ("auto", 0.5)
    assert (settings.update_every, settings.drift_target) == ("auto", 0.1)
    assert parse_suite(sophia(gamma="1e-2")).optimizers["sophia"].gamma == 0.01


@pytest.mark.parametrize(
    ("settings", "path", "words"),
    [
        ({"gamma": "auto"}, "clipped_target", "`gamma: auto` needs it"),
        ({"update_every": "auto"}, "drift_target", "`update_every: auto` needs it"),
        ({"clipped_target": 0.5}, "clipped_target", "goes with `gamma: auto`"),
        ({"drift_target": 0.5}, "drift_target", "goes with `update_every: auto`"),
        ({"gamma": "often"}, "gamma", "expected a number, or auto"),
        ({"gamma": True}, "gamma", "expected a number, or auto"),
        ({"gamma": -1}, "gamma", "must be greater than 0, or auto"),
        ({"update_every": 0}, "update_every", "must be greater than 0, or auto"),
        ({"update_every": 2.5}, "update_every", "expected a whole number, or auto"),
        ({"gamma": "auto", "clipped_target": 1}, "clipped_target", "must be smaller than 1"),
        ({"estimator": "hutchinson_radmacher"}, "estimator", "did you mean 'hutchinson_"),
        (
            {"estimator": "empirical_fisher", "curvature_data": "forget"},
            "curvature_data",
            "must be both; found 'forget'",
        ),
        ({"curvature_examples": 0}, "curvature_examples", "must be greater than 0"),
        (
            {"estimator": "empirical_fisher", "curvature_examples": 2},
            "curvature_examples",
            "which is of all its examples: leave it out",
        ),
    ],
)
def test_faults_of_sophia(settings, path, words) -> None:
    message = error(sophia(**settings))
    assert f"optimizers.sophia.{path}: " in message
    assert words in message


@pytest.mark.parametrize("settings", [{"damping": 0}, {"damping": -1e-3}, {"tolerance": 1}])
def test_influence_needs_a_positive_damping_and_a_tolerance_below_one(settings) -> None:
    (name,) = settings
    message = error(small(optimizers={"influence": settings}, runs=None))
    assert f"optimizers.influence.{name}: found" in message


def test_influence_with_half_precision_weights_is_refused() -> None:
    both = small(optimizers={"influence": None, "adamw": {"learning_rate": 1e-4}}, runs=None)
    assert "influence: found `weights: bf16`" in error({**both, "unlearn": {"weights": "bf16"}})
    only_adamw = [{"methods": ["NPO"], "optimizers": ["adamw"], "unlearn": {"weights": "bf16"}}]
    parse_suite({**both, "runs": [*only_adamw, {"methods": ["GradDiff"], "optimizers": ["influence"]}]})
