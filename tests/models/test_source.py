"""Loading from folder, GGUF and hub; each wrong input gets an error that names the cure."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline_lib.errors import UserError
from pipeline_lib.files import sha256
from pipeline_lib.models import source
from pipeline_lib.models.folder import load_model_folder, save_model_folder
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.source import expand, load_source
from tests import hub_server
from tests.hub_server import HubServer, hub_environment
from tests.models.conftest import SMOLLM2
from tests.paths import REPO

REVISION = "a1" * 20
ID = "tiny-lab/tiny-model"


@pytest.fixture
def folder(scratch, tmp_path):
    """The scratch model in the layout of transformers."""
    path = tmp_path / "tiny-model"
    scratch[0].save_pretrained(path)
    scratch[1].save_pretrained(path)
    return path


def write_gguf(path: Path, model, tokenizer, pre: str = "smollm") -> None:
    """A GGUF file of a Llama with F32 weights, in the tensor order that llama.cpp uses."""
    import gguf

    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(bpe["vocab"], key=bpe["vocab"].get))
    writer.add_token_types([3] * 5 + [1] * (len(bpe["vocab"]) - 5))  # 3 control, 1 normal
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)

    def pair_rotary(weight: np.ndarray, heads: int) -> np.ndarray:
        """llama.cpp rotates neighbouring dimensions where transformers rotates halves."""
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))

    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", state["model.norm.weight"].numpy())
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"].numpy()
            if theirs == "attn_q":
                weight = pair_rotary(weight, config.num_attention_heads)
            if theirs == "attn_k":
                weight = pair_rotary(weight, config.num_key_value_heads)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def same_weights(a, b) -> bool:
    state_a, state_b = a.state_dict(), b.state_dict()
    return state_a.keys() == state_b.keys() and all(torch.equal(state_a[k], state_b[k]) for k in state_a)


def test_folder(folder, scratch, monkeypatch):
    monkeypatch.setenv("SOME_MODELS", str(folder.parent))
    (folder / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 0.2, "repetition_penalty": 1.3}'
    )
    model, tokenizer, origin = load_source({"source": "folder", "path": "$SOME_MODELS/tiny-model"})
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
    model, _, _ = load_source({"source": "folder", "path": str(folder)})
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_pad_falls_back_to_the_end_token(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model, tokenizer, _ = load_source({"source": "folder", "path": str(folder)})
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.pad_token_id == 2
    embedding = model.get_input_embeddings()
    embedding(torch.tensor([2])).sum().backward()
    assert embedding.weight.grad[2].abs().min() > 0  # the end token still learns


def test_pad_token_without_a_row_falls_back_to_the_end_token(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    model, tokenizer, _ = load_source({"source": "folder", "path": str(folder)})
    assert tokenizer.convert_tokens_to_ids("[PAD]") == model.get_input_embeddings().num_embeddings
    assert tokenizer.pad_token_id == model.config.pad_token_id == 2


def test_expand(monkeypatch):
    monkeypatch.setenv("SOME_MODELS", "/m")
    monkeypatch.delenv("NOT_SET", raising=False)
    assert expand("$SOME_MODELS/a/${SOME_MODELS}") == Path("/m/a//m")
    with pytest.raises(UserError, match=r"NOT_SET is not set.*export NOT_SET"):
        expand("$NOT_SET/model")


def remove(name):
    return lambda folder: (folder / name).unlink()


def only_pickles(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def truncate(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def break_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")


def edit_config(**changes):
    def edit(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def remove_end_token(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def enlarge_tokenizer(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(folder)


def remote_code(folder):
    edit_config(
        model_type="brand_new", auto_map={"AutoModelForCausalLM": "code.Model", "AutoConfig": "code.C"}
    )(folder)
    (folder / "code.py").write_text("raise SystemExit('this code must never run')")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no such folder. Check the path"),
        (remove("config.json"), "config.json is missing"),
        (remove("tokenizer.json"), "holds no tokenizer.*Copy"),
        (remove("model.safetensors"), "holds no weights"),
        (only_pickles, "pytorch_model.bin.*never loaded.*Convert them to safetensors"),
        (truncate, "cannot be loaded.*damaged"),
        (break_tokenizer, "tokenizer cannot be loaded"),
        (edit_config(num_hidden_layers=3), "weights are not in its files.*layers.2"),
        (edit_config(intermediate_size=32), "cannot be loaded"),
        (remove_end_token, "no end token"),
        (enlarge_tokenizer, "do not belong together"),
        (remote_code, "cannot be loaded"),
    ],
)
def test_damaged_folder(folder, damage, words):
    damage(folder)
    with pytest.raises(UserError, match=words) as error:
        load_source({"source": "folder", "path": str(folder)})
    assert str(folder) in str(error.value)


def test_model_whose_logits_are_scaled_is_refused(tmp_path, scratch):
    from transformers import AutoModelForCausalLM, CohereConfig

    config = CohereConfig(
        vocab_size=len(scratch[1]),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        logit_scale=0.25,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    scratch[1].save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"changes its logits.*Choose another model"):
        load_source({"source": "folder", "path": str(tmp_path)})


def test_gguf(tmp_path, scratch):
    write_gguf(tmp_path / "tiny.gguf", *scratch)
    model, tokenizer, origin = load_source({"source": "gguf", "path": str(tmp_path / "tiny.gguf")})
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


def test_gguf_errors(tmp_path, folder):
    with pytest.raises(UserError, match=r"no such GGUF file. Check its path"):
        load_source({"source": "gguf", "path": str(tmp_path / "absent.gguf")})
    with pytest.raises(UserError, match=r"It is a folder; name the .gguf file"):
        load_source({"source": "gguf", "path": str(folder)})
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing else")
    with pytest.raises(UserError, match=r"not a readable GGUF file.*Download it again"):
        load_source({"source": "gguf", "path": str(tmp_path / "broken.gguf")})
    with pytest.raises(UserError, match=r"It is a file; use `source: gguf`"):
        load_source({"source": "folder", "path": str(tmp_path / "broken.gguf")})


@pytest.mark.parametrize("place", [ID, "tiny-model"])
def test_local_folder_stands_in_for_a_hub_id(folder, scratch, tmp_path, monkeypatch, place):
    (tmp_path / "models" / place).parent.mkdir(parents=True)
    shutil.copytree(folder, tmp_path / "models" / place)
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path / "models"))
    model, _, origin = load_source({"source": "hub", "id": ID, "revision": REVISION})
    assert same_weights(model, scratch[0])
    assert origin["kind"] == "folder"
    assert origin["path"] == f"$PIPELINE_MODELS/{place}"
    assert origin["stands_in_for"] == f"{ID}@{REVISION}"


def test_local_gguf_stands_in_for_a_hub_id(scratch, tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path))
    (tmp_path / "tiny-model").mkdir()
    write_gguf(tmp_path / "tiny-model" / "tiny.Q4.gguf", *scratch)
    _, _, origin = load_source({"source": "hub", "id": ID, "revision": REVISION})
    assert (origin["kind"], origin["path"]) == ("gguf", "$PIPELINE_MODELS/tiny-model/tiny.Q4.gguf")
    shutil.copy(tmp_path / "tiny-model" / "tiny.Q4.gguf", tmp_path / "tiny-model" / "tiny.Q8.gguf")
    with pytest.raises(UserError, match=r"2 GGUF files.*tiny\.Q8\.gguf"):
        load_source({"source": "hub", "id": ID, "revision": REVISION})
    shutil.copy(tmp_path / "tiny-model" / "tiny.Q4.gguf", tmp_path / "tiny-model.gguf")
    assert source.local_copy(ID) == "$PIPELINE_MODELS/tiny-model.gguf"
    assert source.local_copy("tiny-lab/other") is None
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"no such folder. Correct the variable or unset it"):
        load_source({"source": "hub", "id": ID, "revision": REVISION})


@pytest.mark.parametrize("revision", ["main", "a1b2c3", "A1" * 20, "", None])
def test_revision_must_be_a_commit(revision):
    with pytest.raises(UserError, match="40 hexadecimal digits"):
        load_source({"source": "hub", "id": ID, "revision": revision})


@pytest.mark.parametrize("model_id", ["../secrets", "a/b/c", "", "https://example.org/a"])
def test_model_id_must_look_like_one(model_id):
    with pytest.raises(UserError, match="organisation/name"):
        load_source({"source": "hub", "id": model_id, "revision": REVISION})


# Prints what `load_source` returns, or the message of its UserError. The hub's client waits longer
# and longer between attempts; a test need not.
LOAD = """
import json, sys, time
time.sleep = lambda seconds: None
from pipeline_lib.errors import UserError
from pipeline_lib.models.source import load_source
try:
    model, tokenizer, origin = load_source({"source": "hub", "id": sys.argv[1], "revision": sys.argv[2]})
    total = sum(p.double().sum().item() for p in model.parameters())
    print(json.dumps({"origin": origin, "sum": total, "tokens": len(tokenizer)}))
