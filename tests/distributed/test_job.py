"""How a rule's resources become the processes of its job."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import InputFiles, OutputFiles, ResourceList

from pipeline_lib.distributed.launch import Processes
from pipeline_lib.steps import process
from pipeline_lib.steps.fork_client import SOCKET
from pipeline_lib.steps.job import run_step
from tests.paths import REPO


@pytest.mark.parametrize(
    "resources, threads, processes",
    [
        ({}, 4, Processes(1, threads=4)),
        ({"gpu": 0, "device": "cpu"}, 1, Processes(1)),
        ({"gpu": 1, "processes": 1, "nodes": 1, "sharding": "none"}, 2, Processes(1, threads=2)),
        ({"gpu": 4}, 8, Processes(4, threads=2)),
        ({"gpu": 4, "processes": 2, "sharding": "full"}, 8, Processes(2, sharded=True, threads=4)),
        ({"processes": 3, "nodes": 2}, 2, Processes(3, nodes=2)),
    ],
)
def test_resources_say_how_many_processes_and_they_share_the_threads(
    resources, threads, processes, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(SOCKET, raising=False)
    monkeypatch.setattr(process, "call", lambda *given: seen.append(given))
    log = tmp_path / "run.log"
    asked = {
        "step": "a.step",
        "identity": {"seed": 0},
        "settings": {"rate": 0.1},
        "work": "kept",
        "code": "1",
    }
    rule = SimpleNamespace(
        resources=ResourceList(fromdict=resources),
        threads=threads,
        log=[str(log)],
        params=SimpleNamespace(job=asked),
        input=InputFiles(fromdict={"model": "a", "trials": ["b"]}),
        output=OutputFiles(fromdict={"model": "c", "seals": ["d", "e"]}),
    )
    script = REPO / "workflow" / "scripts" / "step.py"
    runpy.run_path(str(script), {"snakemake": rule}, run_name="__main__")
    given = {
        **asked,
        "inputs": {"model": Path("a"), "trials": [Path("b")]},
        "outputs": {"model": Path("c"), "seals": [Path("d"), Path("e")]},
        "work": Path("kept"),
        "threads": processes.threads,
        "device": resources.get("device", "auto"),
    }
    assert seen == [(run_step, given, processes, tmp_path / "run.log.processes", log)]


def test_what_other_processes_append_to_the_log_stays(tmp_path):
    log = tmp_path / "run.log"
    log.write_text("of an earlier try\n")
    with process.job(log):
        print("before")
        sys.stdout.flush()
        with open(log, "a") as other:
            other.write("of another process\n")
        print("after")
    first, *rest = log.read_text().splitlines()
    assert first.startswith("started ")
    assert rest == ["before", "of another process", "after"]
