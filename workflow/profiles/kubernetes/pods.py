"""Submit, ask after and cancel Snakemake's jobs as Kubernetes jobs of one pod, with kubectl.

For snakemake-executor-plugin-cluster-generic, which gives `submit` the path of a job's script, and `status`
and `cancel` the names that `submit` printed. Script, project and results lie on a volume that every pod
mounts at the same place. Memory is request and limit, so that a job that takes more is ended and tried
again with more; a pod that takes more than its minutes is ended by Kubernetes (activeDeadlineSeconds).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LABELS = {"app": "unlearning"}
KEPT_SECONDS = 3600  # of a job that has ended, so that its state and its log can still be asked for


def manifest(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The Kubernetes job that runs the script in `folder`."""
    memory = f"{given.memory}Mi"
    limits: dict[str, Any] = {"memory": memory}
    if given.gpus:
        limits["nvidia.com/gpu"] = given.gpus
    container = {
        "name": "job",
        "image": given.image,
        "command": ["sh", given.script],
        "workingDir": str(folder),
        "resources": {"requests": {"cpu": given.threads, "memory": memory}, "limits": limits},
        "volumeMounts": [{"name": "study", "mountPath": given.mount}],
    }
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "study", "persistentVolumeClaim": {"claimName": given.claim}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "unlearning-", "labels": LABELS},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": 60 * given.minutes,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": LABELS}, "spec": pod},
        },
    }


def submit(given: argparse.Namespace) -> None:
    """Print the new job's name."""
    made = kubectl(given, "create", "-f", "-", "-o", "name", text=json.dumps(manifest(given, Path.cwd())))
    print(made.strip().removeprefix("job.batch/"))


def status(given: argparse.Namespace) -> None:
    """Print running, success or failed; a job that is gone has failed."""
    try:
        state = json.loads(kubectl(given, "get", "job", given.name, "-o", "json")).get("status", {})
    except subprocess.CalledProcessError as error:
        if "NotFound" not in error.stderr:
            raise
        state = {"failed": 1}
    print("success" if state.get("succeeded") else "failed" if state.get("failed") else "running")


def cancel(given: argparse.Namespace) -> None:
    """Delete jobs with their pods."""
    kubectl(given, "delete", "job", "--ignore-not-found", "--wait=false", *given.names)


def kubectl(given: argparse.Namespace, *arguments: str, text: str | None = None) -> str:
    """What kubectl prints."""
    command = ["kubectl", "--namespace", given.namespace, *arguments]
    done = subprocess.run(command, check=True, input=text, capture_output=True, text=True)  # noqa: S603
    return done.stdout


def main() -> int:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for run in (submit, status, cancel):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        command.add_argument("--namespace", default="default")
        if run is submit:
            for name in ("image", "claim", "mount"):
                command.add_argument(f"--{name}", required=True)
            for name in ("memory", "minutes", "threads", "gpus"):
                command.add_argument(f"--{name}", type=int, required=True)
            command.add_argument("script")
        elif run is status:
            command.add_argument("name")
        else:
            command.add_argument("names", nargs="+")
    given = parser.parse_args()
    try:
        given.run(given)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"kubectl: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