except UserError as error:
    print(json.dumps({"error": str(error)}))
"""


def load_from(url: str, home: Path, model_id: str = ID) -> dict:
    environment = hub_environment(url, home)
    environment.pop("PIPELINE_MODELS", None)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, model_id, REVISION],
        env={**environment, "PYTHONPATH": str(REPO)},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_hub_download_then_cache(folder, scratch, tmp_path):
    files = tmp_path / "hub" / "models" / ID
    shutil.copytree(folder, files)
    for name in ("pytorch_model.bin", "code.py", "onnx/model.safetensors"):
        (files / name).parent.mkdir(exist_ok=True)
        (files / name).write_bytes(b"must not be asked for")
    with HubServer(tmp_path / "hub") as server:
        first = load_from(server.url, tmp_path / "home")
        asked = [line for line in server.requests if "/resolve/" in line]
    assert {line.rpartition("/")[2] for line in asked} == {file.name for file in folder.iterdir()}
    assert all(f"/{REVISION}/" in line for line in asked)
    assert not any("onnx" in line for line in asked)
    assert first["origin"] == {
        "kind": "hub",
        "id": ID,
        "revision": REVISION,
        "sha256": {"model.safetensors": sha256(folder / "model.safetensors")},
    }
    assert first["tokens"] == len(scratch[1])
    assert first["sum"] == pytest.approx(sum(p.double().sum().item() for p in scratch[0].parameters()))
    assert load_from(server.url, tmp_path / "home") == first  # the server is gone, the cache is not


def test_hub_model_without_safetensors(folder, tmp_path):
    files = tmp_path / "hub" / "models" / ID
    shutil.copytree(folder, files)
    only_pickles(files)
    with HubServer(tmp_path / "hub") as server:
        answer = load_from(server.url, tmp_path / "home")
        assert not any("pytorch_model.bin" in line for line in server.requests)
    assert f"{ID}@{REVISION}: holds no weights" in answer["error"]


def test_hub_that_cannot_be_reached(tmp_path):
    with socket.socket() as closed:  # bound, never listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        message = load_from(url, tmp_path / "home")["error"]
    for part in (ID, REVISION, "network", "HF_TOKEN", "$PIPELINE_MODELS", "source: folder"):
        assert part in message


def test_hub_does_not_know_the_model(tmp_path):
    (tmp_path / "hub" / "models").mkdir(parents=True)
    with HubServer(tmp_path / "hub") as server:
        message = load_from(server.url, tmp_path / "home")["error"]
    for part in (ID, "knows no such model", "Check the id", "HF_TOKEN"):
        assert part in message


@pytest.mark.parametrize("status", [401, 403])
def test_hub_gate(folder, tmp_path, monkeypatch, status):
    def refuse(handler, kind, name, revision, path, body):
        handler._send(status, b"gated", body, {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask first"})

    shutil.copytree(folder, tmp_path / "hub" / "models" / ID)
    monkeypatch.setattr(hub_server._Handler, "_answer_file", refuse)
    with HubServer(tmp_path / "hub") as server:
        message = load_from(server.url, tmp_path / "home")["error"]
    for part in (ID, "access is denied", "Accept them on the model's page", "HF_TOKEN"):
        assert part in message


def test_hub_unknown_revision(folder, tmp_path, monkeypatch):
    def unknown(handler, kind, name, rest, body):
        handler._send(404, b'{"error":"Invalid rev id"}', body, {"X-Error-Code": "RevisionNotFound"})

    shutil.copytree(folder, tmp_path / "hub" / "models" / ID)
    monkeypatch.setattr(hub_server._Handler, "_answer_api", unknown)
    with HubServer(tmp_path / "hub") as server:
        message = load_from(server.url, tmp_path / "home")["error"]
    assert "knows no such revision" in message
    assert REVISION in message


def test_smollm2_from_pipeline_models(smollm2):
    model, tokenizer, origin = smollm2
    assert origin["stands_in_for"].startswith(SMOLLM2["id"])
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (model.config.eos_token_id, model.config.pad_token_id) == (2, tokenizer.pad_token_id)
    prompt = PromptFormat("chat").encode_prompt(tokenizer, "What is the capital of France?")
    made = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False
    )
    assert "Paris" in PromptFormat("chat").decode_answer(tokenizer, made[0, len(prompt) :].tolist())
