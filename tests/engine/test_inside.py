"""Looking into layers: the lens and the patches against the model's own numbers, by hand and by property."""

from __future__ import annotations

import copy

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.engine.inside import Answering, look_inside
from pipeline_lib.engine.likelihoods import NotFiniteError
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.metrics.depth_score import question_depth
from tests.models.families import FAMILIES, family_model
from tests.tiny import PAD, VOCAB, make_examples, tiny_model

LENGTHS = [(3, 4), (6, 2), (2, 7), (5, 5), (4, 1)]
RECORDS = [Record(f"q{i}", "?", "!", f"g{i % 2}") for i in range(len(LENGTHS))]
EXAMPLES = make_examples(LENGTHS)


def looked(model, original=None, every="all", budget=64, examples=EXAMPLES, asked=None):
    settings = ScoringSettings(max_tokens_per_batch=budget, max_records=None, max_length=64)
    target = None if original is None else Answering(original, asked or examples, PAD)
    return look_inside(Answering(model, examples, PAD), target, RECORDS, settings, every, progress=False)


def deep(seed: int = 0, **changes):
    return tiny_model(seed, num_hidden_layers=4, **changes)


def nearby(model, seed: int, layers=None, scale: float = 0.3):
    """A copy with noise on the weights of these layers (None: all)."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for number, layer in enumerate(other.model.layers):
            if layers is None or number in layers:
                for parameter in layer.parameters():
                    parameter += scale * parameter.std() * torch.randn(parameter.shape, generator=generator)
    return other


def own_log_p(model, example: Example, replaced=None) -> float:
    """Mean log-probability of the answer by the model's plain forward pass on this text alone.

    `replaced`: (layer, what it gives instead (T, D)) at the positions that predict the answer.
    """
    hook = None
    if replaced is not None:
        number, states = replaced

        def put(_module, _inputs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            answer = slice(example.prompt_length - 1, len(example.tokens) - 1)
            mixed = hidden.clone()
            mixed[:, answer] = states[answer]
            return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

        hook = model.model.layers[number].register_forward_hook(put)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([example.tokens])).logits[0]
    if hook is not None:
        hook.remove()
    log_p = logits.double().log_softmax(-1)
    places = range(example.prompt_length, len(example.tokens))
    return sum(float(log_p[place - 1, example.tokens[place]]) for place in places) / len(places)


def states_of(model, example: Example) -> list[torch.Tensor]:
    """What each layer gives for this text, (T, D), by hooks of its own."""
    found: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(
            lambda _m, _i, out: found.append((out[0] if isinstance(out, tuple) else out)[0])
        )
        for layer in model.model.layers
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([example.tokens]))
    for hook in hooks:
        hook.remove()
    return found


def test_the_lens_of_the_last_layer_is_the_model_itself_and_of_others_norm_and_head():
    model = deep()
    for row, example in zip(looked(model), EXAMPLES, strict=True):
        assert row["lens"][-1] == pytest.approx(own_log_p(model, example), abs=1e-6)
        with torch.no_grad():
            for shown, hidden in zip(row["lens"], states_of(model, example), strict=True):
                log_p = model.lm_head(model.model.norm(hidden)).double().log_softmax(-1)
                places = range(example.prompt_length, len(example.tokens))
                by_hand = [float(log_p[place - 1, example.tokens[place]]) for place in places]
                assert shown == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-5)
        assert row["layers"] == [0, 1, 2, 3]
        assert "drop" not in row


@pytest.mark.parametrize("family", FAMILIES)
def test_every_architecture_shows_its_own_output_at_its_last_layer(family: str):
    model = family_model(family, VOCAB).eval()
    rows = looked(model, model)
    for row, example in zip(rows, EXAMPLES, strict=True):
        assert row["lens"][-1] == pytest.approx(own_log_p(model, example), abs=1e-4)
        assert row["drop"] == pytest.approx([0.0] * len(row["layers"]), abs=1e-6)


def test_its_own_states_change_nothing_whatever_is_in_the_batch():
    model = deep()
    for budget in (12, 30, 500):
        for row in looked(model, copy.deepcopy(model), budget=budget):
            assert row["drop"] == pytest.approx([0.0] * 4, abs=1e-6)


def test_patches_are_those_of_plain_hooks_on_each_text_alone():
    original, other = deep(), nearby(deep(), 1)
    rows = looked(other, original)
    for row, example in zip(rows, EXAMPLES, strict=True):
        known, states = own_log_p(original, example), states_of(other, example)
        by_hand = [known - own_log_p(original, example, (layer, states[layer])) for layer in range(4)]
        assert row["drop"] == pytest.approx(by_hand, abs=1e-5)
        assert row["drop"][-1] == pytest.approx(known - own_log_p(other, example), abs=1e-5), (
            "norm and head are the same, so that the last state is the other's answer"
        )
    assert max(abs(drop) for row in rows for drop in row["drop"]) > 0.05


def test_numbers_do_not_depend_on_the_batch():
    original, other = deep(), nearby(deep(), 1)
    apart, together = looked(other, original, budget=1), looked(other, original, budget=1000)
    for one, two in zip(apart, together, strict=True):
        for name in ("lens", "drop"):
            assert one[name] == pytest.approx(two[name], abs=1e-5)


def test_only_the_last_layer_changed_leaves_those_before_it_intact():
    """Layers before it give what they gave; the last one lacks all that the model's output lost."""
    original, retrained = deep(), nearby(deep(), 1)
    unlearned = nearby(original, 2, layers=[3], scale=3.0)
    first, second = looked(retrained, original), looked(unlearned, original)
    depths = []
    for one, two, example in zip(first, second, EXAMPLES, strict=True):
        assert two["drop"][:3] == pytest.approx([0.0] * 3, abs=1e-6)
        lost = own_log_p(original, example) - own_log_p(unlearned, example)
        assert two["drop"][3] == pytest.approx(lost, abs=1e-5)
        if any(drop > 0.05 for drop in one["drop"][:3]):
            carried = sum(drop for drop in one["drop"] if drop > 0.05)
            last = min(max(lost, 0.0), one["drop"][3]) if one["drop"][3] > 0.05 else 0.0
            depths.append(question_depth(one["drop"], two["drop"]))
            assert depths[-1] == pytest.approx(last / carried, abs=1e-4)
    assert depths and max(depths) < 1, "what layers before the last one carry is not erased"


