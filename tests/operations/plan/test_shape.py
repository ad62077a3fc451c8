"""Sizes of models: from settings, from config.json, from a GGUF file's head, from what the suite says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoConfig, AutoModelForCausalLM

from pipeline_lib.models.scratch import build_scratch
from pipeline_lib.models.settings import ModelSettings
from pipeline_lib.operations.plan.shape import Shape, cached_folder, shape_of
from tests.models.conftest import SETTINGS, TEXTS
from tests.models.gguf_file import write_gguf

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LLAMA_2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


def shape(**settings: Any) -> Shape | None:
    return shape_of(TypeAdapter(ModelSettings).validate_python(settings))


def of_config(folder: Path, config: dict[str, Any]) -> Shape | None:
    (folder / "config.json").write_text(json.dumps(config))
    return shape(source="folder", path=str(folder))


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("llama", {"num_key_value_heads": 2, "tie_word_embeddings": True, "intermediate_size": 96}),
        ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": False, "intermediate_size": 96}),
        ("mistral", {"num_key_value_heads": 2, "tie_word_embeddings": False, "intermediate_size": 96}),
        ("gpt2", {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128}),
        ("opt", {"ffn_dim": 128, "word_embed_proj_dim": 64}),
        ("gpt_neox", {"intermediate_size": 128, "tie_word_embeddings": False}),
    ],
)
def test_parameters_are_counted_as_transformers_builds_them(
    tmp_path: Path, family: str, sizes: dict[str, Any]
) -> None:
    common = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 500}
    common |= {"max_position_embeddings": 128}
    config = AutoConfig.for_model(family, **(sizes if family == "gpt2" else common | sizes))
    if family == "gpt2":
        config.vocab_size = 500
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = of_config(tmp_path, config.to_dict())
    assert found is not None
    assert found.parameters == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.01)
    assert (found.hidden, found.layers, found.heads, found.context) == (64, 3, 4, 128)
    assert found.gated == (family in ("llama", "mistral"))


def test_llama_2_7b_is_as_large_as_it_is(tmp_path: Path) -> None:
    found = of_config(tmp_path, LLAMA_2_7B)
    assert found is not None
    assert found.parameters == 6738415616
    assert found.body == 6738415616 - 2 * 32000 * 4096


def test_a_scratch_model_is_known_from_its_settings() -> None:
    model, _ = build_scratch(SETTINGS, TEXTS, seed=0)
    found = shape_of(SETTINGS)
    assert found is not None
    missing = SETTINGS.vocab_size - model.config.vocab_size  # the texts have no more merges
    assert found.parameters == sum(p.numel() for p in model.parameters()) + missing * 32
    assert found.context == SETTINGS.max_length


def test_the_head_of_a_gguf_file_is_enough(tmp_path: Path) -> None:
    model, tokenizer = build_scratch(SETTINGS, TEXTS, seed=0)
    write_gguf(tmp_path / "tiny.gguf", model, tokenizer)
    found = shape(source="gguf", path=str(tmp_path / "tiny.gguf"))
    assert found is not None
    assert found.tied
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert (found.layers, found.heads, found.kv_heads, found.context) == (2, 4, 2, 128)


def test_a_gguf_file_with_an_output_matrix_is_not_tied(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "untied.gguf", "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_token_list(["a", "b", "c"])
    for name in ("token_embd.weight", "output.weight"):
        writer.add_tensor(name, np.zeros((3, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = shape(source="gguf", path=str(tmp_path / "untied.gguf"))
    assert found is not None
    assert (found.tied, found.vocab, found.context) == (False, 3, None)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 64, b"PK\x03\x04"])
def test_a_broken_gguf_file_is_no_shape_and_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.gguf").write_bytes(content)
    assert shape(source="gguf", path=str(tmp_path / "broken.gguf")) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"hidden_size": 8}'])
def test_a_config_that_tells_no_sizes_is_no_shape(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert shape(source="folder", path=str(tmp_path)) is None


def test_a_hub_model_is_looked_for_where_jobs_would_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIPELINE_MODELS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    model = {"source": "hub", "id": "lab/model", "revision": COMMIT}
    assert shape(**model) is None
    snapshot = tmp_path / "cache" / "models--lab--model" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA_2_7B))
    assert cached_folder("lab/model", COMMIT) == snapshot
    assert shape(**model).layers == 32  # type: ignore[union-attr]
    local = tmp_path / "models" / "lab" / "model"
    local.mkdir(parents=True)
    (local / "config.json").write_text(json.dumps({**LLAMA_2_7B, "num_hidden_layers": 2}))
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path / "models"))
    assert shape(**model).layers == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("parameters", "tied", "gated"),
    [(6738415616, False, True), (6607343616, True, True), ("5.3e9", False, False)],
)
def test_the_block_shape_stands_for_a_model_that_is_not_here(
    monkeypatch: pytest.MonkeyPatch, parameters: float, tied: bool, gated: bool
) -> None:
    monkeypatch.delenv("PIPELINE_MODELS", raising=False)
    sizes = {"hidden_size": 4096, "layers": 32, "vocab_size": 32000, "intermediate_size": 11008, "heads": 32}
    given = {"parameters": parameters, "context": 4096, **sizes}
    found = shape(source="hub", id="lab/model", revision=COMMIT, shape=given)
    assert found is not None
    assert (found.tied, found.gated, found.kv_heads, found.context) == (tied, gated, 32, 4096)
    assert found.parameters == int(float(parameters))


@pytest.mark.parametrize("changed", [{"hidden_size": 2**31 - 1}, {"parameters": 5e5}, {"parameters": 7e9}])
def test_sizes_that_no_model_has_are_refused(changed: dict[str, Any]) -> None:
    """An embedding larger than the whole model, and what a slip of a few digits makes."""
    given = {
        "parameters": 1.24e9, "hidden_size": 2048, "layers": 16, "vocab_size": 128256,
        "intermediate_size": 8192, "heads": 32, "kv_heads": 8,
    }  # fmt: skip
    assert shape(source="hub", id="lab/model", revision=COMMIT, shape=given)
    with pytest.raises(ValueError, match="the other sizes make about"):
        shape(source="hub", id="lab/model", revision=COMMIT, shape={**given, **changed})
    # 128256 * 2048 + 16 * (2 * 2048 * (2048 + 8 * 64) + 3 * 2048 * 8192), and up to three times that
    with pytest.raises(ValueError, match="the other sizes make about 1,235,746,816"):
        shape(source="hub", id="lab/model", revision=COMMIT, shape={**given, "parameters": 3.71e9})
    assert shape(source="hub", id="lab/model", revision=COMMIT, shape={**given, "parameters": 3.70e9})
