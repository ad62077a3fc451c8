"""A tokenizer without its model: of a folder, of a local copy of a hub id, of a GGUF file."""

from __future__ import annotations

import shutil

import pytest
from pydantic import ValidationError

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.texts import unit_ends
from pipeline_lib.models.tokenizer import TokenizerOf, load_tokenizer
from tests.models.gguf_file import write_gguf

REVISION = "0" * 40
TEXT = "Born in 1956, in Prague."


@pytest.fixture
def tokenizer_folder(folder):
    for file in folder.glob("*.safetensors"):
        file.unlink()
    return folder


def test_of_a_folder_without_weights(tokenizer_folder, scratch, monkeypatch):
    monkeypatch.setenv("MODELS", str(tokenizer_folder.parent))
    loaded = load_tokenizer(TokenizerOf(path=f"$MODELS/{tokenizer_folder.name}"))
    assert loaded.encode(TEXT) == scratch[1].encode(TEXT)
    assert len(unit_ends(TEXT, loaded)) == len(loaded.encode(TEXT))


def test_a_local_copy_stands_in_for_a_hub_id(tokenizer_folder, scratch, tmp_path, monkeypatch):
    shutil.copytree(tokenizer_folder, tmp_path / "models/some/model")
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path / "models"))
    found = load_tokenizer(TokenizerOf(id="some/model", revision=REVISION))
    assert found.encode(TEXT) == scratch[1].encode(TEXT)


def test_of_a_gguf_file(scratch, tmp_path, monkeypatch):
    write_gguf(tmp_path / "model.gguf", *scratch)
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path))
    found = load_tokenizer(TokenizerOf(id="some/model", revision=REVISION))
    assert found.encode(TEXT, add_special_tokens=False) == scratch[1].encode(TEXT, add_special_tokens=False)


def test_what_is_no_tokenizer(tmp_path, tokenizer_folder):
    with pytest.raises(UserError, match=r"expected one of tokenizer\.json, .*found no folder"):
        load_tokenizer(TokenizerOf(path=str(tmp_path / "none")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="found a folder without such"):
        load_tokenizer(TokenizerOf(path=str(tmp_path / "empty")))
    with pytest.raises(ValidationError, match="1 validation error for TokenizerOf\nrevision\n"):
        TokenizerOf(id="some/model", revision="main")
    (tokenizer_folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tokenizer(TokenizerOf(path=str(tokenizer_folder)))
