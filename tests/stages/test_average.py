"""The average of models is that of their parameters."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.stages.base import STAGES
from tests.stages.study import Small, parameters


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ([3.0, 1.0], (0.75, 0.25))])
def test_every_parameter_is_the_weighted_mean(
    small: Small, weights: list[float] | None, shares: tuple[float, float]
) -> None:
    made = small.stage({"kind": "average", "weights": weights}, [small.original, small.unlearned])
    before = [parameters(folder) for folder in (small.original, small.unlearned)]
    found = parameters(made)
    assert any(not torch.equal(before[0][name], before[1][name]) for name in found), "nothing to average"
    for name, value in found.items():
        expected = sum(share * parent[name].double() for share, parent in zip(shares, before, strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)


def test_the_mean_of_a_model_with_itself_is_that_model(small: Small) -> None:
    made = small.stage({"kind": "average"}, [small.original, small.original, small.original])
    for name, value in parameters(made).items():
        torch.testing.assert_close(value, parameters(small.original)[name], rtol=1e-6, atol=0)


def test_run_json_names_the_parents(small: Small) -> None:
    made = small.stage({"kind": "average"}, [small.original, small.unlearned])
    run = load_model_folder(made)[3]
    weights = [load_model_folder(folder)[3]["weights_sha256"] for folder in (small.original, small.unlearned)]
    assert list(run["parents"].values()) == weights
    of = ["original", "GradDiff+adamw"]
    assert run["stage"] == {"kind": "average", "weights": None, "of": of}
    assert run["steps"] == 0 and run["status"] == "ok"


def test_a_number_of_weights_that_does_not_fit_is_a_fault() -> None:
    stage = STAGES.parse({"kind": "average", "weights": [1, 1, 1]})
    assert list(stage.faults(3)) == []
    ((field, message),) = stage.faults(2)
    assert field == "weights" and message.startswith("found 3 numbers; expected 2")


def test_a_model_of_a_diverged_one_has_diverged_at_its_step(small: Small) -> None:
    made = small.stage({"kind": "average"}, [small.original, small.diverged])
    step = read_json(small.diverged / "run.json")["diverged_step"]
    with pytest.raises(UserError, match=f"diverged at step {step} "):
        load_model_folder(made)


def test_the_settings_are_found_by_kind() -> None:
    assert STAGES.parse({"kind": "average", "of": ["a", "b"]}).settings() == {
        "kind": "average",
        "weights": None,
    }
