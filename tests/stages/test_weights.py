"""Stages that change weights by themselves: quantise, prune, interpolate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.models.quantised import GROUPS, quantised
from pipeline_lib.models.reduced import linear_layers
from tests.stages.study import Small, parameters
from tests.steps.study import run_evaluate

NORMS = ("layernorm", "norm.weight", "embed")


def linear(folder) -> dict[str, torch.Tensor]:
    return {name: layer.weight.detach() for name, layer in linear_layers(load_model_folder(folder)[0])}


@pytest.mark.parametrize("format", ["fp16", "int8", "int4", "nf4"])
def test_quantise_rounds_the_linear_layers_and_nothing_else(small: Small, format: str) -> None:
    made = small.stage({"kind": "quantise", "format": format}, [small.unlearned])
    before, after = linear(small.unlearned), linear(made)
    for name, weight in after.items():
        expected = quantised(before[name], format, GROUPS[format])  # type: ignore[arg-type]
        assert torch.equal(weight, expected) and not torch.equal(weight, before[name])
    others = parameters(small.unlearned)
    for name, value in parameters(made).items():
        if any(part in name for part in NORMS):
            assert torch.equal(value, others[name])
    run = load_model_folder(made)[3]
    assert run["stage"] == {"kind": "quantise", "format": format, "group": None, "of": ["GradDiff+adamw"]}
    distance = sum(float((after[n] - before[n]).double().square().sum()) for n in after)
    size = sum(float(weight.double().square().sum()) for weight in before.values())
    assert run["changed"]["distance"] == pytest.approx((distance / size) ** 0.5)


def test_half_precision_moves_no_headline_metric(small: Small, tmp_path: Path) -> None:
    """A control of the attacks: so little rounding changes no conclusion.

    All headline metrics are made of these likelihoods per token and the greedy answers.
    """
    made = small.stage({"kind": "quantise", "format": "fp16"}, [small.original])
    for name, model in (("before", small.original), ("after", made)):
        run_evaluate(tmp_path / name, small.data, model, None, None)
    before, after = (read_jsonl(tmp_path / name / "records.jsonl") for name in ("before", "after"))
    for one, other in zip(before, after, strict=True):
        for text in ("answer", "paraphrase"):
            tokens = one[f"{text}_tokens"]
            assert other[f"{text}_nll"] / tokens == pytest.approx(one[f"{text}_nll"] / tokens, abs=1e-3)
        wrong = zip(one["distractor_nll"], other["distractor_nll"], one["distractor_tokens"], strict=True)
        assert all(was / n == pytest.approx(now / n, abs=1e-3) for was, now, n in wrong)
        assert other.get("generation") == one.get("generation")


@pytest.mark.parametrize("by", ["magnitude", "wanda"])
def test_prune_leaves_the_share_that_was_asked(small: Small, by: str) -> None:
    texts = {"texts": 12} if by == "wanda" else {}
    made = small.stage({"kind": "prune", "by": by, "sparsity": 0.3, **texts}, [small.unlearned])
    before = linear(small.unlearned)
    for name, weight in linear(made).items():
        assert float((weight == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
        assert torch.equal(weight[weight != 0], before[name][weight != 0])
    run = load_model_folder(made)[3]
    assert run["changed"]["zeros"] == pytest.approx(0.3, abs=0.02)
    assert list(run["data"]) == (["authors.retain"] if by == "wanda" else [])


@pytest.mark.parametrize("by", ["magnitude", "wanda"])
def test_pruning_none_of_the_weights_changes_no_bit(small: Small, by: str) -> None:
    before = parameters(small.unlearned)
    made = small.stage({"kind": "prune", "by": by, "sparsity": 0}, [small.unlearned])
    assert all(torch.equal(value, before[name]) for name, value in parameters(made).items())


def test_the_same_prune_gives_the_same_bits(small: Small) -> None:
    settings = {"kind": "prune", "by": "wanda", "sparsity": 0.5, "texts": 8}
    one, two = (load_model_folder(small.stage(settings, [small.unlearned]))[3] for _ in range(2))
    assert one["weights_sha256"] == two["weights_sha256"]


def test_an_interpolated_model_lies_on_the_line_between_two_models(small: Small) -> None:
    made = small.stage({"kind": "interpolate", "share": 0.25}, [small.unlearned, small.original])
    ours, theirs = parameters(small.unlearned), parameters(small.original)
    for name, value in parameters(made).items():
        expected = 0.75 * ours[name].double() + 0.25 * theirs[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    assert load_model_folder(made)[3]["stage"]["toward"] == "original"


def test_an_interpolation_with_a_lost_model_is_lost(small: Small) -> None:
    made = small.stage({"kind": "interpolate"}, [small.unlearned, small.diverged])
    assert read_json(made / "run.json")["status"] == "diverged"
    with pytest.raises(UserError, match="diverged at step"):
        load_model_folder(made)
