"""Bad suites, kills and second processes, on the real workflow."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import time

import pytest

from pipeline_lib.core.files import sha256
from tests.workflow.study import SUITE, Study


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s["optimizers"]["adamw"].update(lerning_rate=1), "did you mean 'learning_rate'"),
        (lambda s: s["optimizers"]["adamw"].update(learning_rate=-1), "optimizers.adamw.learning_rate"),
        (lambda s: s["runs"][0].update(methods=["GradDif"]), "did you mean 'GradDiff'"),
        (lambda s: s.update(suite="../elsewhere"), "suite"),
    ],
)
def test_a_bad_suite_fails_before_any_job(tmp_path, change, expected):
    suite = copy.deepcopy(SUITE)
    change(suite)
    study = Study(tmp_path / "project", suite)
    done = study.snakemake("--dry-run")
    assert done.returncode != 0
    assert expected in done.stdout
    assert "Traceback" not in done.stdout
    assert not (study.folder / "results").exists()


def test_a_failing_job_shows_one_message_and_the_rest_goes_on(tmp_path):
    suite = copy.deepcopy(SUITE)
    suite["tasks"]["far"] = {"source": "tofu", "hub": "nobody/nothing"}
    study = Study(tmp_path / "project", suite)
    study.variables = {"HF_HUB_OFFLINE": "1", "PIPELINE_DATA": "", "HF_HOME": str(tmp_path / "empty")}
    done = study.snakemake("results/small/data/authors/manifest.json", "results/small/data/far/manifest.json")
    assert done.returncode != 0
    assert "Not looked at before the run: the task far (data set nobody/nothing is on the hub)" in done.stdout
    assert "data set nobody/nothing at revision" in done.stdout
    assert (study.results / "data/authors/manifest.json").is_file()
    assert not (study.results / "data/far").exists() or not list((study.results / "data/far").iterdir())


def test_data_that_cannot_be_read_are_refused_in_a_dry_run_too(tmp_path):
    suite = copy.deepcopy(SUITE)
    suite["tasks"]["own"] = {"source": "files", "folder": str(tmp_path / "nowhere")}
    study = Study(tmp_path / "project", suite)
    for arguments in (["--dry-run"], []):
        done = study.snakemake(*arguments)
        assert done.returncode != 0
        assert f"tasks.own.folder: expected a file or folder at {tmp_path / 'nowhere'}" in done.stdout
        assert not (study.folder / "results").exists()
    assert study.snakemake("--dry-run", "results/small/data/authors/manifest.json").returncode == 0
    assert study.snakemake("--unlock").returncode == 0, "unlocking reads nothing"


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_and_the_same_command_give_the_same_bits(finished, tmp_path, sent):
    target = "models/authors/tiny/GradDiff/sophia/seed0"
    study = Study(tmp_path / "project", SUITE)
    # Everything up to the run that is to be killed is taken over, so that the kill falls into training.
    process = subprocess.Popen(
        study.command(f"results/small/{target}"),
        cwd=study.folder,
        env=study.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    checkpoint = study.results / "checkpoints/authors/tiny/original/none/seed0/state.json"
    deadline = time.monotonic() + 120
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert checkpoint.is_file()
    os.killpg(process.pid, sent)
    process.wait()
    if sent == signal.SIGTERM:  # also the shell around the job was asked to end
        text = (study.results / "logs/finetune/authors/tiny/original/none/seed0.log").read_text()
        assert "stopped: asked to end by a signal (SIGTERM); a checkpoint of step " in text
    assert not (study.results / target).exists()
    done = study.snakemake(f"results/small/{target}")
    assert done.returncode == 0, done.stdout[-4000:]
    for folder in ("models/authors/tiny/original/none/seed0", target):
        ours, undisturbed = study.results / folder, finished.results / folder
        assert sha256(ours / "model.safetensors") == sha256(undisturbed / "model.safetensors")


def test_a_second_main_process_is_refused(finished, tmp_path):
    study = finished.copy(tmp_path / "project")
    (study.results / "report/index.html").unlink()
    holder = subprocess.Popen(
        [
            study.command()[0],
            "-c",
            "import sys, time; from pipeline_lib.core.locking import hold_lock\n"
            "hold_lock(sys.argv[1]); print('held', flush=True); time.sleep(600)",
            str(study.results / ".lock"),
        ],
        cwd=study.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        done = study.snakemake()
        assert done.returncode != 0
        assert "in use by another snakemake" in done.stdout
        assert not (study.results / "report/index.html").exists()
    finally:
        holder.kill()
        holder.wait()
    assert study.snakemake().returncode == 0
