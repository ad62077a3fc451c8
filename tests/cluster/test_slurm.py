"""Studies on a real SLURM cluster of one node: what reaches it, and what happens when processes end.

One file, so that one worker starts one cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_lib.core.files import read_json, read_jsonl, sha256
from tests.cluster.cluster import Cluster, ClusterStudy, freeze, mebibytes, missing, started, wait_for
from tests.paths import REPO

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "SLURM is here")

ROWS = ("adamw", "sophia")


def cut_of_the_demo() -> dict[str, Any]:
    """One task, one seed and two rows of the demo suite, with as little data as it takes."""
    suite = yaml.safe_load((REPO / "config.yaml").read_text())
    suite["suite"] = "small"
    suite["seeds"] = [0]
    del suite["retrained_seeds"], suite["attacks"]
    suite["tasks"] = {"authors": suite["tasks"]["authors"]}
    suite["tasks"]["authors"] |= {"n_authors": 8, "questions_per_author": 3, "n_facts": 8}
    suite["tasks"]["authors"] |= {"forget_authors": 2, "holdout_authors": 2}
    suite["models"]["tiny"] |= {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2}
    suite["models"]["tiny"] |= {"kv_heads": 2, "vocab_size": 400}
    suite["finetune"] |= {"epochs": 2}
    suite["unlearn"] |= {"epochs": 300, "checkpoint_seconds": 0}
    suite["objectives"] = {"GradDiff": suite["objectives"]["GradDiff"]}
    suite["optimizers"] = {name: suite["optimizers"][name] for name in ROWS}
    suite["runs"] = [{"methods": ["GradDiff"], "optimizers": list(ROWS)}]
    suite["evaluation"] = {"max_new_tokens": 4}
    # No memory_mb: jobs ask for what the plan says.
    suite["resources"] = {"device": "cpu", "gpus": 1, "threads": 1}
    return suite


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def finished(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> ClusterStudy:
    """The cut of the demo, run to its report by the cluster, undisturbed."""
    folder = tmp_path_factory.mktemp("cluster") / "project"
    study = ClusterStudy(folder, cut_of_the_demo()).on(cluster)
    assert study.start().wait() == 0, study.said()[-6000:]
    return study


def unlearned_again(finished: ClusterStudy, folder: Path) -> ClusterStudy:
    """A copy of the study in which the unlearned models are still to be made."""
    study = finished.copy(folder)
    for place in ("models", "training", "evaluations"):
        subprocess.run(["rm", "-r", study.results / place / "authors/tiny/GradDiff"], check=True)
    (study.folder / "main.log").unlink()
    return study


def model(row: str) -> str:
    return f"results/small/models/authors/tiny/GradDiff/{row}/seed0"


def checkpoint(study: ClusterStudy, row: str) -> Path:
    return study.results / f"checkpoints/authors/tiny/GradDiff/{row}/seed0/state.json"


def frozen_at_checkpoints(study: ClusterStudy) -> dict[str, tuple[dict[str, str], int]]:
    """Every row's job and process, which takes no further step, once it has saved its first ones."""
    frozen: dict[str, tuple[dict[str, str], int]] = {}

    def all_rows() -> bool:
        for row in set(ROWS) - set(frozen):
            if checkpoint(study, row).is_file():
                (job,) = [job for job in study.running_jobs("unlearn") if row in job["Comment"]]
                process = study.scripts("unlearn")[job["JobId"]]
                freeze(process)
                frozen[row] = (job, process)
        return len(frozen) == len(ROWS)

    wait_for(all_rows, pause=0.005)
    return frozen


def steps(study: ClusterStudy, row: str) -> list[dict[str, Any]]:
    return read_jsonl(study.results / f"training/authors/tiny/GradDiff/{row}/seed0/steps.jsonl")


def assert_continued(study: ClusterStudy, row: str, saved: list[dict[str, Any]]) -> None:
    """The row's first steps are those that the checkpoint held, with the times of the try that made them."""
    assert saved and steps(study, row)[: len(saved)] == saved
    assert not (checkpoint(study, row)).exists()


def assert_same_bits(study: ClusterStudy, finished: ClusterStudy) -> None:
    for row in ROWS:
        ours, theirs = (s.folder / model(row) / "model.safetensors" for s in (study, finished))
        assert sha256(ours) == sha256(theirs), row


def test_requests_reach_the_jobs(finished: ClusterStudy) -> None:
    assert (finished.results / "report/index.html").is_file()
    (first,) = [job for job in finished.jobs_of("unlearn") if "adamw" in job["Comment"]]
    planned = finished.planned_resources(model("adamw"))["unlearn"]
    assert first["TresPerJob"] == "gres:gpu:1"
    assert mebibytes(first) == int(planned["mem_mb"]) and 500 < mebibytes(first) < 2000
    assert first["TimeLimit"] == f"00:{int(planned['runtime']):02d}:00"
    assert first["NumCPUs"] == "1" and first["Partition"] == "gpu"
    assert first["JobName"].startswith("unlearning_")

    # Groups: four evaluations one after the other, on one GPU; all scores; everything of the report.
    (evaluations,) = finished.jobs_of("evaluations")
    assert evaluations["TresPerJob"] == "gres:gpu:1" and evaluations["NumCPUs"] == "1"
    assert evaluations["TimeLimit"] == "00:40:00"
    assert len(finished.jobs_of("scores")) == len(finished.jobs_of("report")) == 1
    assert len(list(finished.results.rglob("metrics.json"))) == 4
    assert not finished.jobs_of("evaluate") + finished.jobs_of("score") + finished.jobs_of("table")


