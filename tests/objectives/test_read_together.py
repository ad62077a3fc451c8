"""The batches of an objective as one pass: the same numbers as apart, and no more tokens than there are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from pipeline_lib.data.batching import Alternative, Batch, Example, collate, micro_batches
from pipeline_lib.models import forward
from pipeline_lib.models.adapters import adapters_off
from pipeline_lib.models.forward import answer_nll, apart, last_hidden, read_together
from pipeline_lib.models.recompute import decoder_layers
from pipeline_lib.objectives.base import Losses, Objective, mean_nll
from tests.methods import make_objective
from tests.objectives.cases import CASES, adapted, held, loss_and_gradient
from tests.tiny import flat, in_float64, pad_right, tiny_model

SYSTEM = (3, 4, 5, 6)  # in every text
# Tokens that no text before them has: 4 of the system prompt, then those told here.
FORGET = [
    Example((*SYSTEM, 10, 11, 20, 21, 2), 6, 0),  # 5
    Example((*SYSTEM, 10, 12, 22, 2), 6, 1),  # 3: begins with the other's 10
]
OTHER = [
    Alternative(Example((*SYSTEM, 10, 11, 20, 24, 2), 6, 0), 3.0),  # 2: the answer begins alike
    Alternative(Example((*SYSTEM, 10, 12, 25, 2), 6, 1), 4.0),  # 2
]
RETAIN = [
    Example((*SYSTEM, 13, 23, 30, 31, 32, 2), 5, 0),  # 6
    Example((*SYSTEM, 13, 23, 2), 5, 1),  # 1
]
OF_FORGET, OF_RETAIN, OF_OTHER = 8, 7, 4  # after the system prompt
REFERENCE = [5.0, 7.0]

MORE: dict[str, Callable[[Any], Objective]] = {
    "PDU at the tokens that it holds": lambda reference: make_objective(
        "PDU", retain_bound=1.1, dual_start=1.7, positions="holding"
    ),
    "PDU with KL": lambda reference: make_objective(
        "PDU", retain_bound=1.1, dual_start=1.7, retain_loss_type="KL", reference_model=reference
    ),
    "UNDIAL at all tokens": lambda reference: make_objective(
        "UNDIAL", beta=3.0, alpha=0.6, positions="all", reference_model=reference
    ),
    "GradDiff with KL": lambda reference: make_objective(
        "GradDiff", gamma=0.7, retain_loss_type="KL", reference_model=reference
    ),
    "DPO with KL": lambda reference: make_objective(
        "DPO", beta=0.2, alpha=0.6, retain_loss_type="KL", reference_model=reference
    ),
    **{
        f"RMU with {term}": lambda reference, term=term: make_objective(
            "RMU", layer=0, update_layers=1, alpha=0.6, retain_loss_type=term, reference_model=reference
        )
        for term in ("NLL", "KL")
    },
}
EVERY = {**CASES, **MORE}


def model_of(seed: int) -> Any:
    return tiny_model(seed, torch.float64, vocab_size=128)  # UNDIAL at all tokens needs more than 100


def paired(objective: Objective) -> bool:
    return objective.forget_answers == "both"


def batches(objective: Objective) -> tuple[Batch, Batch]:
    reference = torch.tensor(REFERENCE, dtype=torch.float64)
    return collate(FORGET, 0, reference, OTHER if paired(objective) else None), collate(RETAIN, 0)


def passes(model: Any) -> list[tuple[int, ...]]:
    """Shapes (rows, tokens) that the decoder's first layer is given from now on."""
    assert forward.reads_trees(model)  # tried out before anything counts
    shapes: list[tuple[int, ...]] = []
    decoder_layers(model)[0].register_forward_hook(
        lambda _, given, __: shapes.append(tuple(given[0].shape[:2]))
    )
    return shapes


def step(
    objective: Objective, model: Any, pair: tuple[Batch, Batch]
) -> tuple[dict[str, float], torch.Tensor]:
    return loss_and_gradient(objective, model, *([batch] for batch in pair))  # type: ignore[return-value]


