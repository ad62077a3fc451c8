"""What the estimators cost, how their probes are distributed, and how a label is drawn."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.curvature.gauss_newton import chances, draw_labels
from pipeline_lib.data.batching import collate
from tests.tiny import random_examples

# differentiates the gradient once more; is made of the step's own gradient
TRAITS = {
    "empirical_fisher": (False, True),
    "gauss_newton_bartlett": (False, False),
    "hutchinson_gaussian": (True, False),
    "hutchinson_rademacher": (True, False),
}


def test_what_each_estimate_costs() -> None:
    kinds = ESTIMATORS.kinds()
    found = {name: (kind.double_backward, kind.at_hand) for name, kind in kinds.items()}
    assert found == TRAITS


@pytest.mark.parametrize(("name", "signs"), [("hutchinson_rademacher", True), ("hutchinson_gaussian", False)])
def test_probes(name: str, signs: bool) -> None:
    drawn = torch.Generator().manual_seed(3)
    probe = ESTIMATORS.parse({"kind": name})._probe(torch.zeros(4000), drawn)
    assert set(probe.unique().tolist()) == {-1.0, 1.0} if signs else len(probe.unique()) > 3000
    assert abs(float(probe.mean())) < 0.06 and abs(float(probe.square().mean()) - 1) < 0.1


def test_a_label_without_probability_is_never_drawn() -> None:
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.75]]).expand(3, 4)
    assert draw_labels(probabilities, torch.tensor([[0.0], [0.25], [0.9999]])).tolist() == [1, 3, 3]


def test_probabilities_that_do_not_add_up_are_scaled() -> None:
    probabilities = torch.tensor([[0.25, 0.25]]).expand(2, 2)  # as rounding leaves them, only more so
    assert draw_labels(probabilities, torch.tensor([[0.4], [0.6]])).tolist() == [0, 1]


def test_one_number_is_drawn_for_each_answer_token() -> None:
    batch = collate(random_examples(3), 0)
    assert chances(batch, torch.Generator().manual_seed(0)).shape == (batch.answer_tokens, 1)
