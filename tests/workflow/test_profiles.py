"""The profiles, and what jobs ask for through them."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.paths import REPO
from tests.workflow.study import SUITE, Study

PROFILES = REPO / "workflow/profiles"
PODS = PROFILES / "kubernetes/pods.py"
MACHINE = ("cores", "resources")  # of this one, which only the default profile is for


def profile(name: str) -> dict[str, Any]:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_clusters_profile_repeats_what_the_default_one_sets(name: str) -> None:
    """Naming a profile means that the default one is not read."""
    default = {key: value for key, value in profile("default").items() if key not in MACHINE}
    default["__definitions__"] = default["__definitions__"][:1]  # the second is of this machine
    assert {key: profile(name).get(key) for key in default} == default
    assert profile(name)["retries"] > 0 and profile(name)["latency-wait"] >= 60


def test_partition_and_account_stand_in_the_profile_alone() -> None:
    texts = [path.read_text() for path in (REPO / "workflow").rglob("*.smk")]
    assert not any("slurm_partition" in text or "slurm_account" in text for text in texts)
    assert {"slurm_partition", "slurm_account"} <= set(profile("slurm")["default-resources"])


def test_rules_leave_trying_again_to_the_main_process() -> None:
    """A rule's own `retries` run inside the allocation of the first try, with its memory and time."""
    for path in (REPO / "workflow").rglob("*.smk"):
        assert not re.search(r"^    retries:", path.read_text(), re.MULTILINE), path


def asked(study: Study, *arguments: str) -> dict[str, dict[str, int]]:
    """Rule -> what its job asks for, of one run's evaluation."""
    target = "results/small/evaluations/authors/tiny/GradDiff/adamw/seed0/metrics.json"
    said = study.snakemake("--dry-run", target, *arguments).stdout
    found = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", said, re.MULTILINE)
    assert found, said
    return {
        rule: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)(?:,|$)", line)}
        for rule, line in found
    }


def test_requests_grow_with_the_model_and_with_every_try(tmp_path: Path) -> None:
    suite = copy.deepcopy(SUITE)
    suite["resources"] = {"device": "cpu", "gpus": 2, "processes": 2, "memory_limit_mb": 40_000}
    study = Study(tmp_path / "project", suite)
    roomy = ["--resources", "mem_mb=100000"]  # of any machine that this runs on
    small, again = asked(study, *roomy), asked(study, *roomy, "--attempt", "2")
    assert small["unlearn"]["gpu"] == 2 and small["unlearn"]["processes"] == 2
    assert small["evaluate"]["gpu"] == 1 and "processes" not in small["evaluate"]
    assert "gpu" not in small["score"]
    for rule, first in small.items():
        for what in ("mem_mb", "runtime"):
            assert again[rule][what] == pytest.approx(1.5 * first[what], abs=1), rule

    suite["models"]["tiny"] |= {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "layers": 16,
        "vocab_size": 9999,
    }
    study.write(suite)
    large = asked(study, *roomy)
    assert large["unlearn"]["mem_mb"] == 40_000, "no more than the limit"
    assert large["evaluate"]["mem_mb"] > 4 * small["evaluate"]["mem_mb"]
    assert large["unlearn"]["runtime"] > small["unlearn"]["runtime"]
    assert large["score"] == small["score"]

    suite["resources"] = {"device": "cpu", "memory_mb": 1234, "minutes": 7, "nodes": 2, "gpus": 4}
    study.write(suite)
    fixed = asked(study, *roomy)
    assert fixed["unlearn"]["mem_mb"] == fixed["evaluate"]["mem_mb"] == 1234
    assert fixed["unlearn"]["runtime"] == fixed["evaluate"]["runtime"] == 7
    assert fixed["unlearn"]["nodes"] == 2 and fixed["unlearn"]["processes"] == 4


KUBECTL = """#!{python}
import json, os, sys
from pathlib import Path
kept, arguments = Path(os.environ["KEPT"]), sys.argv[1:]
assert arguments[:2] == ["--namespace", "lab"], arguments
if arguments[2] == "create":
    kept.write_text(sys.stdin.read())
    print("job.batch/unlearning-x7k2p")
elif arguments[2] == "get" and not kept.exists():
    sys.exit('Error from server (NotFound): jobs.batch "' + arguments[4] + '" not found')
elif arguments[2] == "get":
    print(json.dumps({{"status": json.loads(os.environ["STATE"])}}))
else:
    kept.unlink()
"""


