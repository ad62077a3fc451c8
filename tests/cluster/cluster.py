"""The cluster of start.sh, what its jobs ask for, and studies that run on it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.workflow.study import Study

HERE = Path(__file__).parent
COMMANDS = ("slurmctld", "slurmd", "sbatch", "munged")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"}
Found = TypeVar("Found")


def missing() -> str:
    """Why no cluster can be started here; empty where one can."""
    places = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])  # daemons lie there
    absent = [name for name in COMMANDS if shutil.which(name, path=places) is None]
    if absent:
        return f"SLURM is not installed (no {', '.join(absent)}): tests/cluster/install.sh"
    return "two jobs run at a time, and there is one CPU" if len(os.sched_getaffinity(0)) < 2 else ""


class Cluster:
    """A started cluster."""

    def __init__(self, folder: Path) -> None:
        self.mains: list[subprocess.Popen[str]] = []  # of studies that run on it
        self.variables = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def call(self, *command: str) -> str:
        environment = {**os.environ, **self.variables}
        return subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout

    def jobs(self, folder: Path) -> list[dict[str, str]]:
        """Every job that was submitted from this folder, first to last, as `scontrol show job` has it."""
        shown = self.call("scontrol", "show", "job", "--oneliner").splitlines()
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in shown]
        found = [job for job in jobs if job.get("WorkDir") == str(folder)]
        return sorted(found, key=lambda job: int(job["JobId"]))


@contextmanager
def started() -> Iterator[Cluster]:
    """A cluster of its own, in a short path: sockets lie in it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.rmdir()
    cluster = Cluster(folder)
    try:
        begun = subprocess.run([HERE / "start.sh", folder], check=False, capture_output=True, text=True)
        if begun.returncode:  # a container may forbid what the daemons need
            pytest.skip(f"SLURM is installed but does not start here: {begun.stderr.strip()[-2000:]}")
        yield cluster
    finally:
        for main in cluster.mains:
            if main.poll() is None:
                os.killpg(main.pid, signal.SIGKILL)
                main.wait()
        subprocess.run([HERE / "stop.sh", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


class ClusterStudy(Study):
    """A study whose jobs a cluster runs."""

    cluster: Cluster

    def on(self, cluster: Cluster) -> ClusterStudy:
        self.cluster = cluster
        self.variables = dict(cluster.variables)
        return self

    def copy(self, folder: Path) -> ClusterStudy:
        """The study with its results, to be changed without changing this one."""
        shutil.copytree(self.folder, folder)
        other = object.__new__(ClusterStudy)
        other.folder = folder
        return other.on(self.cluster)

    def command(self, *arguments: str) -> list[str]:
        plain = super().command(*arguments)
        at = plain.index("--cores")
        return [*plain[:at], "--workflow-profile", str(HERE / "profile"), *plain[at + 2 :]]

    def start(self, *targets: str) -> subprocess.Popen[str]:
        """A main process in the background; its output goes to main.log."""
        with open(self.folder / "main.log", "a") as log:
            main = subprocess.Popen(
                self.command(*targets),
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=_interruptible,  # noqa: PLW1509 - this process has one thread
            )
        self.cluster.mains.append(main)
        return main

    def jobs_of(self, rule: str) -> list[dict[str, str]]:
        """This study's jobs of a rule or group."""
        named = re.compile(rf"(rule|group)_{rule}(_|$)")
        return [job for job in self.cluster.jobs(self.folder) if named.match(job["Comment"])]

    def said(self) -> str:
        return (self.folder / "main.log").read_text()

    def running_jobs(self, rule: str) -> list[dict[str, str]]:
        return [job for job in self.jobs_of(rule) if job["JobState"] not in ENDED]

    def scripts(self, rule: str) -> dict[str, int]:
        """SLURM's number of each running job of this rule, and the process of its script."""
        found, wanted = {}, {job["JobId"] for job in self.running_jobs(rule)}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                program, script, *_ = (place / "cmdline").read_bytes().decode().split("\0")
                python = Path(program).name.startswith("python") and script.endswith(".step.py")
                if python and os.readlink(place / "cwd") == str(self.folder):
                    environment = (place / "environ").read_bytes().decode()
                    job = re.findall(r"SLURM_JOB_ID=(\d+)", environment)[0]
                    found |= {job: int(place.name)} if job in wanted else {}
            except (OSError, ValueError):  # gone, or without arguments
                continue
        return found

    def planned_resources(self, target: str) -> dict[str, dict[str, str]]:
        """What a forced dry run says that the job of each rule asks for."""
        said = self.snakemake("--dry-run", "--forceall", target).stdout
        rules = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", said, re.MULTILINE)
        return {rule: dict(re.findall(r"(\w+)=([^,]+)", line)) for rule, line in rules}


def mebibytes(job: dict[str, str]) -> int:
    """Memory that a job asked for; SLURM shows whole GiB as such."""
    shown = job["MinMemoryNode"]
    return int(shown[:-1]) * {"M": 1, "G": 1024}[shown[-1]]


def _interruptible() -> None:
    """Ctrl-C works, also where the tests run in the background of a shell, which ignores it for them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(what: Callable[[], Found], seconds: float = 300, pause: float = 0.1) -> Found:
    """What the function returns, once that is something; an error after so many seconds."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, f"nothing within {seconds:.0f} seconds"
        time.sleep(pause)
    return found


def freeze(process: int) -> None:
    """The process takes no further step, as if it were slow: what ends it ends it then and there."""
    os.kill(process, signal.SIGSTOP)
