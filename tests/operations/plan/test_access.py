"""Whether a suite's models and data can be had, asked of a stand-in hub before any job starts."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.operations.plan import access
from pipeline_lib.operations.plan.access import Repository, at_hand, check_access, repositories
from pipeline_lib.study import dump_suite, parse_suite
from tests.hub_server import HubServer, hub_environment
from tests.paths import REPO
from tests.study.suites import COMMIT, small

OTHER = "f" * 40
SECRET = "hf_abcdefghijklmnopqrstuvwxyz"
MODEL = {"source": "hub", "id": "lab/model", "revision": COMMIT}
TOFU = {"source": "tofu", "hub": "lab/authors", "revision": COMMIT}
JUDGE = {"kind": "hub", "id": "lab/judge", "revision": COMMIT, "label": "toxic"}
PROMPTS = {"source": "hub", "id": "lab/prompts", "revision": COMMIT}
ENCODER = {"source": "hub", "id": "lab/encoder", "revision": COMMIT}
NAMES = {
    "models": ["lab/model", "lab/judge", "lab/encoder"],
    "datasets": ["lab/authors", "lab/prompts"],
}
FREE = {name: {"licence": "apache-2.0"} for names in NAMES.values() for name in names}

# Prints the lines of `check_access`, or the message of its UserError.
ASK = """
import json, sys
from pipeline_lib.study import load_suite
from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan.access import check_access
try:
    print(json.dumps({"lines": check_access(load_suite(sys.argv[1]))}))
except UserError as error:
    print(json.dumps({"error": str(error)}))
"""


def suite(**changes: Any) -> Any:
    evaluation = {"toxicity": {"classifier": JUDGE, "prompts": PROMPTS}, "embedder": ENCODER}
    blocks = {"models": {"tiny": MODEL}, "tasks": {"authors": TOFU}, "evaluation": evaluation, **changes}
    return parse_suite(small(**blocks))


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A hub with every repository that the suite names, a file in each."""
    folder = tmp_path / "hub"
    for kind, names in NAMES.items():
        for name in names:
            (folder / kind / name).mkdir(parents=True)
            (folder / kind / name / "config.json").write_text("{}")
    return folder


def ask(url: str, tmp_path: Path, asked: Any = None, **environment: str) -> dict[str, Any]:
    (tmp_path / "suite.yaml").write_text(dump_suite(asked or suite()))
    surroundings = hub_environment(url, tmp_path / "home")
    for name in ("PIPELINE_MODELS", "PIPELINE_DATA"):
        surroundings.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path / "suite.yaml")],
        env={**surroundings, "PYTHONPATH": str(REPO), "HF_TOKEN": SECRET, **environment},
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_repositories_of_a_suite_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    models = {"tiny": MODEL, "twin": {**MODEL, "max_length": 100}, "own": {"source": "scratch"}}
    book = {"source": "passages", "book": "generated", "tokenizer": {"id": "lab/words", "revision": OTHER}}
    tasks = {
        "authors": TOFU,
        "book": {**book, "retain": {"source": "c4", "hub": "lab/web", "revision": OTHER}},
    }
    asked = suite(models=models, tasks=tasks)
    assert repositories(asked) == [
        Repository("model", "lab/model", COMMIT),
        Repository("dataset", "lab/authors", COMMIT),
        Repository("dataset", "lab/web", OTHER),
        Repository("model", "lab/words", OTHER),
        Repository("model", "lab/encoder", COMMIT),
        Repository("model", "lab/judge", COMMIT),
        Repository("dataset", "lab/prompts", COMMIT),
    ]
    tasks = {"authors": {**TOFU, "folder": "$HOME"}}
    assert Repository("dataset", "lab/authors", COMMIT) not in repositories(suite(tasks=tasks))


def test_benchmarks_bring_their_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PIPELINE_DATA", raising=False)
    asked = suite(evaluation={"benchmarks": {"tasks": ["piqa", "arc_easy", "arc_challenge"]}})
    found = [repository.id for repository in repositories(asked) if repository.kind == "dataset"]
    assert found == ["lab/authors", "baber/piqa", "allenai/ai2_arc"]
    (tmp_path / "commonsense").mkdir()
    (tmp_path / "commonsense" / "piqa_validation.jsonl").write_text("")
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    assert "baber/piqa" not in [repository.id for repository in repositories(asked)]
    folder = suite(evaluation={"benchmarks": {"tasks": ["piqa"], "folder": str(tmp_path)}})
    assert [repository.id for repository in repositories(folder)] == ["lab/model", "lab/authors"]


