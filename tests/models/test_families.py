"""Every architecture against transformers alone, one prompt at a time: likelihoods, answers, a training step.

Weights are random and far from uniform; windows and caps are small enough to matter for these texts.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, OpenAIGPTConfig

import pipeline_lib
from pipeline_lib.data.batching import IGNORED, Batch, Example, collate
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.likelihoods import group_likelihoods
from pipeline_lib.engine.settings import Decoding
from pipeline_lib.models.adapters import attach, detach
from pipeline_lib.models.forward import (
    answer_logits,
    check_selected_logits,
    context_length,
    over_vocabulary,
    summed_nll,
)
from pipeline_lib.models.head import OwnHead, output_head
from tests.methods import make_objective
from tests.models.families import FAMILIES, family_model
from tests.tiny import pad_right

VOCABULARY = 96
PAD, END = 0, 2
LENGTHS = (5, 23, 9, 40)
CHANGED_LOGITS = {"cohere", "cohere2", "gemma2", "gemma3 capped", "granite"}

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, family_model(request.param, VOCABULARY)


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in LENGTHS]


def nll_of_transformers(model: Any, tokens: list[int], first: int) -> torch.Tensor:
    """Summed NLL in nats of `tokens[first:]`, of the model's own forward pass over them alone."""
    ids = torch.tensor([tokens])
    labels = ids.clone()
    labels[:, :first] = IGNORED
    logits = model(input_ids=ids, use_cache=False).logits.float()  # (1, T, V)
    return F.cross_entropy(logits[0, :-1], labels[0, 1:], reduction="sum")


def test_loading_would_accept_it(family: tuple[str, Any]) -> None:
    name, model = family
    check_selected_logits(model)
    assert isinstance(output_head(model), OwnHead) == (name in CHANGED_LOGITS)


def test_likelihoods(family: tuple[str, Any]) -> None:
    """In one batch, and as trees of two texts that part after four tokens."""
    _, model = family
    texts = prompts()
    forks = [[*text[:4], 7, 8, 9, *text[4:]] for text in texts]
    groups = [
        [Example(tuple(own), 2, i) for own in pair] for i, pair in enumerate(zip(texts, forks, strict=True))
    ]
    scores = group_likelihoods(model, groups, max_tokens_per_batch=512, pad_id=PAD)
    with torch.no_grad():
        batched = summed_nll(model, collate([group[0] for group in groups], PAD))
        for i, pair in enumerate(zip(texts, forks, strict=True)):
            expected = [float(nll_of_transformers(model, text, 2)) for text in pair]
            assert float(batched[i]) == pytest.approx(expected[0], abs=1e-3)
            assert [score.nll for score in scores[i]] == pytest.approx(expected, abs=1e-3)


def test_greedy_answers(family: tuple[str, Any]) -> None:
    """Prompts of four lengths share a batch; answers outlast a window, and the cache holds them."""
    _, model = family
    ours = generate(model, prompts(), Decoding([END], PAD, 4096), max_new_tokens=12)
    for prompt, found in zip(prompts(), ours, strict=True):
        ids = torch.tensor([prompt])
        asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 12}
        made = model.generate(**asked, do_sample=False, eos_token_id=END, pad_token_id=PAD)
        made = made[0, len(prompt) :].tolist()
        assert found.tokens == (made[: made.index(END)] if END in made else made)


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_training_step_knows_no_padding(family: tuple[str, Any]) -> None:
    """Loss and gradient of three texts together, padded further, are the sum over each alone."""
    _, model = family
    texts = [text[:12] for text in prompts()[:3]]
    batch = pad_right(collate([Example(tuple(t), 2, i) for i, t in enumerate(texts)], PAD), 7, PAD)
    together = summed_nll(model, batch).sum()
    apart = torch.stack([nll_of_transformers(model, text, 2) for text in texts]).sum()
    assert float(together.detach()) == pytest.approx(float(apart.detach()), rel=1e-4)
    expected, found = gradients(model, apart), gradients(model, together)
    assert found.keys() == expected.keys()
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, gradient in expected.items():
        assert float((found[name] - gradient).abs().max()) < 1e-3 * scale, name


