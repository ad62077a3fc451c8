"""Depth score and logit lens: the published arithmetic, the scale's ends, and what is left out."""

from __future__ import annotations

import random

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.depth_score import question_depth
from pipeline_lib.metrics.logit_lens import largest
from pipeline_lib.metrics.scores import score_all

NO_RECORDS = {"evaluate": [], "utility": [], "multiple_choice": []}


def row(name, lens, drop=None, **changes):
    given = {"split": "forget", "id": name, "group": name, "layers": list(range(len(lens))), "lens": lens}
    return given | ({} if drop is None else {"drop": drop, "into": "original"}) | changes


def scored(rows, reference=None):
    found = score_all([], None, NO_RECORDS, inside=(rows, reference))
    return {line["metric"]: line for line in found.metrics}, found.not_measured


def published(first, second, tau=0.05):
    """Equations 2, 4 and 5 of arXiv 2605.24614 as they are written there; None where no layer is kept."""
    kept = [layer for layer in range(len(first)) if first[layer] > tau]
    if not kept:
        return None
    erasure = {layer: max(0.0, min(1.0, second[layer] / first[layer])) for layer in kept}
    weight = sum(first[layer] for layer in kept)
    return sum(first[layer] * erasure[layer] for layer in kept) / weight


def test_the_published_arithmetic():
    source = random.Random(0)
    none = 0
    for _ in range(500):
        layers, size = source.randint(2, 12), source.choice([0.02, 0.1, 2.0])
        first, second = ([source.gauss(size, size) for _ in range(layers)] for _ in range(2))
        expected, found = published(first, second), question_depth(first, second)
        none += expected is None
        assert found == pytest.approx(float("nan") if expected is None else expected, nan_ok=True, abs=1e-12)
    assert 20 < none < 400


def test_depth_by_hand():
    """Layers with 0.05 or less do not count; ratios are clipped; the first stage is their weight."""
    assert question_depth([0.05, 1.0, 3.0], [9.0, 0.25, 4.5]) == pytest.approx((1 * 0.25 + 3 * 1) / 4)
    assert question_depth([1.0, 3.0], [-2.0, 1.5]) == pytest.approx(0.375)


def test_the_ends_of_the_scale():
    first = [0.3, 1.7, 0.01]
    assert question_depth(first, [0.0] * 3) == 0.0
    assert question_depth(first, first) == 1.0


def test_questions_that_no_layer_carries_have_no_depth_and_are_told():
    of_retrained = [row("a", [-9.0, -4.0], [1.0, 2.0]), row("b", [-9.0, -5.0], [0.05, 0.0])]
    of_retrained += [row("c", [-8.0, -4.0], [2.0, 0.0]), row("d", [-7.0, -4.0], [-1.0, 0.02])]
    rows = [row(r["id"], [-3.0, -2.0], [0.5, 1.0]) for r in of_retrained]
    found, lacking = scored(rows, of_retrained)
    assert found["depth_score"]["value"] == pytest.approx((0.5 + 0.25) / 2)
    assert found["depth_unscored"]["value"] == 0.5
    assert found["depth_score"]["n"] == found["depth_unscored"]["n"] == 4, "else seeds could not be averaged"
    assert found["depth_score"]["higher_is_better"] is True
    assert not lacking
    found, lacking = scored(rows, [{**r, "drop": [0.0, 0.04]} for r in of_retrained])
    assert "depth_score" not in found
    assert [(line["metric"], line["of"]) for line in lacking] == [("depth_score", 4)]
    assert found["depth_unscored"]["value"] == 1.0


def test_the_lens_takes_the_largest_layer_before_the_last_of_both_models():
    assert largest([-5.0, -2.0, -3.0, -1.0]) == -2.0
    rows = [row("a", [-5.0, -2.0, -1.0]), row("b", [-4.0, -6.0, -0.5])]
    of_retrained = [row("b", [-7.0, -6.5, -9.0]), row("a", [-3.0, -4.0, -9.0])]
    found, _ = scored(rows, of_retrained)
    assert found["lens_log_probability"]["value"] == pytest.approx((-2.0 - 4.0) / 2)
    assert found["lens_knowledge"]["value"] == pytest.approx(((-2.0 + 3.0) + (-4.0 + 6.5)) / 2)
    assert "depth_score" not in found, "nothing was patched"


def test_drops_in_two_originals_are_not_compared():
    rows = [row("a", [-5.0, -2.0], [0.1, 0.2]), row("b", [-4.0, -6.0], [0.1, 0.2])]
    assert scored(rows, rows)[0]["depth_score"]["value"] == 1.0
    found, lacking = scored(rows, [{**r, "into": "original of another seed"} for r in rows])
    assert set(found) == {"lens_log_probability", "lens_knowledge"}
    assert not lacking


def test_without_retrained_there_is_the_lens_alone():
    found, _ = scored([row("a", [-5.0, -2.0], [0.1, 0.2]), row("b", [-4.0, -6.0], [0.1, 0.2])])
    assert set(found) == {"lens_log_probability"}


@pytest.mark.parametrize(
    ("rows", "reference", "message"),
    [
        ([], None, "holds no question"),
        ([row("a", [-1.0, -2.0], [0.1])], None, "'a' lacks numbers of some of its layers"),
        ([row("a", [-1.0, float("nan")])], None, "'a' lacks numbers"),
        ([row("a", [-1.0, -2.0], layers=[0])], None, "'a' lacks numbers"),
        ([row("a", [-1.0, -2.0])], [], "records of `retrained` hold no forget question"),
        ([row("a", [-1.0, -2.0])], [row("b", [-1.0, -2.0])], "evaluated on different forget questions"),
        ([row("a", [-1.0, -2.0])], [row("a", [-1.0, -2.0], layers=[1, 3])], "at different layers"),
    ],
)
def test_rows_that_do_not_fit(rows, reference, message):
    with pytest.raises(UserError, match=message):
        scored(rows, reference)
