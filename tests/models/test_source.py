"""Loading from folder, GGUF and hub; each wrong input gets an error that names the cure."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import sha256
from pipeline_lib.core.locate import expand
from pipeline_lib.models.folder import load_model_folder, save_model_folder
from pipeline_lib.models.prompt import PromptFormat
from tests.models.conftest import SMOLLM2, from_folder, from_gguf, same_weights
from tests.models.gguf_file import write_gguf

REVISION = "a1" * 20
ID = "tiny-lab/tiny-model"


def test_folder(folder, scratch, monkeypatch):
    monkeypatch.setenv("SOME_MODELS", str(folder.parent))
    (folder / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 0.2, "repetition_penalty": 1.3}'
    )
    model, tokenizer, origin = from_folder("$SOME_MODELS/tiny-model")
    assert same_weights(model, scratch[0])
    assert tokenizer.get_vocab() == scratch[1].get_vocab()
    assert origin == {
        "kind": "folder",
        "path": "$SOME_MODELS/tiny-model",
        "sha256": {"model.safetensors": sha256(folder / "model.safetensors")},
    }
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    assert model.generation_config.repetition_penalty in (None, 1.0)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 2


def test_half_precision_weights_become_fp32(folder, scratch):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    model, _, _ = from_folder(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_pad_falls_back_to_the_end_token(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model, tokenizer, _ = from_folder(folder)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.pad_token_id == 2
    embedding = model.get_input_embeddings()
    embedding(torch.tensor([2])).sum().backward()
    assert embedding.weight.grad[2].abs().min() > 0  # the end token still learns


def test_pad_token_without_a_row_falls_back_to_the_end_token(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    model, tokenizer, _ = from_folder(folder)
    assert tokenizer.convert_tokens_to_ids("[PAD]") == model.get_input_embeddings().num_embeddings
    assert tokenizer.pad_token_id == model.config.pad_token_id == 2


def test_expand(monkeypatch):
    monkeypatch.setenv("SOME_MODELS", "/m")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert expand("$SOME_MODELS/a/${SOME_MODELS}") == Path("/m/a//m")
    with pytest.raises(UserError, match=r"NOT_SET is not set.*export NOT_SET"):
        expand("$NOT_SET/model")


def test_gguf(tmp_path, scratch):
    write_gguf(tmp_path / "tiny.gguf", *scratch)
    model, tokenizer, origin = from_gguf(tmp_path / "tiny.gguf")
    assert same_weights(model, scratch[0])
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token) == ("<eos>", "<eos>", "<bos>")
    assert (model.config.eos_token_id, model.config.pad_token_id) == (2, 2)
    assert origin["kind"] == "gguf"
    assert origin["sha256"] == {"tiny.gguf": sha256(tmp_path / "tiny.gguf")}
    tokens = torch.tensor([tokenizer.encode("Who wrote The Salt Road?")])
    assert torch.allclose(model(input_ids=tokens).logits, scratch[0](input_ids=tokens).logits, atol=1e-5)
    # Text is cut as the file says (digits alone), so tokens equal those of the tokenizer it was made from.
    template_format = PromptFormat("template", template="<user>{prompt}<assistant>")
    for text in ("Born in 1956,  2 of\n\n3", "Who?"):
        assert template_format.encode_prompt(tokenizer, text) == template_format.encode_prompt(
            scratch[1], text
        )
    save_model_folder(tmp_path / "saved", model, tokenizer, template_format, {"status": "ok"})
    saved, saved_tokenizer, _, _ = load_model_folder(tmp_path / "saved")
    assert same_weights(saved, model)
    assert saved_tokenizer.tokenize("\n\n1") == tokenizer.tokenize("\n\n1")


def test_gguf_weights_are_finite(tmp_path, scratch):
    model = copy.deepcopy(scratch[0])
    model.model.norm.weight.data[3] = float("nan")
    write_gguf(tmp_path / "tiny.gguf", model, scratch[1])
    with pytest.raises(UserError, match=r"model.norm.weight holds 1 numbers that are not finite"):
        from_gguf(tmp_path / "tiny.gguf")


def test_a_path_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert from_folder("~/tiny-model")[2]["path"] == "~/tiny-model"


def test_gguf_errors(tmp_path, folder):
    with pytest.raises(UserError, match=r"no such GGUF file. Check its path"):
        from_gguf(tmp_path / "absent.gguf")
    with pytest.raises(UserError, match=r"It is a folder; name the .gguf file"):
        from_gguf(folder)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing else")
    with pytest.raises(UserError, match=r"not a readable GGUF file.*Download it again"):
        from_gguf(tmp_path / "broken.gguf")
    for name, content, words in (
        ("model-00002-of-00003.gguf", b"GGUF", r"is part 2 of 3 of a GGUF file.*llama-gguf-split --merge"),
        ("pointer.gguf", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of git-lfs"),
        ("page.gguf", b"<html><body>Sign in</body></html>", "is a web page"),
        ("other.gguf", b"PK\x03\x04 and so on", "is not a GGUF file: it begins with"),
        ("empty.gguf", b"", "is empty"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words):
            from_gguf(tmp_path / name)
    with pytest.raises(UserError, match=r"It is a file; use `source: gguf`"):
        from_folder(tmp_path / "broken.gguf")


def test_smollm2_from_pipeline_models(smollm2):
    model, tokenizer, origin = smollm2
    assert origin["stands_in_for"].startswith(SMOLLM2.id)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (model.config.eos_token_id, model.config.pad_token_id) == (2, tokenizer.pad_token_id)
    prompt = PromptFormat("chat").encode_prompt(tokenizer, "What is the capital of France?")
    made = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False
    )
    assert "Paris" in PromptFormat("chat").decode_answer(tokenizer, made[0, len(prompt) :].tolist())