def assert_equal(one: tuple[dict, torch.Tensor], other: tuple[dict, torch.Tensor]) -> None:
    """Losses, those of the log too, and gradients, up to the order of rounding in fp64."""
    for name, value in one[0].items():
        expected = other[0][name]
        assert value == (None if expected is None else pytest.approx(expected, rel=1e-11, abs=1e-11)), name
    scale = float(other[1].abs().max())
    assert scale > 1e-3  # the comparison has teeth
    assert float((one[1] - other[1]).abs().max()) < 1e-11 * scale


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("width", ["as long as the texts", "wider"])
@in_float64()
def test_the_numbers_are_those_of_batches_read_apart(
    name: str, width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, before = model_of(0), model_of(1)
    shapes = passes(model)
    objective = EVERY[name](held(before))
    pair = batches(objective)
    if width == "wider":  # each by another width
        pair = pad_right(pair[0], 7, 9), pad_right(pair[1], 3, 9)
    together = step(objective, model, pair)
    ours = list(shapes)
    with monkeypatch.context() as patch:
        patch.setattr(forward, "reads_trees", lambda model: False)
        assert_equal(together, step(objective, model, pair))
    if objective.read_sets:
        assert ours != shapes[len(ours) :]  # a tree against texts side by side


def expected_passes(objective: Objective) -> list[tuple[int, int]]:
    """One pass over what `read_sets` has, each token once."""
    sets = objective.read_sets
    tokens = len(SYSTEM) + OF_FORGET * ("forget" in sets) + OF_RETAIN * ("retain" in sets)
    return [(1, tokens + OF_OTHER * (paired(objective) and "forget" in sets))]


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("RMU")])
@in_float64()
def test_one_pass_of_the_unique_tokens(name: str) -> None:
    """Also where the model before unlearning runs: it makes a pass of its own."""
    model, before = model_of(0), model_of(1)
    shapes, theirs = passes(model), passes(before)
    objective = EVERY[name](held(before))
    step(objective, model, batches(objective))
    assert shapes == expected_passes(objective)
    lengths = {"forget": len(SYSTEM) + OF_FORGET, "retain": len(SYSTEM) + OF_RETAIN}
    assert theirs == [(1, lengths[which]) for which in objective.reference_sets]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GradDiff", [(1, 4 + 8 + 7)]),
        ("DPO", [(1, 4 + 8 + 7 + 4)]),
        ("NPO", [(1, 4 + 8 + 7)]),
        ("GradAscent", [(1, 4 + 8)]),
        ("CEU", [(1, 4 + 8)]),
        ("FineTuning", [(1, 4 + 7)]),
        ("UNDIAL", [(1, 4 + 8 + 7)]),
        ("UNDIAL without retain", [(1, 4 + 8)]),
        # The first layers alone, texts apart; then, where it predicts the retain set, that set.
        ("RMU", [(2, 9), (2, 10)]),
        ("RMU with NLL", [(2, 9), (1, 4 + 7)]),
    ],
)
@in_float64()
def test_passes_counted_by_hand(name: str, expected: list[tuple[int, int]]) -> None:
    model = model_of(0)
    shapes = passes(model)
    objective = EVERY[name](held(model_of(1)))
    step(objective, model, batches(objective))
    assert shapes == expected


@pytest.mark.parametrize("name", ["KL", "UNDIAL", "GradDiff with KL", "DPO with KL", "RMU", "RMU with KL"])
@in_float64()
def test_the_model_without_its_adapters_is_not_read_with_the_trained_one(name: str) -> None:
    """It is the same object, asked for one of the batches that are read together."""
    model, plain = adapted(["q_proj", "down_proj"]), tiny_model(0, torch.float64, tie_word_embeddings=False)
    objective = EVERY[name](held(plain))
    pair = batches(objective)
    expected = step(objective, model, pair)
    shapes = passes(model)
    found = step(EVERY[name](partial(adapters_off, model)), model, pair)
    assert_equal(found, expected)
    if not name.startswith("RMU"):
        assert sorted(shapes) == sorted(
            [
                *expected_passes(objective),
                *((1, 4 + {"forget": 8, "retain": 7}[which]) for which in objective.reference_sets),
            ]
        )


@in_float64()
def test_texts_with_hidden_tokens_are_read_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(0)
    shapes = passes(model)
    objective = EVERY["GradDiff"](held(model))
    forget = collate([replace(example, hidden=(1, 4)) for example in FORGET], 0)
    found = step(objective, model, (forget, collate(RETAIN, 0)))
    assert sorted(shapes) == [(1, 4 + 7), (2, 9)]
    with monkeypatch.context() as patch:
        patch.setattr(forward, "reads_trees", lambda model: False)
        assert_equal(found, step(objective, model, (forget, collate(RETAIN, 0))))
    visible = step(objective, model, batches(objective))
    assert visible[0]["forget"] != pytest.approx(found[0]["forget"], rel=1e-3)


@in_float64()
def test_without_gradients() -> None:
    model = model_of(0)
    objective = EVERY["GradDiff"](held(model))
    expected = step(objective, model, batches(objective))[0]
    shapes = passes(model)
    with torch.no_grad():
        losses = objective(model, *batches(objective))
    assert not losses.total.requires_grad
    assert float(losses.total) == pytest.approx(expected["total"], rel=1e-12)
    assert shapes == [(1, 19)]


class LookingFirst(Objective):
    """Reads the forget set for a number first, without a gradient, and then to learn."""

    kind: str = "LookingFirst"

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None and retain is not None
        with torch.no_grad():
            weight = mean_nll(model, forget)
        loss = weight * mean_nll(model, forget)
        return Losses(loss + mean_nll(model, retain), loss.detach(), None)


