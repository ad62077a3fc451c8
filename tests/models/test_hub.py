"""Hub models: local copies that stand in, downloads at a pinned revision, and what can go wrong."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import sha256
from pipeline_lib.models import hub
from pipeline_lib.models.settings import HubModel
from pipeline_lib.models.source import load_source
from tests import hub_server
from tests.hub_server import HubServer, hub_environment
from tests.models.conftest import same_weights
from tests.models.gguf_file import write_gguf
from tests.paths import REPO

REVISION = "a1" * 20
ID = "tiny-lab/tiny-model"
MODEL = HubModel(source="hub", id=ID, revision=REVISION)


@pytest.mark.parametrize("place", [ID, "tiny-model"])
def test_local_folder_stands_in_for_a_hub_id(folder, scratch, tmp_path, monkeypatch, place):
    (tmp_path / "models" / place).parent.mkdir(parents=True)
    shutil.copytree(folder, tmp_path / "models" / place)
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path / "models"))
    model, _, origin = load_source(MODEL)
    assert same_weights(model, scratch[0])
    assert origin["kind"] == "folder"
    assert origin["path"] == f"$PIPELINE_MODELS/{place}"
    assert origin["stands_in_for"] == f"{ID}@{REVISION}"


def test_local_gguf_stands_in_for_a_hub_id(scratch, tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path))
    (tmp_path / "tiny-model").mkdir()
    write_gguf(tmp_path / "tiny-model" / "tiny.Q4.gguf", *scratch)
    _, _, origin = load_source(MODEL)
    assert (origin["kind"], origin["path"]) == ("gguf", "$PIPELINE_MODELS/tiny-model/tiny.Q4.gguf")
    shutil.copy(tmp_path / "tiny-model" / "tiny.Q4.gguf", tmp_path / "tiny-model" / "tiny.Q8.gguf")
    with pytest.raises(UserError, match=r"2 GGUF files.*tiny\.Q8\.gguf"):
        load_source(MODEL)
    shutil.copy(tmp_path / "tiny-model" / "tiny.Q4.gguf", tmp_path / "tiny-model.gguf")
    assert hub.local_copy(ID) == "$PIPELINE_MODELS/tiny-model.gguf"
    assert hub.local_copy("tiny-lab/other") is None
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"no such folder. Correct the variable or unset it"):
        load_source(MODEL)


@pytest.mark.parametrize("revision", ["main", "a1b2c3", "A1" * 20, "", None])
def test_revision_must_be_a_commit(revision):
    with pytest.raises(ValidationError, match="1 validation error for HubModel\nrevision\n"):
        HubModel(source="hub", id=ID, revision=revision)


@pytest.mark.parametrize("model_id", ["../secrets", "a/b/c", "", "https://example.org/a"])
def test_model_id_must_look_like_one(model_id):
    with pytest.raises(ValidationError, match="1 validation error for HubModel\nid\n"):
        HubModel(source="hub", id=model_id, revision=REVISION)


# Prints what `load_source` returns, or the message of its UserError. The hub's client waits longer
# and longer between attempts; a test need not.
LOAD = """
import json, sys, time
time.sleep = lambda seconds: None
from pipeline_lib.core.errors import UserError
from pipeline_lib.models.settings import HubModel
from pipeline_lib.models.source import load_source
try:
    settings = HubModel(source="hub", id=sys.argv[1], revision=sys.argv[2])
    model, tokenizer, origin = load_source(settings)
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
    (files / "model.safetensors").rename(files / "pytorch_model.bin")
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