@pytest.mark.parametrize("name", sorted(CHANGED_LOGITS))
def test_objectives_see_the_changed_logits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CE-U of logits that are capped or scaled, whole and in pieces, by its definition."""
    model = family_model(name, VOCABULARY)
    text = prompts()[1]
    batch: Batch = collate([Example(tuple(text), 2, 0)], PAD)
    logits = model(input_ids=torch.tensor([text]), use_cache=False).logits[0, 1:-1].float()
    targets = torch.tensor(text[2:])
    wanted = logits.detach().scatter(-1, targets[:, None], -torch.inf).softmax(-1)
    expected = F.cross_entropy(logits, wanted)
    by_hand = gradients(model, expected)
    for at_once in (1 << 24, 5 * VOCABULARY):
        monkeypatch.setattr("pipeline_lib.models.forward.LOGITS_AT_ONCE", at_once)
        losses = make_objective("CEU", skip_first_token=False)(model, batch, None)
        assert float(losses.total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
        found = gradients(model, losses.total)
        scale = max(float(gradient.abs().max()) for gradient in by_hand.values())
        assert all(float((found[n] - g).abs().max()) < 1e-4 * scale for n, g in by_hand.items())


def test_a_cap_reaches_the_logits() -> None:
    """By hand: 3 tanh(z / 3) of the projection z."""
    model = family_model("gemma2", VOCABULARY)
    hidden = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))  # (N, D)
    expected = 3 * torch.tanh(hidden @ model.get_output_embeddings().weight.T / 3)
    assert torch.allclose(output_head(model)(hidden), expected, atol=1e-5)
    (total,) = over_vocabulary(output_head(model), hidden, lambda logits: (logits.sum(),))
    assert float(total.detach()) == pytest.approx(float(expected.sum().detach()), rel=1e-5)


def test_the_head_leaves_the_model_as_it_was() -> None:
    model = family_model("cohere", VOCABULARY)
    parts = dict(model.named_modules())
    batch = collate([Example((5, 6, 7, 8), 2, 0)], PAD)
    before = answer_logits(model, batch)[0]
    head = output_head(model)
    with pytest.raises(RuntimeError):
        head(torch.ones(2, 7))  # another width than the model's
    assert dict(model.named_modules()) == parts
    assert torch.equal(answer_logits(model, batch)[0], before)


class Leaking(torch.nn.Module):
    """Adds to every state the mean over its row: what follows a token, and padding, would tell."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + hidden.mean(1, keepdim=True)


def test_a_model_whose_numbers_depend_on_the_batch_is_refused() -> None:
    model = family_model("llama", VOCABULARY)
    check_selected_logits(model)
    model.model.norm = torch.nn.Sequential(model.model.norm, Leaking())
    with pytest.raises(ValueError, match=r"beside padding on the right.*depend on how they"):
        check_selected_logits(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_merge_into_what_was_trained(name: str) -> None:
    """Experts in one tensor are left alone: every other linear layer but the output embedding is adapted."""
    model = family_model(name, VOCABULARY)
    batch = collate([Example(tuple(prompts()[0]), 2, 0)], PAD)
    plain = {key: value.clone() for key, value in model.state_dict().items()}
    attach(model, rank=2, alpha=4.0, dropout=0.0, target="all-linear", seed=0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".lora_B" in key:
                parameter.add_(0.1)
        adapted = answer_logits(model, batch)[0]
        detach(model, merge=True)
        assert torch.allclose(answer_logits(model, batch)[0], adapted, atol=1e-3)
    assert model.state_dict().keys() == plain.keys()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, plain[key])}
    assert changed and all(plain[key].dim() == 2 for key in changed)


@pytest.mark.parametrize("name", FAMILIES)
def test_rmu_finds_the_layers_and_what_leads_out_of_their_mlp(name: str) -> None:
    model = family_model(name, VOCABULARY)
    batch = collate([Example(tuple(prompts()[0]), 2, 0)], PAD)
    rmu = make_objective(
        "RMU",
        layer=1,
        update_layers=1,
        steering=2.0,
        alpha=1.0,
        direction_seed=0,
        reference_model=lambda: nullcontext(model),
    )
    trained = rmu.trainable(model)
    assert trained and all(".1." in key for key in trained)
    found = gradients(model, rmu(model, batch, batch).total)
    assert set(trained) <= set(found)


@pytest.mark.parametrize("name", ["gpt neo", "mpt", "codegen"])
def test_answers_of_many_lengths_stay_within_tables_of_positions(name: str) -> None:
    """A short prompt with a long answer does not wait behind a long prompt until the table is over."""
    sizes = FAMILIES[name][1]
    context = next(key for key in ("max_position_embeddings", "n_positions", "max_seq_len") if key in sizes)
    model = family_model(name, VOCABULARY, **{context: 48})
    assert context_length(model) == 48
    texts, limits = [prompts()[3][:40], prompts()[2]], [8, 39]
    decoding = Decoding([VOCABULARY], PAD, 4096)
    together = generate(model, texts, decoding, max_new_tokens=limits)
    alone = [
        generate(model, [text], decoding, max_new_tokens=n)[0] for text, n in zip(texts, limits, strict=True)
    ]
    assert together == alone and [len(answer.tokens) for answer in together] == limits


def test_logits_come_from_the_head_alone() -> None:
    """What reads an output embedding itself would miss a cap or a scale."""
    package = Path(pipeline_lib.__file__).parent
    parts = ("objectives", "evaluation", "training", "curvature", "influence", "attacks", "steps")
    named = {
        str(file.relative_to(package))
        for part in parts
        for file in (package / part).rglob("*.py")
        if "get_output_embeddings" in file.read_text(encoding="utf-8")
    }
    assert named == {"influence/ekfac.py"}  # to tell which layer it is


def test_a_model_without_a_cache_is_refused() -> None:
    """The first GPT reads every token again; asked for one more token alone, it would forget the others."""
    config = OpenAIGPTConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(ValueError, match="does not run as a decoder and an output embedding do"):
        check_selected_logits(model)