@pytest.fixture
def pods(tmp_path: Path) -> Any:
    """A call of pods.py, with a kubectl that keeps what it was given."""
    (tmp_path / "bin").mkdir()
    kubectl = tmp_path / "bin/kubectl"
    kubectl.write_text(KUBECTL.format(python=sys.executable))
    kubectl.chmod(0o755)

    def call(*arguments: str, state: str = "{}") -> subprocess.CompletedProcess[str]:
        path = f"{kubectl.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "KEPT": str(tmp_path / "job.json"), "STATE": state}
        command = [sys.executable, str(PODS), *arguments]
        return subprocess.run(
            command, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return call


def test_a_pod_gets_what_the_job_asks_for(pods: Any, tmp_path: Path) -> None:
    submit = profile("kubernetes")["cluster-generic-submit-cmd"].replace("default", "lab")
    values = {
        "{resources.mem_mb}": "1500",
        "{resources.runtime}": "90",
        "{threads}": "4",
        "{resources.gpu}": "2",
    }
    for name, value in values.items():
        submit = submit.replace(name, value)
    done = pods(*shlex.split(submit)[2:], "job.sh")
    assert (done.returncode, done.stdout) == (0, "unlearning-x7k2p\n"), done.stderr
    job = json.loads((tmp_path / "job.json").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == {"cpu": 4, "memory": "1500Mi"}
    assert container["resources"]["limits"] == {"memory": "1500Mi", "nvidia.com/gpu": 2}
    assert job["spec"]["activeDeadlineSeconds"] == 5400 and job["spec"]["backoffLimit"] == 0
    assert (container["command"], container["workingDir"]) == (["sh", "job.sh"], str(tmp_path))
    assert container["volumeMounts"] == [{"name": "study", "mountPath": "/study"}]
    assert pod["volumes"] == [{"name": "study", "persistentVolumeClaim": {"claimName": "study"}}]


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("{}", "running"),
        ('{"active": 1}', "running"),
        ('{"succeeded": 1}', "success"),
        ('{"failed": 1}', "failed"),
    ],
)
def test_the_state_of_a_pod_in_one_word(pods: Any, tmp_path: Path, state: str, word: str) -> None:
    (tmp_path / "job.json").write_text("{}")
    assert pods("status", "--namespace", "lab", "unlearning-x7k2p", state=state).stdout == f"{word}\n"


def test_a_pod_that_is_gone_has_failed_and_others_are_deleted(pods: Any, tmp_path: Path) -> None:
    assert pods("status", "--namespace", "lab", "unlearning-x7k2p").stdout == "failed\n"
    (tmp_path / "job.json").write_text("{}")
    assert pods("cancel", "--namespace", "lab", "unlearning-x7k2p", "unlearning-2").returncode == 0
    assert not (tmp_path / "job.json").exists()
    assert pods("status", "--namespace", "elsewhere", "x").returncode == 1, "not mistaken for a failed job"


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="snakemake-executor-plugin-cluster-generic is not installed",
)
def test_the_kubernetes_profile_plans_the_study(tmp_path: Path) -> None:
    study = Study(tmp_path / "project", copy.deepcopy(SUITE))
    done = subprocess.run(
        [*study.command()[:5], "--workflow-profile", "workflow/profiles/kubernetes", "--dry-run"],
        check=False,
        cwd=study.folder,
        env=study.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "html_report" in done.stdout


TOGETHER = """
rule all:
    input: expand("job{n}", n=range(3))

rule job:
    output: touch("job{n}")
    resources: mem_mb=%s
    shell: "echo + >> order; sleep 0.3; echo - >> order"
"""


@pytest.mark.parametrize(("share", "most"), [(0.6, 1), (0.4, 2), (3, 1)])
def test_jobs_of_more_memory_than_the_machine_has_wait_for_each_other(
    share: float, most: int, tmp_path: Path
) -> None:
    """One that asks for more than there is runs alone, on what there is."""
    memory = runpy.run_path(str(REPO / "workflow/command_line.py"))["memory_mb"]()
    (tmp_path / "Snakefile").write_text(TOGETHER % round(share * memory))
    shutil.copy(REPO / "workflow/command_line.py", tmp_path)
    profile = ["--workflow-profile", str(PROFILES / "default")]
    command = [sys.executable, "-m", "snakemake", "--cores", "3", *profile]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    at_once = [0]
    for line in (tmp_path / "order").read_text().split():
        at_once.append(at_once[-1] + (1 if line == "+" else -1))
    assert max(at_once) == most and len(at_once) == 7


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"memory.max": "3000000000\n"}, 3000000000),
        ({"memory.max": "max\n"}, None),
        ({"memory/memory.limit_in_bytes": "2000000000\n"}, 2000000000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"a/memory.max": "4000000000", "a/job/memory.max": "max"}, 4000000000),
        ({"a/memory.max": "4000000000", "a/job/memory.max": "1000000000"}, 1000000000),
        ({"memory/b/job/memory.limit_in_bytes": "2000000000"}, 2000000000),
        ({"other/memory.max": "1000"}, None),
    ],
)
def test_a_containers_or_jobs_memory_counts(files: dict[str, str], found: int | None, tmp_path: Path) -> None:
    memory_mb = runpy.run_path(str(REPO / "workflow/command_line.py"))["memory_mb"]
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_mb(tmp_path) == whole // 2**20
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:memory:/b/job\n3:cpu,cpuacct:/other\n0::/a/job\n")
    for file, said in files.items():
        limit = tmp_path / "sys/fs/cgroup" / file
        limit.parent.mkdir(parents=True, exist_ok=True)
        limit.write_text(said)
    assert memory_mb(tmp_path) == (found or whole) // 2**20
