"""Other architectures on the simulated device: each makes positions, masks and caches by code of its own."""

from __future__ import annotations

import pytest
import torch

from pipeline_lib.data.batching import Example
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.likelihoods import group_likelihoods
from pipeline_lib.engine.settings import Decoding
from pipeline_lib.models.forward import check_selected_logits
from pipeline_lib.models.recompute import activations_again
from tests.device.both import assert_close, on_both
from tests.device.test_training import trained
from tests.models.families import family_model
from tests.tiny import END, PAD, VOCAB, in_float64, make_examples, random_examples

# One of each way of making positions, masks, caches and logits; weights and attention as when loaded.
NAMES = ("gpt2", "opt", "pythia", "qwen3", "gemma2", "gpt neo", "bloom", "mpt", "cohere")


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_answers(name, tmp_path):
    """Texts that begin alike, so that trees are scored where the architecture takes them."""
    stem = make_examples([(4, 6)])[0]
    other = make_examples([(4, 6)], seed=1)[0]
    fork = [stem, Example((*stem.tokens[:6], *other.tokens[6:]), 4, 0)]
    prompts = [list(example.tokens[:3]) for example in random_examples(3)]

    def work(device, _):
        model = family_model(name, VOCAB).to(device)
        check_selected_logits(model)
        scores = group_likelihoods(model, [fork, random_examples(1)], max_tokens_per_batch=64, pad_id=PAD)
        answers = generate(model, prompts, Decoding([END], PAD, 64), max_new_tokens=12)
        return [one.token_nll for group in scores for one in group], [one.tokens for one in answers]

    assert_close(*on_both(work, tmp_path), 1e-4)


@in_float64()
@pytest.mark.parametrize("name", NAMES)
def test_training(name, tmp_path):
    def work(device, folder):
        model = family_model(name, VOCAB, torch.float64).to(device)
        with activations_again(model):
            return trained(device, folder, "NPO", "sophia", model=model)

    on_cpu, on_device = on_both(work, tmp_path)
    assert on_device[2] == "ok"
    assert_close(on_cpu, on_device, 1e-5)
