"""Which files of this machine each block of a suite reads, and that they alone make its identity."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.data.contents import Contents
from pipeline_lib.study import parse_suite
from pipeline_lib.study.contents_read import _visible, identities, read_by
from tests.study.suites import small

COMMIT = "0" * 40


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PIPELINE_DATA", "PIPELINE_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def block(kind: str, settings: dict[str, Any]):
    """One model or task of a suite."""
    return getattr(parse_suite(small(**{kind: {"own": settings}})), kind)["own"]


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)


def files_of(found) -> dict[str, set[str]]:
    return {field: set(files) for field, _, files in read_by(found)}


def test_only_the_named_files_of_a_folder_count():
    make("own/forget.jsonl", "own/retain.jsonl", "own/notes.txt", "own/world.jsonl")
    task = block("tasks", {"source": "files", "folder": "own", "facts": "world.jsonl"})
    assert files_of(task) == {"folder": {"forget.jsonl", "retain.jsonl", "world.jsonl"}}


def test_of_a_model_folder_what_a_loader_reads_counts():
    loaded = {"config.json", "model-1.safetensors", "model.safetensors.index.json", "tokenizer.json"}
    loaded |= {"tokenizer.model", "chat_template.jinja", "additional_chat_templates/rag.jinja"}
    others = ["README.md", "pytorch_model.bin", "checkpoint-5/model.safetensors", "results.json", "run.json"]
    others += ["consolidated.safetensors"]  # of another loader
    make(*(f"weights/{name}" for name in (*loaded, *others)))
    index = {"weight_map": {"a": "model-1.safetensors"}}
    Path("weights/model.safetensors.index.json").write_text(json.dumps(index))
    model = block("models", {"source": "folder", "path": "weights"})
    assert files_of(model) == {"path": loaded}
    Path("weights/model-1.safetensors").unlink()  # is for the job to say, and counts as a change
    assert files_of(model) == {"path": loaded - {"model-1.safetensors"} | {"consolidated.safetensors"}}


def test_a_copy_stands_in_for_the_hub_and_the_hub_has_its_revision(monkeypatch):
    model = block("models", {"source": "hub", "id": "some/model", "revision": COMMIT})
    contents = Contents(Path("kept.json"))
    assert identities(model, contents) == {}, "nothing is at hand, and nothing ever was"
    make("models/some/model/config.json", "models/some/model/model.safetensors")
    monkeypatch.setenv("PIPELINE_MODELS", "models")
    copied = identities(model, contents)
    assert set(copied) == {"files"}
    Path("models/some/model/model.safetensors").write_text("other weights")
    edited = identities(model, Contents(Path("kept.json")))
    assert edited != copied
    monkeypatch.delenv("PIPELINE_MODELS")
    assert identities(model, Contents(Path("kept.json"))) == edited, "the copy is only out of sight"
    make(f"hub/models--some--model/snapshots/{COMMIT}/config.json")
    assert identities(model, Contents(Path("kept.json"))) == {}, "now the hub's own is read"


@pytest.mark.parametrize("suffix", ["gguf", "folder"])
def test_the_same_model_elsewhere_is_the_same(suffix):
    for place in ("one", "two"):
        make(f"{place}/config.json", f"{place}/model.safetensors", f"{place}.gguf")
        for file in (Path(place, "config.json"), Path(place, "model.safetensors"), Path(f"{place}.gguf")):
            file.write_text("the same")
    ending = ".gguf" if suffix == "gguf" else ""
    found = [
        identities(block("models", {"source": suffix, "path": place + ending}), Contents(Path("kept.json")))
        for place in ("one", "two")
    ]
    assert found[0] == found[1] and set(found[0]) == {"path"}


def test_a_book_its_second_text_and_its_tokenizer():
    make("book.txt", "other.txt", "tok/tokenizer.json")
    settings = {
        "source": "passages",
        "book": "book.txt",
        "retain": {"source": "text", "path": "other.txt", "n": 4},
        "tokenizer": {"path": "tok"},
    }
    names = {"book": {""}, "retain.path": {""}, "tokenizer.path": {"tokenizer.json"}}
    assert files_of(block("tasks", settings)) == names
    generated = {"source": "passages", "book": "generated", "retain": {"source": "generated"}}
    assert files_of(block("tasks", generated)) == {}


def test_data_sets_read_their_own_files_of_a_folder_or_stand_in(monkeypatch):
    make(
        "data/tofu/full.json",
        "data/safe_rlhf/pairs.jsonl",
        "data/c4/b.jsonl",
        "data/c4/a.json.gz",
        "data/c4/x",
    )
    monkeypatch.setenv("PIPELINE_DATA", "data")
    tofu = files_of(block("tasks", {"source": "tofu", "forget": "forget01"}))["files"]
    assert {"forget01.json", "forget01_perturbed.json", "retain99.json"} < tofu
    assert not any("05" in name or "10" in name for name in tofu)
    detox = {"files": {"pairs.jsonl"}, "retain": {"b.jsonl", "a.json.gz"}}
    assert files_of(block("tasks", {"source": "detox"})) == detox
    make("own/round0/train.jsonl.xz", "own/other.jsonl")
    own = block("tasks", {"source": "detox", "folder": "own", "retain": {"path": "gone"}})
    assert files_of(own) == {"folder": {"round0/train.jsonl.xz"}, "retain": {"gone"}}
    assert set(identities(own, Contents(Path("kept.json")))) == {"folder"}


def test_what_an_evaluation_reads(monkeypatch):
    make(
        "bert/config.json", "bert/1_Pooling/config.json", "prompts.jsonl", "tried.jsonl", "judge/config.json"
    )
    make(
        "b/commonsense/arc_easy_test.jsonl", "b/mmlu/test.jsonl", "b/mmlu/dev.jsonl", "b/truthfulqa/mc.jsonl"
    )
    toxicity = {
        "classifier": {"kind": "folder", "path": "judge", "label": "toxic"},
        "prompts": {"source": "file", "path": "prompts.jsonl"},
        "labelled": "tried.jsonl",
    }
    evaluation = {
        "embedder": {"source": "folder", "path": "bert"},
        "benchmarks": {"tasks": ["arc_easy", "mmlu"], "folder": "b"},
        "toxicity": toxicity,
    }
    found = parse_suite(small(evaluation=evaluation)).evaluation
    assert files_of(found) == {
        "embedder.path": {"config.json", "1_Pooling/config.json"},
        "benchmarks": {"commonsense/arc_easy_test.jsonl", "mmlu/test.jsonl", "mmlu/dev.jsonl"},
        "toxicity.classifier.path": {"config.json"},
        "toxicity.prompts.path": {""},
        "toxicity.labelled": {""},
    }
    make("data/realtoxicityprompts/prompts.jsonl")
    monkeypatch.setenv("PIPELINE_DATA", "data")
    toxicity["prompts"] = {"source": "hub", "revision": COMMIT}
    hub = parse_suite(small(evaluation={"toxicity": toxicity})).evaluation
    assert files_of(hub)["toxicity.prompts"] == {""}


def test_variables_that_are_not_set_and_absent_places_are_no_error(monkeypatch):
    monkeypatch.setenv("PIPELINE_MODELS", "/nowhere/at/all")
    for kind, settings in (
        ("models", {"source": "folder", "path": "$NOT_SET_HERE/x"}),
        ("models", {"source": "gguf", "path": "gone.gguf"}),
        ("models", {"source": "hub", "id": "some/model", "revision": COMMIT}),
        ("tasks", {"source": "files", "folder": "$NOT_SET_HERE"}),
        ("tasks", {"source": "tofu", "folder": "gone", "alternatives": "$NOT_SET_HERE/a"}),
        ("tasks", {"source": "detox", "folder": "gone"}),
    ):
        assert identities(block(kind, settings), Contents(Path("kept.json"))) == {}


def test_two_places_of_one_block_do_not_stand_for_each_other():
    """Own tasks may name several; each has an identity of its own."""
    make("a.jsonl", "b.jsonl")
    settings = {"source": "tofu", "folder": None, "alternatives": "a.jsonl"}
    kept = Contents(Path("kept.json"))
    first = identities(block("tasks", settings), kept)
    second = identities(block("tasks", {**settings, "alternatives": "b.jsonl"}), kept)
    assert first != second
    assert len(json.loads(Path("kept.json").read_text())["known"]) == 2


def test_hidden_files_of_a_folder_do_not_count():
    make("books/one.txt", "books/.two.txt", "books/.git/three.txt", "books/more/four.txt")
    assert set(_visible(Path("books"))) == {"books/one.txt", "books/more/four.txt"}


def test_of_the_text_of_a_base_every_file_counts():
    make("texts/a.txt", "texts/b.jsonl", "one.txt")
    hub = {"hub": "lab/text", "revision": COMMIT, "file": "c.txt"}
    text = [{"path": "texts"}, {"path": "one.txt"}, hub]
    model = block("models", {"source": "scratch", "pretrain": {"text": text, "steps": 1}})
    assert files_of(model.pretrain) == {"text.0.path": {"a.txt", "b.jsonl"}, "text.1.path": {""}}
    before = identities(model.pretrain, Contents(Path("kept.json")))
    Path("texts/b.jsonl").write_text("another")
    after = identities(model.pretrain, Contents(Path("kept.json")))
    assert {name for name in before if before[name] != after[name]} == {"text.0.path"}
