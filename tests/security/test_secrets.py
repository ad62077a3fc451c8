"""No token, password or proxy login in messages, logs, results and the records of a run."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.joblog import JobLog
from pipeline_lib.core.redaction import redacted
from tests.hub_server import HubServer, hub_environment
from tests.paths import REPO
from tests.workflow.study import SUITE, Study

TOKEN, PASSWORD = "hf_" + "S3cretS3cret" * 3, "pa55:w0rd@x"
REVISION = "ab" * 20


def secrets(address: str) -> dict[str, str]:
    """Variables as people set them, with secrets in them."""
    return {
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": f"http://reader:{PASSWORD}@{address}",
        "HTTPS_PROXY": f"http://reader:{PASSWORD}@{address}",
        "WANDB_API_KEY": "0123456789abcdef",
    }


def test_what_is_taken_out_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "correct-horse-battery")
    monkeypatch.setenv("SHORT_TOKEN", "the")
    monkeypatch.setenv("HOME_OF_MODELS", "/srv/models")
    said = f"GET http://me:{PASSWORD}@hub.example/x?y=1 with correct-horse-battery, {TOKEN}: the /srv/models"
    assert redacted(said) == "GET http://***@hub.example/x?y=1 with ***, ***: the /srv/models"
    assert redacted("Authorization: Bearer abcdefgh12345") == "Authorization: Bearer ***"
    assert redacted("a@b.example, x://y/z@w, 10:30") == "a@b.example, x://y/z@w, 10:30"
    assert str(UserError(f"no answer of https://a:{PASSWORD}@b")) == "no answer of https://***@b"


def test_a_jobs_log_keeps_logins_to_itself() -> None:
    """The hub's library logs every try with the address that it asks."""
    handle = io.StringIO()
    print(f"Connection refused while requesting HEAD http://reader:{PASSWORD}@hub/x", file=JobLog(handle))
    assert handle.getvalue() == "Connection refused while requesting HEAD http://***@hub/x\n"


def test_errors_of_the_hub_keep_logins_to_themselves(tmp_path: Path) -> None:
    """Both ways to the hub, with a token and a password in the address, and a hub that refuses."""
    code = f"""
from pipeline_lib.core.locate import hub_file
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.joblog import JobLog
from pipeline_lib.models.hub import download
pinned = {REVISION!r}
for get in (lambda: download("some/model", pinned), lambda: hub_file("some/data", pinned, "x.json")):
    try:
        get()
    except UserError as error:
        print(error)
"""
    for repository in ("models/some/model", "datasets/some/data"):
        (tmp_path / "hub" / repository).mkdir(parents=True)
    with HubServer(tmp_path / "hub", {"some/model": {"status": 400}}) as server:
        address = server.url.removeprefix("http://")
        environment = {**hub_environment(server.url, tmp_path / "home"), **secrets(address)}
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=REPO,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    assert "http://***@127.0.0.1" in done.stdout, "the address is quoted, so that there was something to hide"
    assert "some/model" in done.stdout and "some/data" in done.stdout
    for secret in (TOKEN, PASSWORD, "w0rd"):
        assert secret not in done.stdout


def test_a_run_leaves_no_secret_in_any_file(tmp_path: Path) -> None:
    suite = copy.deepcopy(SUITE)
    suite["finetune"].update(epochs=1)
    suite["objectives"], suite["optimizers"] = {"GradDiff": {}}, {"adamw": {"learning_rate": 1e-3}}
    suite["runs"], suite["comparisons"] = None, None
    del suite["stages"]
    study = Study(tmp_path / "project", suite)
    study.variables = secrets("127.0.0.1:9")
    place = "authors/tiny/original/none/seed0"
    done = study.snakemake("results/small/suite.yaml", f"results/small/training/{place}/run.json")
    assert done.returncode == 0, done.stdout[-3000:]
    texts = {path: path.read_bytes() for path in study.folder.rglob("*") if path.is_file()}
    assert any(path.name == "run.json" for path in texts) and any(path.suffix == ".log" for path in texts)
    for secret in (TOKEN, PASSWORD, "0123456789abcdef"):
        assert secret not in done.stdout
        assert [path for path, text in texts.items() if secret.encode() in text] == []
