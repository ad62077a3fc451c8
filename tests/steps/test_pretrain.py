"""A base that a study pretrains itself: what is learned, what is held out, and what starts from it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, sha256
from pipeline_lib.models.folder import load_model_folder, weights_sha256
from pipeline_lib.models.source import load_folder
from pipeline_lib.steps.prepare_data import prepare_task
from tests.paths import REPO
from tests.steps.pretraining import STEPS, model_with, run_pretrain, write_story
from tests.steps.study import MODEL, TASK, run_finetune
from tests.steps.test_kill import saved_step
from tests.tiny import flat
from tests.training.runs import timeless

KILL_AFTER = 4


def weights(folder) -> torch.Tensor:
    return flat(list(load_model_folder(folder)[0].parameters()))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_story(tmp_path_factory.mktemp("text") / "story.txt")


@pytest.fixture(scope="module")
def base(tmp_path_factory, text):
    return run_pretrain(tmp_path_factory.mktemp("base"), model_with(text))


def test_run_json_says_what_was_learned_and_what_was_held_out(base, text):
    run = read_json(base / "run.json")
    assert (run["suite"], run["model"], run["status"], run["parent"]) == ("test", "mini", "ok", None)
    assert run["weights_sha256"] == weights_sha256(base) and run["steps"] == STEPS
    (part,) = run["text"]["parts"]
    assert part == {"name": str(text), "documents": 1, "characters": len(text.read_text())}
    judged = run["held_out"]
    windows = run["text"]["tokens"] // 32
    assert judged["windows"] == max(1, round(0.1 * windows)) == windows - run["text"]["windows"]
    assert judged["tokens"] == 31 * judged["windows"]
    assert judged["perplexity"] == pytest.approx(math.exp(judged["nll"] / judged["tokens"]))
    assert judged["bits_per_byte"] == pytest.approx(judged["nll"] / judged["bytes"] / math.log(2))
    assert judged["perplexity"] < 150  # a model that knows nothing has the vocabulary's 300
    assert run["tokens_seen"] == STEPS * 4 * 32
    log = read_jsonl(base.parent / "training" / "steps.jsonl")
    assert [row["step"] for row in log] == list(range(1, STEPS + 1))
    assert log[-1]["loss"] < log[0]["loss"] == pytest.approx(math.log(300), rel=0.05)
    assert not (base.parent / "checkpoint").exists()


def test_held_out_text_is_judged_as_transformers_does_alone(base, text):
    """The same windows, one by one through transformers' own loss and tokenizer."""
    model, tokenizer = load_folder(base)
    tokens = tokenizer(text.read_text(), verbose=False)["input_ids"] + [tokenizer.eos_token_id]
    count = len(tokens) // 32
    kept = max(1, round(0.1 * count))
    places = [(2 * place + 1) * count // (2 * kept) for place in range(kept)]
    rows = [tokens[32 * place : 32 * place + 32] for place in places]
    with torch.no_grad():
        losses = [
            float(model(input_ids=torch.tensor([row]), labels=torch.tensor([row])).loss) for row in rows
        ]
    judged = read_json(base / "run.json")["held_out"]
    assert judged["nll"] == pytest.approx(31 * math.fsum(losses), rel=1e-5)
    spelled = "".join(tokenizer.decode(row[1:], skip_special_tokens=True) for row in rows)
    assert judged["bytes"] == len(spelled.encode())


def test_the_same_seed_gives_the_same_bits_and_another_does_not(base, text, tmp_path):
    again = run_pretrain(tmp_path / "again", model_with(text))
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (base / name).read_bytes()
    other = run_pretrain(tmp_path / "other", model_with(text, seed=1))
    assert (other / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert (other / "model.safetensors").read_bytes() != (base / "model.safetensors").read_bytes()


def test_the_tokenizer_reads_any_text_of_any_task(base):
    tokenizer = load_folder(base)[1]
    strange = "Ærøskøbing 東京 \u202e naïve <eos> 1984\n\t🙂"
    tokens = tokenizer.encode(strange, add_special_tokens=False, split_special_tokens=True)
    assert tokenizer.decode(tokens) == strange and tokenizer.unk_token is None


CHILD = """
import json, sys, time
from pathlib import Path
from pipeline_lib.training import checkpoint
from tests.steps.pretraining import run_pretrain
save = checkpoint.save
checkpoint.save = lambda *arguments: (save(*arguments), time.sleep(0.3))
run_pretrain(Path(sys.argv[1]), json.loads(sys.argv[2]))
"""


def test_kill_9_and_again_gives_the_bytes_of_an_undisturbed_run(base, text, tmp_path, capfd):
    arguments = [str(tmp_path), json.dumps(model_with(text))]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments], cwd=REPO, stderr=subprocess.DEVNULL
    ) as child:
        while saved_step(tmp_path) < KILL_AFTER:
            assert child.poll() is None, "the run ended before it could be killed"
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "model").exists() and KILL_AFTER <= saved_step(tmp_path) < STEPS
    capfd.readouterr()
    again = run_pretrain(tmp_path, model_with(text))
    told = capfd.readouterr().err
    assert "starting over" not in told and "mini: held-out perplexity " in told
    assert (again / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
    assert read_json(again / "run.json")["held_out"] == read_json(base / "run.json")["held_out"]
    logs = [read_jsonl(root / "training" / "steps.jsonl") for root in (tmp_path, base.parent)]
    assert timeless(logs[0]) == timeless(logs[1])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "authors"
    prepare_task(TASK, folder)
    return folder


@pytest.mark.parametrize("method", ["original", "retrained"])
def test_a_fine_tuned_model_starts_from_the_base(method, base, text, data, tmp_path):
    """A rate near nothing leaves the base's weights where they are; every seed and method starts there."""
    made = run_finetune(tmp_path, data, method, model_with(text), base=base, learning_rate=1e-12)
    assert float((weights(made) - weights(base)).abs().max()) < 1e-9
    assert (made / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    run = read_json(made / "run.json")
    assert run["origin"] == {
        "kind": "pretrained",
        "sha256": {"model.safetensors": sha256(base / "model.safetensors")},
    }
    alone = run_finetune(tmp_path / "alone", data, method, MODEL, learning_rate=1e-12)
    assert read_json(alone / "run.json")["origin"] == {"kind": "scratch"}


@pytest.mark.parametrize(
    "words, changes, message",
    [
        (2000, {"vocab_size": 5000}, r"`vocab_size` is 5000, and the text has merges for \d+ tokens alone"),
        (30, {}, r"the text has \d+ tokens: \d+ windows of 32 beside those held out, and a step takes 4"),
        (0, {}, r"story\.txt: holds no text to learn"),
    ],
)
def test_text_that_is_too_little(words, changes, message, tmp_path):
    path = write_story(tmp_path / "story.txt", words)
    with pytest.raises(UserError, match=message):
        run_pretrain(tmp_path, {**model_with(path), **changes})
    assert not (tmp_path / "model").exists()


def test_pretraining_that_diverges_is_an_error(text, tmp_path):
    with pytest.raises(UserError, match=r"of mini diverged at step \d+: lower models\.mini\.pretrain\.learn"):
        run_pretrain(tmp_path, model_with(text, learning_rate=1e30))
    assert not (tmp_path / "model").exists()