@in_float64()
def test_what_was_read_without_a_gradient_is_read_again_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pair = model_of(0), (collate(FORGET, 0), collate(RETAIN, 0))
    shapes = passes(model)
    found = step(LookingFirst(), model, pair)
    assert shapes == [(1, 19), (1, 19)]
    with monkeypatch.context() as patch:
        patch.setattr(forward, "reads_trees", lambda model: False)
        assert_equal(found, step(LookingFirst(), model, pair))


@in_float64()
def test_one_batch_as_both_sets() -> None:
    model, batch = model_of(0), collate(FORGET, 0)
    losses = make_objective("GradDiff", gamma=0.7)(model, batch, batch)
    alone = answer_nll(model, batch)[0].sum() / batch.tokens_in_step
    assert float(losses.total.detach()) == pytest.approx(-0.3 * float(alone.detach()), rel=1e-11)


def test_what_is_named_is_read_when_it_is_first_asked_for_and_kept_no_longer() -> None:
    model, other = tiny_model(), tiny_model(1)
    first, second, third = (collate(rows, 0) for rows in (FORGET, RETAIN, [o.example for o in OTHER]))
    shapes, theirs = passes(model), passes(other)
    with read_together(model, [first, second]):
        assert shapes == []
        kept = last_hidden(model, second)
        assert shapes == [(1, 19)]
        last_hidden(model, first)
        assert len(shapes) == 1
        last_hidden(model, third)  # not named
        last_hidden(model, replace(second))  # an equal one is another
        assert len(shapes) == 3
        last_hidden(other, second)  # another model
        assert theirs == [(1, 11)] and len(shapes) == 3
        with apart(nullcontext(model)) as same:
            assert same is model
            last_hidden(model, second)
            assert shapes[-1] == (1, 11) and len(shapes) == 4
        again = last_hidden(model, second)  # asked for again: read again, for the model may have changed
        assert torch.allclose(again, kept, atol=1e-5) and shapes[-1] == (1, 11) and len(shapes) == 5
    last_hidden(model, second)
    assert len(shapes) == 6


class Perturbed(Objective):
    """Reads the forget set a second time, with another first layer."""

    kind: str = "Perturbed"

    def loss_of(self, model: Any, forget: Batch | None, retain: Batch | None) -> Losses:
        assert forget is not None
        loss = mean_nll(model, forget)
        handle = model.model.layers[0].register_forward_hook(lambda layer, given, states: states.roll(1, -1))
        changed = mean_nll(model, forget)
        handle.remove()
        return Losses(loss - changed, loss.detach(), changed.detach())


@in_float64()
def test_a_model_that_changes_within_a_loss_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pair = model_of(0), (collate(FORGET, 0), collate(RETAIN, 0))
    found = Perturbed()(model, *pair)
    assert abs(float(found.total.detach())) > 1e-3
    monkeypatch.setattr(forward, "reads_trees", lambda model: False)
    assert float(found.total.detach()) == pytest.approx(float(Perturbed()(model, *pair).total.detach()))


@pytest.mark.parametrize("alternatives", [None, OTHER])
def test_batches_of_a_step_are_read_in_one_way(alternatives: list[Alternative] | None) -> None:
    """Processes that share it must make the same passes: else a sharded model waits for ever."""
    rows = [replace(FORGET[0], hidden=(1,)), FORGET[1]]
    batches = micro_batches(rows, 1, 0, alternatives=alternatives)
    assert all(batch.hidden is not None for batch in batches)
    assert sorted(int(batch.hidden.sum()) for batch in batches if batch.hidden is not None) == [0, 1]
    assert all(batch.hidden is None for batch in micro_batches(FORGET, 1, 0))


@pytest.mark.parametrize("context", [read_together, lambda model, batches: apart(nullcontext(model))])
def test_an_error_ends_it(context: Callable[..., Any]) -> None:
    model, pair = tiny_model(), [collate(FORGET, 0), collate(RETAIN, 0)]
    before = forward._TOGETHER.get()
    with pytest.raises(RuntimeError, match="stop"), context(model, pair):
        raise RuntimeError("stop")
    assert forward._TOGETHER.get() is before is None


def test_a_single_batch_and_a_model_without_trees_change_nothing() -> None:
    model, batch = tiny_model(), collate(FORGET, 0)
    with read_together(model, [batch]):
        assert forward._TOGETHER.get() is None
    model.set_attn_implementation("eager")
    with read_together(model, [batch, collate(RETAIN, 0)]):
        assert forward._TOGETHER.get() is None


def test_the_same_bits_twice() -> None:
    model = tiny_model()
    objective = EVERY["DPO"](held(model))
    first, second = (step(objective, model, batches(objective)) for _ in range(2))
    assert first[0] == second[0] and torch.equal(first[1], second[1])
    assert len(first[1]) == len(flat(list(model.parameters())))