def test_the_ends_of_the_scale():
    original, retrained = deep(), nearby(deep(), 1)
    first = looked(retrained, original)
    depths = [
        [
            question_depth(one["drop"], two["drop"])
            for one, two in zip(first, looked(model, original), strict=True)
        ]
        for model in (original, retrained)
    ]
    carried = [place for place, row in enumerate(first) if max(row["drop"]) > 0.05]
    assert carried
    assert [depths[0][place] for place in carried] == [0.0] * len(carried)
    assert [depths[1][place] for place in carried] == [1.0] * len(carried)


def test_a_prompt_of_another_length_is_paired_by_answer_token():
    """An instruction before the question, as InContext has it; the model itself is `original`."""
    model = deep()
    longer = [Example((7, 9, *e.tokens), e.prompt_length + 2, e.index) for e in EXAMPLES]
    rows = looked(model, model, examples=longer, asked=EXAMPLES)
    for row, example, own in zip(rows, longer, EXAMPLES, strict=True):
        assert row["lens"][-1] == pytest.approx(own_log_p(model, example), abs=1e-5)
        lost = own_log_p(model, own) - own_log_p(model, example)
        assert row["drop"][-1] == pytest.approx(lost, abs=1e-5)


def test_every_kth_layer_and_the_last():
    model, other = deep(), nearby(deep(), 1)
    every, some = looked(other, model), looked(other, model, every=3)
    assert [row["layers"] for row in some] == [[2, 3]] * len(RECORDS)
    for one, two in zip(every, some, strict=True):
        for name in ("lens", "drop"):
            assert two[name] == pytest.approx(one[name][2:], abs=1e-6)


def test_what_cannot_be_looked_into():
    model = deep()
    with pytest.raises(UserError, match=r"layers: found 4, and the model has 4 layers; take at most 3"):
        looked(model, every=4)
    with pytest.raises(UserError, match="two layers or more"):
        looked(tiny_model(num_hidden_layers=1))
    others = [Example((*e.tokens[:-1], 3), e.prompt_length, e.index) for e in EXAMPLES]
    with pytest.raises(UserError, match="other tokens in `original`"):
        looked(model, model, asked=others)
    broken = deep()
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match=r"'q\d'.*not a finite number"):
        looked(broken)


def test_a_decoder_that_does_more_after_its_last_layer_is_refused(monkeypatch):
    model = deep()
    plain = model.model.forward

    def more(*args, **kwargs):
        output = plain(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * 2
        return output

    monkeypatch.setattr(model.model, "forward", more)
    with pytest.raises(UserError, match="does more after its last layer"):
        looked(model)
