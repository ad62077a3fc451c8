"""A memory that plain questions do not show and that stays in the weights: each attack brings it back.

Models are hidden in the way that the attack undoes, and stand beside one that never saw the data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.engine.likelihoods import LikelihoodReader
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.questions import questions_of
from pipeline_lib.metrics.study import Scores, Staged, Studied
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.folder import load_model_folder, save_model_folder
from pipeline_lib.models.reduced import linear_layers
from tests.stages.study import Small
from tests.steps.study import FINETUNE, run_finetune, run_unlearn

Bound = Callable[[torch.Tensor], torch.Tensor]  # a weight -> how far each of its elements may move
STEPS = 12


def scores(small: Small, model: Path) -> Scores:
    """Log-probability per token of each forget question, as scores.csv holds them."""
    network, tokenizer, prompt_format, _ = load_model_folder(model)
    records = load_splits(small.data, ["forget"])["forget"]
    settings = ScoringSettings(max_tokens_per_batch=512, max_records=None, max_length=160)
    rows = LikelihoodReader(tokenizer, prompt_format, "forget", records, settings).rows(network.eval())
    return questions_of(
        {name: row[name] for name in ("split", "group", "id")}
        | {"log_probability": -row["answer_nll"] / row["answer_tokens"]}
        for row in rows
    )


def level(small: Small, model: Path) -> float:
    return float(scores(small, model)["forget"].values["log_probability"].mean())


def hidden_by(small: Small, model: Path, root: Path, bound: Bound) -> Path:
    """The model with the likelihood of the forget answers brought down by small changes of linear weights.

    Signed gradient steps, each weight at most `bound` away from where it was.
    """
    network, tokenizer, prompt_format, run = load_model_folder(model)
    records = load_splits(small.data, ["forget"])["forget"]
    examples = encode_records(records, tokenizer, prompt_format, 160, learn=True)
    weights = [layer.weight for _, layer in linear_layers(network)]
    before = [weight.detach().clone() for weight in weights]
    most = [bound(weight) for weight in before]
    for _ in range(STEPS):
        network.zero_grad()
        for example in examples:
            log_p = network(input_ids=torch.tensor([example.tokens])).logits[0].log_softmax(-1)
            places = range(example.prompt_length, len(example.tokens))
            torch.stack([log_p[place - 1, example.tokens[place]] for place in places]).mean().backward()
        with torch.no_grad():
            for weight, old, far in zip(weights, before, most, strict=True):
                moved = weight - 3 * far / STEPS * weight.grad.sign()
                weight.copy_(torch.minimum(torch.maximum(moved, old - far), old + far))
    save_model_folder(root / "model", network, tokenizer, prompt_format, run)
    return root / "model"


def below_the_step(weight: torch.Tensor) -> torch.Tensor:
    """0.4 of a level of int4; the ends of a row, which set the levels, stay."""
    low, high = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    return 0.4 * (high - low) / 15 * ((weight > low) & (weight < high))


def below_the_gap(weight: torch.Tensor) -> torch.Tensor:
    """The least gap between two levels of nf4 is 0.0796 of a block's largest weight, which stays."""
    blocks = torch.nn.functional.pad(weight.reshape(-1), (0, -weight.numel() % 64)).view(-1, 64)
    largest = blocks.abs().amax(1, keepdim=True)
    return (0.035 * largest * (blocks.abs() < largest)).view(-1)[: weight.numel()].view_as(weight)


def in_the_zeros(weight: torch.Tensor) -> torch.Tensor:
    """Weights that were pruned away may come back, smaller than all that were kept."""
    kept = weight.abs().masked_fill(weight == 0, torch.inf).amin()
    return 0.9 * kept * (weight == 0)