def test_a_failing_job_is_tried_again_with_more_and_the_rest_goes_on(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PIPELINE_DATA": "", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    suite = cut_of_the_demo()
    suite["tasks"]["own"] = {
        "source": "tofu",
        "hub": "nobody/nothing",
    }  # what is on the hub is seen by its job
    study = ClusterStudy(tmp_path / "project", suite).on(cluster)
    targets = [f"results/small/data/{task}/manifest.json" for task in ("own", "authors")]
    assert study.start(*targets).wait() != 0
    assert "error: " in study.said() and "nobody/nothing" in study.said()
    assert (study.folder / targets[1]).is_file() and not (study.folder / targets[0]).exists()
    tries = [job for job in study.jobs_of("prepare_data") if job["Comment"].endswith("_own")]
    memory = [mebibytes(job) for job in tries]
    assert len(tries) == 3 and {job["JobState"] for job in tries} == {"FAILED"}
    assert memory[1] == pytest.approx(1.5 * memory[0], abs=2)
    assert memory[2] == pytest.approx(2.25 * memory[0], abs=2)


def test_cancelled_and_timed_out_jobs_continue_with_more(finished: ClusterStudy, tmp_path: Path) -> None:
    """One job is ended by scancel, the other by SLURM's own time limit; each is tried again by itself."""
    study = unlearned_again(finished, tmp_path / "project")
    main = study.start(*map(model, ROWS))
    ended = {}
    for row, (job, process) in frozen_at_checkpoints(study).items():
        environment = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
        assert any(value in environment for value in ("CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"))
        ended[row] = (job, read_json(checkpoint(study, row))["log"])
    cancelled, late = (ended[row][0]["JobId"] for row in ROWS)
    study.cluster.call("scancel", cancelled)
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 1))
    study.cluster.call("scontrol", "update", f"JobId={late}", f"EndTime={now}")
    assert main.wait() == 0, study.said()[-6000:]
    states = {job["JobId"]: job["JobState"] for job in study.jobs_of("unlearn")}
    assert states[cancelled] == "CANCELLED" and states[late] == "TIMEOUT"
    assert sorted(states.values()) == ["CANCELLED", "COMPLETED", "COMPLETED", "TIMEOUT"]
    for row in ROWS:
        first, second = [job for job in study.jobs_of("unlearn") if row in job["Comment"]]
        assert mebibytes(second) == pytest.approx(1.5 * mebibytes(first), abs=2)
        assert_continued(study, row, ended[row][1])
    assert_same_bits(study, finished)


def test_kill_9_and_ctrl_c_of_the_main_process(finished: ClusterStudy, tmp_path: Path) -> None:
    """After kill -9 jobs run on: they are cancelled by the run's name, as docs/cluster.md says, then the same
    command continues. Ctrl-C cancels them itself."""
    study = unlearned_again(finished, tmp_path / "project")
    main = study.start(*map(model, ROWS))
    left = {job["JobId"] for job, _ in frozen_at_checkpoints(study).values()}
    os.killpg(main.pid, signal.SIGKILL)
    main.wait()
    running = study.running_jobs("unlearn")
    assert {job["JobId"] for job in running} == left, "they outlive the main process"
    saved = {row: read_json(checkpoint(study, row))["log"] for row in ROWS}

    (name,) = {job["JobName"] for job in running}
    assert f"SLURM run ID: {name}" in study.said(), "the run's name stands in the main process's log"
    study.cluster.call("scancel", "--name", name)
    wait_for(lambda: not study.running_jobs("unlearn"))

    main = study.start(*map(model, ROWS))
    again: set[str] = set()

    def both_frozen() -> bool:
        for job, process in study.scripts("unlearn").items():
            freeze(process)
            again.add(job)
        return len(again) == len(ROWS)

    wait_for(both_frozen)
    assert not again & left
    os.kill(main.pid, signal.SIGINT)
    assert main.wait() != 0
    wait_for(lambda: not study.running_jobs("unlearn"), seconds=60)

    assert study.start(*map(model, ROWS)).wait() == 0, study.said()[-6000:]
    states = [job["JobState"] for job in study.jobs_of("unlearn")]
    assert sorted(states) == ["CANCELLED"] * 4 + ["COMPLETED"] * 2, "no model was made twice"
    for row in ROWS:
        assert steps(study, row)[: len(saved[row])] == saved[row]
    assert_same_bits(study, finished)


def test_the_profile_of_the_tests_is_that_of_production() -> None:
    """What the tests prove of their profile holds for the one that is shipped: same keys, same behaviour."""
    shipped, own = (
        yaml.safe_load(path.read_text())
        for path in (
            REPO / "workflow/profiles/slurm/config.yaml",
            Path(__file__).parent / "profile/config.yaml",
        )
    )
    waits = {
        "__definitions__",  # refuse a mistyped call, and
        "__use_yte__",  # make Snakemake read them; nothing of a cluster
        "jobs",
        "latency-wait",
        "max-status-checks-per-second",
        "default-resources",
        "groups",
        "group-components",
        "set-resources",
        "resources",
        "set-resource-scopes",
    }
    assert {key: own[key] for key in set(shipped) - waits} == {k: shipped[k] for k in set(shipped) - waits}
    assert set(own) - set(shipped) == {
        "seconds-between-status-checks",
        "slurm-init-seconds-before-status-checks",
        "slurm-status-command",
        "slurm-no-account",
    }
