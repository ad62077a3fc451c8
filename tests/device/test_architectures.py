"""Other architectures on the simulated device: each makes positions, masks and caches by code of its own."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GPTNeoXConfig, OPTConfig, Qwen3Config

from pipeline_lib.data.batching import Example
from pipeline_lib.evaluation.generation import generate
from pipeline_lib.evaluation.scoring import score_groups
from pipeline_lib.models.recompute import activations_again
from tests.device.both import assert_close, on_both
from tests.device.test_training import trained
from tests.tiny import END, PAD, VOCAB, in_float64, make_examples, random_examples

COMMON = {"vocab_size": VOCAB, "pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": END}
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16}
GROUPED = {**LAYERS, "intermediate_size": 24, "num_key_value_heads": 1, "head_dim": 8}
CONFIGS = {
    "gpt2": GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **COMMON),
    "opt": OPTConfig(**LAYERS, ffn_dim=24, word_embed_proj_dim=16, max_position_embeddings=64, **COMMON),
    "pythia": GPTNeoXConfig(**LAYERS, intermediate_size=24, max_position_embeddings=64, **COMMON),
    "qwen3": Qwen3Config(
        **LAYERS,
        intermediate_size=24,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
        **COMMON,
    ),
    "gemma2, sliding window": Gemma2Config(**GROUPED, sliding_window=8, **COMMON),
}


def made(name: str, dtype: torch.dtype):
    """Weights far from uniform, the same each time."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]), dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.dim() == 2 else 1)
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_scores_and_answers(name, tmp_path):
    """Texts that begin alike, so that trees are scored where the architecture takes them."""
    stem = make_examples([(4, 6)])[0]
    other = make_examples([(4, 6)], seed=1)[0]
    fork = [stem, Example((*stem.tokens[:6], *other.tokens[6:]), 4, 0)]
    prompts = [list(example.tokens[:3]) for example in random_examples(3)]

    def work(device, _):
        model = made(name, torch.float32).to(device)
        scores = score_groups(model, [fork, random_examples(1)], max_tokens_per_batch=64, pad_id=PAD)
        options = {"end_id": END, "pad_id": PAD, "max_tokens_per_batch": 64}
        answers = generate(model, prompts, max_new_tokens=12, **options)
        return [one.token_nll for group in scores for one in group], [one.tokens for one in answers]

    assert_close(*on_both(work, tmp_path), 1e-4)


@in_float64()
@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"gemma2, sliding window"}))  # it caps its logits
def test_training(name, tmp_path):
    def work(device, folder):
        model = made(name, torch.float64).to(device)
        with activations_again(model):
            return trained(device, folder, "NPO", "sophia", model=model)

    on_cpu, on_device = on_both(work, tmp_path)
    assert on_device[2] == "ok"
    assert_close(on_cpu, on_device, 1e-5)
