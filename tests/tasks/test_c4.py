"""The block of settings that reads C4: where it looks, and what it takes from the hub."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.tasks.c4 import C4
from tests.hub_server import HubServer, hub_environment
from tests.paths import REPO, shared_data

FROM_HUB = """
from pipeline_lib.tasks.c4 import C4
records, origin = C4(n=3, shard=7).load(2, 5)
print(origin, [record.answer for record in records])
"""


def documents(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"text": text, "timestamp": "2019-04-25T12:57:54Z", "url": "https://example.org"} for text in texts
    ]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def test_the_hubs_file_is_asked_for_at_the_pinned_revision(tmp_path: Path) -> None:
    file = tmp_path / "hub/datasets/allenai/c4/en/c4-train.00007-of-01024.json.gz"
    documents(file, *(f"one two {i}" for i in range(5)))
    with HubServer(tmp_path / "hub") as server:
        environment = hub_environment(server.url, tmp_path / "home")
        environment.pop("PIPELINE_DATA", None)
        done = subprocess.run(
            [sys.executable, "-c", FROM_HUB],
            env={**environment, "PYTHONPATH": str(REPO)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert all(C4().revision in line for line in server.requests)
    assert done.stdout.strip() == (
        f"allenai/c4@{C4().revision}/en/c4-train.00007-of-01024.json.gz [' 0', ' 1', ' 2']"
    )


def test_a_path_comes_before_the_shared_folder_and_that_before_the_hub(tmp_path: Path, monkeypatch) -> None:
    documents(tmp_path / "c4/a.json.gz", "shared shared shared")
    documents(tmp_path / "mine.json.gz", "mine mine mine")
    monkeypatch.setenv("PIPELINE_DATA", str(tmp_path))
    assert C4(n=1).load(1, 3)[0][0].answer == " shared shared"
    found, origin = C4(n=1, path="$PIPELINE_DATA/mine.json.gz").load(1, 3)
    assert found[0].answer == " mine mine"
    assert origin == "$PIPELINE_DATA/mine.json.gz"
    with pytest.raises(UserError, match="expected 2 documents of more than 1 words, found 1 among 1"):
        C4(n=2).load(1, 3)


def test_real_documents(monkeypatch) -> None:
    monkeypatch.setenv("PIPELINE_DATA", str(shared_data("c4").parent))
    records, _ = C4(n=150).load(30, 100)
    assert len(records) == 150
    assert {len(record.prompt.split()) for record in records} == {30}
