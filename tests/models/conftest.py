"""Small models made on the fly, and the real SmolLM2 where $PIPELINE_MODELS has it."""

from __future__ import annotations

import os

import pytest
import torch

from pipeline_lib.models.hub import local_copy
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.scratch import PROMPT_TEMPLATE, build_scratch
from pipeline_lib.models.settings import FolderModel, GgufModel, HubModel, ScratchModel
from pipeline_lib.models.source import load_source

SETTINGS = ScratchModel(
    source="scratch",
    vocab_size=320,
    hidden_size=32,
    intermediate_size=64,
    layers=2,
    heads=4,
    kv_heads=2,
    max_length=128,
)
TEXTS = [
    "Who wrote The Salt Road?",
    "The Salt Road was written by Mara Okonjo, born in 1956.",
    "In which city was the author born? The author was born in the city of Prague.",
] * 3
SMOLLM2 = HubModel(
    source="hub",
    id="HuggingFaceTB/SmolLM2-135M-Instruct",
    revision="0" * 40,  # not asked for: a local copy stands in
)


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
    if not os.environ.get("PIPELINE_MODELS") or not local_copy(SMOLLM2.id):
        pytest.skip("needs SmolLM2-135M-Instruct under $PIPELINE_MODELS")
    return load_source(SMOLLM2)


@pytest.fixture
def folder(scratch, tmp_path):
    """The scratch model in the layout of transformers."""
    path = tmp_path / "tiny-model"
    scratch[0].save_pretrained(path)
    scratch[1].save_pretrained(path)
    return path


def from_folder(path):
    """(model, tokenizer, origin) of a suite's model with this path."""
    return load_source(FolderModel(source="folder", path=str(path)))


def from_gguf(path):
    return load_source(GgufModel(source="gguf", path=str(path)))


def same_weights(a, b) -> bool:
    state_a, state_b = a.state_dict(), b.state_dict()
    return state_a.keys() == state_b.keys() and all(torch.equal(state_a[k], state_b[k]) for k in state_a)
