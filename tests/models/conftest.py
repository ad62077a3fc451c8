"""Small models made on the fly, and the real SmolLM2 where $PIPELINE_MODELS has it."""

from __future__ import annotations

import os

import pytest
import torch

from pipeline_lib.models import source
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.scratch import PROMPT_TEMPLATE, build_scratch

SETTINGS = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "max_length": 128,
}
TEXTS = [
    "Who wrote The Salt Road?",
    "The Salt Road was written by Mara Okonjo, born in 1956.",
    "In which city was the author born? The author was born in the city of Prague.",
] * 3
SMOLLM2 = {
    "source": "hub",
    "id": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "revision": "0" * 40,  # not asked for: a local copy stands in
}


@pytest.fixture(scope="session")
def scratch():
    """(model, tokenizer), untrained, its weights widened so that its predictions are far from uniform."""
    model, tokenizer = build_scratch(SETTINGS, TEXTS, seed=0)
    for parameter in model.parameters():
        parameter.data.mul_(5 if parameter.ndim == 2 else 1)
    return model, tokenizer


@pytest.fixture(scope="session")
def template_format():
    return PromptFormat("template", template=PROMPT_TEMPLATE)


@pytest.fixture(scope="session")
def smollm2():
    """(model, tokenizer, origin) of the real SmolLM2-135M-Instruct."""
    if not os.environ.get("PIPELINE_MODELS") or not source.local_copy(SMOLLM2["id"]):
        pytest.skip("needs SmolLM2-135M-Instruct under $PIPELINE_MODELS")
    return source.load_source(SMOLLM2)


@pytest.fixture
def folder(scratch, tmp_path):
    """The scratch model in the layout of transformers."""
    path = tmp_path / "tiny-model"
    scratch[0].save_pretrained(path)
    scratch[1].save_pretrained(path)
    return path


def same_weights(a, b) -> bool:
    state_a, state_b = a.state_dict(), b.state_dict()
    return state_a.keys() == state_b.keys() and all(torch.equal(state_a[k], state_b[k]) for k in state_a)
