"""Evaluation on the simulated device: the same records, texts and numbers as on the CPU."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline_lib.benchmarks.harness import evaluate_benchmarks
from pipeline_lib.benchmarks.harness_model import EngineLM
from pipeline_lib.benchmarks.tasks import TASKS
from pipeline_lib.engine.choosing import nucleus
from pipeline_lib.engine.classifiers import FolderClassifier, load_classifier
from pipeline_lib.engine.embedding import load_embedder
from pipeline_lib.engine.evaluate import evaluate_model
from pipeline_lib.engine.generation import generate, sample
from pipeline_lib.engine.gradients import gradient_norms
from pipeline_lib.engine.settings import Decoding, Parts, Sampling
from pipeline_lib.models.encoder_settings import FolderEmbedder
from pipeline_lib.models.forward import check_selected_logits
from tests.benchmarks.conftest import asking
from tests.device.accelerator import BACKEND, SimulatedTensor
from tests.device.both import assert_close, on_both
from tests.engine.conftest import SETTINGS, settings_of
from tests.engine.encoders import TEXTS, save_bert, save_classifier
from tests.tiny import END, PAD, random_examples, tiny_model

CLOSE = 5e-5  # fp32, attention by other kernels


def moved(tiny, device):
    model, tokenizer, prompt_format = tiny
    return copy.deepcopy(model).to(device), tokenizer, prompt_format


EVERYTHING = {
    "distribution_splits": ["forget"],  # Min-K%++
    "grad_norm_splits": ["forget"],
    "likelihood_only": ["holdout"],
    "as_released": True,
    "samples": {"n": 2, "temperature": 1.0, "top_p": 0.9, "splits": ["forget"]},
}


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_records(changes, tiny, records, tmp_path):
    """Trees and chains, greedy and drawn answers, gradient norms and similarities, in several batches."""
    save_bert(tmp_path / "encoder")
    splits = {"forget": records[:3], "retain": records[3:5], "holdout": records[5:]}

    def work(device, folder):
        embed = load_embedder(FolderEmbedder(source="folder", path=str(tmp_path / "encoder")), device)
        settings, parts = settings_of({**SETTINGS, **changes}), Parts(folder, "weights")
        embed = embed if changes else None
        return evaluate_model(*moved(tiny, device), splits, settings, parts, embed, progress=False)

    on_cpu, on_device = on_both(work, tmp_path)
    assert len(on_device) == 7
    assert_close(on_cpu, on_device, CLOSE)
    assert ("grad_norm" in on_device[0]) == bool(changes)


def test_answers_greedy_and_drawn(tmp_path):
    """Rows end at different tokens and leave the batch; under autocast answers are of full length too."""
    examples = random_examples(5)
    prompts = [list(example.tokens[: example.prompt_length]) for example in examples]
    sampling, decoding = Sampling(n=3, temperature=1.0, top_p=0.8), Decoding([END], PAD, 40)

    def work(device, _):
        model = tiny_model().to(device)
        drawn = sample(model, prompts, sampling, decoding, seeds=range(5), max_new_tokens=6)
        half = generate(model, prompts, replace(decoding, compute="bf16"), max_new_tokens=6)
        whole = generate(model, prompts, decoding, max_new_tokens=6)
        assert len(half) == 5 and all(len(answer.tokens) <= 6 for answer in half)
        return [[one.tokens, one.ended] for row in (whole, *drawn) for one in row]

    on_cpu, on_device = on_both(work, tmp_path)
    assert on_cpu == on_device
    assert {ended for _, ended in on_device} == {True, False}


def test_a_nucleus_beyond_the_likely_tokens(monkeypatch, tmp_path):
    p = torch.stack([torch.softmax(torch.linspace(0, 1, 50), 0), torch.tensor([0.951, *[0.001] * 49])])
    monkeypatch.setattr("pipeline_lib.engine.choosing.LIKELY", 4)
    on_cpu, on_device = on_both(lambda device, _: nucleus(p.to(device), 0.8).cpu(), tmp_path)
    assert torch.equal(on_cpu, on_device)


def test_gradient_norms(tmp_path):
    examples = random_examples(3)

    def work(device, _):
        return gradient_norms(tiny_model().to(device), examples, PAD)

    assert_close(*on_both(work, tmp_path), CLOSE)


def test_the_check_of_a_model_s_logits_runs_where_the_model_lies(tmp_path):
    def work(device, _):
        model = tiny_model().to(device)
        check_selected_logits(model)
        model.config.vocab_size = 3  # smaller than the tokens that it asks
        check_selected_logits(model)

    on_both(work, tmp_path)


def test_classifier_and_embedder(tmp_path):
    """What they give is on the CPU: numbers and arrays."""
    save_classifier(tmp_path / "c", ["neutral", "toxic"])
    save_bert(tmp_path / "e")

    def work(device, _):
        settings = FolderClassifier(kind="folder", path=str(tmp_path / "c"), label="toxic")
        classifier = load_classifier(settings, device)
        embed = load_embedder(FolderEmbedder(source="folder", path=str(tmp_path / "e")), device)
        vectors = embed(TEXTS)
        assert isinstance(vectors, np.ndarray)
        return classifier.score(TEXTS), vectors.tolist()

    assert_close(*on_both(work, tmp_path), CLOSE)


def test_benchmarks(tiny, data_folder, tmp_path):
    def work(device, folder):
        model, tokenizer, _ = moved(tiny, device)
        lm = EngineLM(model, tokenizer, max_tokens_per_batch=4096, progress=False)
        asked = asking(data_folder, *TASKS, limit=1, mmlu_shots=1)
        return evaluate_benchmarks(lm, asked, folder, "weights")

    on_cpu, on_device = on_both(work, tmp_path)
    assert {row["task"] for row in on_device} == set(TASKS)
    assert_close(on_cpu, on_device, CLOSE)


def test_the_model_that_lm_eval_is_given(tiny, tmp_path):
    def asked(*arguments):
        return SimpleNamespace(args=arguments, task_name="t")

    def work(device, _):
        model, tokenizer, _ = moved(tiny, device)
        ours = EngineLM(model, tokenizer, max_tokens_per_batch=256, progress=False)
        return (
            ours.loglikelihood([asked("Ada wrote", " the book"), asked("", "a lake")]),
            ours.loglikelihood_rolling([asked("The river is long.")]),
            ours.generate_until([asked("Ada", {"until": ["."], "max_gen_toks": 5})]),
        )

    assert_close(*on_both(work, tmp_path), CLOSE)


def test_a_batch_that_does_not_fit_on_the_device_is_halved(tiny, records, tmp_path, monkeypatch):
    """The device's own error, in the middle of a forward pass; nothing of the failed one is left."""
    limit, failed = 2, []
    original = torch.nn.functional.silu

    def small(x, *rest, **options):
        if len(x) > limit and isinstance(x, SimulatedTensor):
            failed.append(len(x))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(x, *rest, **options)

    monkeypatch.setattr(torch.nn.functional, "silu", small)

    def work(device, folder):
        settings = settings_of({**SETTINGS, "max_tokens_per_batch": 2000})
        splits, parts = {"forget": records}, Parts(folder, "w")
        return evaluate_model(*moved(tiny, device), splits, settings, parts, progress=False)

    on_cpu, on_device = on_both(work, tmp_path)
    assert failed and max(failed) > limit
    assert_close(on_cpu, on_device, CLOSE)


def test_generation_waits_for_the_device_a_few_times_a_token(tmp_path):
    """Each wait leaves a GPU idle: the loop reads whether logits are finite and what was chosen."""
    prompts = [[5, 6, 7], [8, 9]]

    def work(device, _):
        model = tiny_model().to(device)
        counts = []
        for limit in (2, 12):
            before = BACKEND.synchronisations
            generate(model, prompts, Decoding([999], PAD, 100), max_new_tokens=limit)
            counts.append(BACKEND.synchronisations - before)
        return (counts[1] - counts[0]) / 10

    _, per_token = on_both(work, tmp_path)
    assert per_token <= 3
