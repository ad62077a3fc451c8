"""A tiny model and a few records with all their texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.data.records import Record
from pipeline_lib.engine.settings import EvaluationSettings, SplitSampling


def make_records(n: int = 7, groups: int = 3) -> list[Record]:
    """Questions of different length; every third has no paraphrase, as TOFU's world facts."""
    return [
        Record(
            id=f"q{i}",
            prompt="Who wrote the book " + "about the river " * (i % 4) + f"number {i}?",
            answer=f"The author of book {i} is Ada{' the elder' * (i % 3)}.",
            group=f"author{i % groups}",
            paraphrased_answer=None if i % 3 == 2 else f"Book {i} was written by Ada.",
            distractors=tuple(f"The author of book {i} is {name}." for name in ("Bo", "Cy Adams", "Di"))[
                : 2 + i % 2
            ],
        )
        for i in range(n)
    ]


# What `evaluate_model` is given for a small model; a test changes what it is about.
SETTINGS: dict[str, Any] = {
    "max_new_tokens": 6,
    "max_tokens_per_batch": 200,
    "max_records": None,
    "max_length": 200,
    "compute": "fp32",
    "likelihood_only": [],
    "distribution_splits": [],
    "grad_norm_splits": [],
    "samples": None,
    "as_released": False,
}


def settings_of(given: dict[str, Any]) -> EvaluationSettings:
    """The typed settings of such a block."""
    samples = given["samples"] and SplitSampling(**given["samples"])
    return EvaluationSettings(**{**given, "samples": samples})


@pytest.fixture(scope="session")
def records() -> list[Record]:
    return make_records()


@pytest.fixture(scope="session")
def tiny(records):
    """(model, tokenizer, prompt_format): an untrained Llama, weights widened for uneven predictions."""
    from pipeline_lib.models.prompt import PromptFormat
    from pipeline_lib.models.scratch import PROMPT_TEMPLATE, build_scratch
    from pipeline_lib.models.settings import ScratchModel

    settings = ScratchModel(
        source="scratch",
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        layers=2,
        heads=4,
        kv_heads=2,
        max_length=256,
    )
    model, tokenizer = build_scratch(settings, [record.answer for record in records], seed=0)
    for parameter in model.parameters():
        parameter.data.mul_(5 if parameter.ndim == 2 else 1)
    return model, tokenizer, PromptFormat("template", template=PROMPT_TEMPLATE)


@pytest.fixture(scope="session")
def smollm2():
    """(model, tokenizer, prompt_format) of a real pretrained model."""
    root = os.environ.get("PIPELINE_MODELS")
    if not root or not (Path(root) / "SmolLM2-135M-Instruct" / "config.json").is_file():
        pytest.skip("needs SmolLM2-135M-Instruct under $PIPELINE_MODELS")
    from pipeline_lib.models.prompt import PromptFormat
    from pipeline_lib.models.source import load_folder

    return *load_folder(Path(root) / "SmolLM2-135M-Instruct"), PromptFormat("chat")