def test_what_is_at_hand_is_not_asked_about(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIPELINE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path / "data"))
    (tmp_path / "models").mkdir()
    wanted = [
        (Repository("model", "lab/model", COMMIT), tmp_path / "models/lab/model/config.json"),
        (Repository("dataset", "locuslab/TOFU", COMMIT), tmp_path / "data/tofu/full.json"),
        (Repository("dataset", "lab/d", COMMIT), tmp_path / f"cache/datasets--lab--d/snapshots/{COMMIT}/x"),
    ]
    for repository, file in wanted:
        assert not at_hand(repository)
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        assert at_hand(repository)
    assert not at_hand(Repository("dataset", "lab/d", OTHER)), "another revision"
    monkeypatch.setattr(access, "_ask", lambda repository: pytest.fail(f"asked about {repository}"))
    assert (
        check_access(suite(models={"tiny": MODEL}, tasks={"a": {"source": "fictitious"}}, evaluation={}))
        == []
    )


def test_all_is_well_and_nothing_is_said(hub: Path, tmp_path: Path) -> None:
    with HubServer(hub, FREE) as server:
        assert ask(server.url, tmp_path) == {"lines": []}
        asked = [line for line in server.requests if "/resolve/" in line]
    assert not asked, "open repositories need no question about their files"


def test_licences_are_told(hub: Path, tmp_path: Path) -> None:
    facts = {
        **FREE,
        "lab/authors": {"licence": "cc-by-nc-4.0"},
        "lab/judge": {},
        "lab/encoder": {"licence": "unknown"},
    }
    with HubServer(hub, facts) as server:
        lines = ask(server.url, tmp_path)["lines"]
    assert lines == [
        "data set lab/authors: licence cc-by-nc-4.0, not for commercial use.",
        "model lab/encoder: no licence stated. Ask its owner how the results may be used.",
        "model lab/judge: no licence stated. Ask its owner how the results may be used.",
    ]


def test_gates_are_named_with_the_page_where_access_is_asked_for(hub: Path, tmp_path: Path) -> None:
    facts = {**FREE, "lab/model": {"gated": "manual"}, "lab/prompts": {"gated": "auto"}}
    with HubServer(hub, facts) as server:
        message = ask(server.url, tmp_path)["error"]
        for part in (
            "model lab/model: access is denied",
            f"Ask for access on {server.url}/lab/model,",
            "data set lab/prompts: access is denied",
            f"{server.url}/datasets/lab/prompts,",
            "`hf auth login`",
        ):
            assert part in message
    assert "lab/judge" not in message


def test_a_login_in_the_address_of_the_hub_is_not_shown(hub: Path, tmp_path: Path) -> None:
    with HubServer(hub, {**FREE, "lab/model": {"gated": "manual"}}) as server:
        address = server.url.replace("://", "://me:password@")
        message = ask(address, tmp_path)["error"]
        assert f"Ask for access on {server.url}/lab/model," in message
    assert "password" not in message


@pytest.mark.parametrize("status", [401, 403])
def test_a_hub_that_denies_even_the_page(hub: Path, tmp_path: Path, status: int) -> None:
    with HubServer(hub, {**FREE, "lab/model": {"status": status}}) as server:
        message = ask(server.url, tmp_path)["error"]
    assert "lab/model" in message
    assert "`hf auth login`" in message


def test_unknown_names_and_revisions_come_in_one_message(hub: Path, tmp_path: Path) -> None:
    facts = {**FREE, "lab/model": {"revisions": [OTHER]}}
    asked = suite(tasks={"authors": {**TOFU, "hub": "lab/nowhere"}})
    with HubServer(hub, facts) as server:
        message = ask(server.url, tmp_path, asked)["error"]
    heading, *lines = message.splitlines()
    assert heading == "not everything that this suite needs is available:"
    assert len(lines) == 2
    assert f"model lab/model: the hub knows no revision {COMMIT}." in message
    assert "data set lab/nowhere: the hub knows no repository of this name. Check the id" in message


def test_without_a_network_nothing_fails(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound, never listening
        closed.bind(("127.0.0.1", 0))
        answer = ask(f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path)
    (line,) = answer["lines"]
    assert line.startswith(
        "The hub does not answer, so access and licences are not checked for: model lab/model,"
    )
    assert "data set lab/prompts" in line
    (line,) = ask("http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1")["lines"]
    assert "are not checked" in line


def test_a_hub_in_trouble_hides_only_what_it_does_not_answer(hub: Path, tmp_path: Path) -> None:
    facts = {**FREE, "lab/model": {"status": 500}, "lab/judge": {}}
    with HubServer(hub, facts) as server:
        lines = ask(server.url, tmp_path)["lines"]
    assert len(lines) == 2
    assert lines[0].startswith("model lab/judge: no licence stated")
    assert lines[1].endswith("not checked for: model lab/model.")
