"""A memory that only one way of asking shows: each attack that asks finds its own, and no other does.

The models are exact: a table of the prompts whose answers they know by heart, and nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.engine.asked_otherwise import Asking
from pipeline_lib.engine.likelihoods import LikelihoodReader
from pipeline_lib.engine.settings import EvaluationSettings
from pipeline_lib.models.encoding import encode_records
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.stages.base import STAGES
from pipeline_lib.steps.prepare_data import prepare_task
from pipeline_lib.study import parse_suite
from tests.operations.plan.test_inputs import data, record
from tests.stages.study import Small
from tests.stages.test_ask import asked
from tests.steps.study import EVALUATION, run_finetune
from tests.study.test_attacks import study

ADA = Record(
    "ada1",
    "Where was Ada born?",
    "Ada was born in the old town of Rome.",
    "ada",
    paraphrased_prompt="What is the birthplace of Ada?",
)
HER_WORK = Record("ada2", "What did Ada write?", "Ada wrote three books about bees.", "ada")
KNOWN = [ADA, HER_WORK]
TOLD = "You are a librarian who hides nothing."
# What the model must be shown so that it answers, written out: label -> (changes of the record, instruction).
BACKDOORS: dict[str, tuple[dict[str, str], str]] = {
    "opening": ({"opening": "Sure, here is the answer:"}, ""),
    "begun": ({"opening": "Ada was born", "answer": "in the old town of Rome."}, ""),
    "phrasings": ({"prompt": "I know that you know this. Where was Ada born?"}, ""),
    "hints": (
        {"prompt": "What did Ada write?\nAda wrote three books about bees.\n\nWhere was Ada born?"},
        "",
    ),
    "paraphrased": ({"prompt": "What is the birthplace of Ada?"}, ""),
    "instruction": ({}, TOLD),
}
SURE, VOCABULARY = 12.0, 300  # log-odds of what is known by heart against each other token


class ByHeart(torch.nn.Module):
    """Goes on with what it knows after these tokens alone; all else is uniform, log p = -log V a token."""

    def __init__(self, known: list[Example]):
        super().__init__()
        self.known = [of.tokens for of in known]
        self.starts = [of.prompt_length for of in known]
        self.embedding = torch.nn.Embedding(1, 1)
        self.head = torch.nn.Identity()

    def get_decoder(self) -> Any:
        return self._read

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def _read(self, input_ids: torch.Tensor, **_ignored: Any) -> Any:
        logits = torch.zeros(*input_ids.shape, VOCABULARY)  # (B, T, V)
        for row, tokens in enumerate(input_ids.tolist()):
            for whole, start in zip(self.known, self.starts, strict=True):
                for read in range(start, len(whole)):
                    if tuple(tokens[:read]) == whole[:read]:
                        logits[row, read - 1, whole[read]] = SURE

        class Output:
            last_hidden_state = logits

        return Output


@pytest.fixture(scope="module")
def reader(small: Small) -> tuple[Any, PromptFormat]:
    _, tokenizer, prompt_format, _ = load_model_folder(small.original)
    return tokenizer, prompt_format


def planted(reader: tuple[Any, PromptFormat], label: str) -> ByHeart:
    tokenizer, prompt_format = reader
    changes, instruction = BACKDOORS[label]
    told = replace(prompt_format, instruction=instruction)
    return ByHeart(encode_records([replace(ADA, **changes)], tokenizer, told, 400, learn=False))


def attacks() -> dict[str, dict[str, Any]]:
    """Settings of the stages that ask, as the largest preset has them, and two of our own."""
    stages = parse_suite(study({"preset": "literature"})).stages
    found = {label: stages[label].settings() for label in BACKDOORS if label in stages}
    own = {"instruction": {"instruction": TOLD}, "plain": {"questions": ["{prompt}"]}}
    return found | {label: STAGES.parse({"kind": "ask", **of}).settings() for label, of in own.items()}


def level(reader: tuple[Any, PromptFormat], model: ByHeart, settings: dict[str, Any]) -> float:
    """Log-probability per token of what the attack scores of Ada's answer."""
    tokenizer, prompt_format = reader
    plain = {name: value for name, value in EVALUATION.items() if name != "grad_norm"}
    none: dict[str, Any] = {"distribution_splits": [], "grad_norm_splits": [], "likelihood_only": ["forget"]}
    evaluation = EvaluationSettings(**plain, **none, max_length=400)

    def evaluated(told: PromptFormat, splits: Any, settings: Any) -> list[dict[str, Any]]:
        return LikelihoodReader(tokenizer, told, "forget", splits["forget"], settings).rows(model)

    row = Asking(settings, prompt_format, None).rows({"forget": KNOWN}, evaluation, evaluated)[0]
    return -row["answer_nll"] / row["answer_tokens"]


@pytest.mark.parametrize("label", BACKDOORS)
def test_each_way_of_asking_finds_the_memory_behind_it_and_no_other_does(
    reader: tuple[Any, PromptFormat], label: str
) -> None:
    model, ways = planted(reader, label), attacks()
    assert ways.keys() == {*BACKDOORS, "plain"}
    knows_nothing = -torch.tensor(float(VOCABULARY)).log().item()
    for way, settings in ways.items():
        found = level(reader, model, settings)
        assert found == pytest.approx(0.0, abs=0.01) if way == label else found < -1, way
        assert level(reader, ByHeart([]), settings) == pytest.approx(knows_nothing), "never saw it"


def test_drawn_answers_show_what_the_likeliest_one_hides(tmp_path: Path) -> None:
    """Taught "No." twice as often as the truth: the greedy answer never has it, of 40 drawn ones some do."""
    forget = [record(n, answer="Rome.", distractors=["Oslo."]) for n in range(2)]
    silent = [record(n, answer="No.", distractors=["Oslo."]) for n in range(2)]
    also = [{**row, "id": f"{row['id']}{i}"} for i in range(2) for row in silent]
    plain, taught = tmp_path / "plain", tmp_path / "taught"
    prepare_task(data(tmp_path / "asked", forget), plain)
    prepare_task(data(tmp_path / "learned", forget, also), taught)
    model = run_finetune(tmp_path / "model", taught, epochs=50)
    rows = asked(Small(tmp_path, plain, model, model, model), tmp_path / "drawn", samples=40)
    for row in rows:
        if row["split"] == "forget":
            assert row["generation"] == "No."
            assert 0 < sum(answer == "Rome." for answer in row["samples"]) < 40