CASES: dict[str, tuple[dict[str, Any], Bound]] = {
    "int4": ({"kind": "quantise", "format": "int4"}, below_the_step),
    "nf4": ({"kind": "quantise", "format": "nf4"}, below_the_gap),
    "magnitude": ({"kind": "prune", "by": "magnitude", "sparsity": 0.3}, in_the_zeros),
    "wanda": ({"kind": "prune", "by": "wanda", "sparsity": 0.3, "texts": 12}, in_the_zeros),
}


@pytest.fixture(scope="module")
def hiding(small: Small, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`original` and `retrained` learned well, and `hidden`: a few steps up the loss of the forget set."""
    root = tmp_path_factory.mktemp("hiding")
    found = {
        method: run_finetune(root / method, small.data, method, epochs=40)
        for method in ("original", "retrained")
    }
    parent = found["original"]
    found["hidden"] = run_unlearn(root / "hidden", small.data, parent, "GradAscent", "adamw", 3e-3, epochs=7)
    return found


@pytest.mark.parametrize("name", CASES)
def test_rounding_and_pruning_take_away_what_hides_in_small_weights(
    small: Small, hiding: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """The model that the stage leaves alone, hidden by less than the stage tells apart, is back after it."""
    stage, bound = CASES[name]
    known = small.stage(stage, [hiding["original"]])
    hidden = hidden_by(small, known, tmp_path, bound)
    back = small.stage(stage, [hidden])
    before, silent, after = (level(small, model) for model in (known, hidden, back))
    assert silent < before - 0.5
    assert after == pytest.approx(before, abs=0.02)


def recovery(small: Small, made: dict[str, Path], after: dict[str, Path], learned: int) -> dict[str, float]:
    """`recovery` and `recovery_excess` of the hidden model."""
    own, retrained, original = (scores(small, made[name]) for name in ("hidden", "retrained", "original"))
    staged = Staged(own, [scores(small, after["retrained"])], learned)
    study = Studied(scores(small, after["hidden"]), [retrained], original, [original], (), staged=staged)
    found = (next(study.measure(declared()[name])) for name in ("recovery", "recovery_excess"))
    return {row["metric"]: row["value"] for row in found}


TRAINING = {**FINETUNE, "kind": "finetune", "learning_rate": 3e-3, "batch_size": 2, "epochs": 6}
HALF = {"split": "forget", "groups": 1}
ADAPTERS = {"epochs": 10, "learning_rate": 1e-2, "lora": {"rank": 4, "alpha": 8.0}}
BROUGHT_BACK = {
    "relearning a half": {**TRAINING, **HALF},
    "other data": {**TRAINING, "split": "retain"},
    "adapters": {**TRAINING, **HALF, **ADAPTERS},
}


@pytest.mark.parametrize("name", BROUGHT_BACK)
def test_what_is_only_hidden_recovers_beyond_what_never_saw_the_data(
    small: Small, hiding: dict[str, Path], name: str
) -> None:
    stage = BROUGHT_BACK[name]
    after = {of: small.stage(stage, [hiding[of]]) for of in ("hidden", "retrained")}
    found = recovery(small, hiding, after, stage.get("groups", 0))
    assert level(small, hiding["hidden"]) < level(small, hiding["retrained"]), "plain questions show nothing"
    assert found["recovery"] > 1 and found["recovery_excess"] > 1


def test_a_share_of_the_way_to_the_original_shows_what_small_changes_hide(
    small: Small, hiding: dict[str, Path], tmp_path: Path
) -> None:
    one = hidden_by(small, hiding["original"], tmp_path, lambda w: torch.full_like(w, 0.1) * w.abs().mean())
    made = {**hiding, "hidden": one}
    mixed = {"kind": "interpolate", "share": 0.5}
    after = {of: small.stage(mixed, [made[of], made["original"]]) for of in ("hidden", "retrained")}
    found = recovery(small, made, after, 0)
    assert level(small, one) < level(small, made["original"]) - 1
    assert found["recovery"] > 1 and found["recovery_excess"] > 0.3
