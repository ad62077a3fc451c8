"""Start the processes of one job: on this machine, or on all nodes of a SLURM allocation.

Each process runs one function of this library with the same arguments (`distributed.worker`). If one dies,
the others are stopped and the reason is reported once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.stopping import AGAIN as CONTINUES
from pipeline_lib.core.stopping import Stopped, asked, deferred

REPOSITORY = Path(__file__).resolve().parents[2]
PATH = "an absolute path"  # the key by which a path in task.json is known
STORE = "PIPELINE_STORE"  # host:port where the processes of several nodes meet
OF_THE_ALLOCATION = ("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_CLUSTER_NAME", "SLURM_CONF")
AGAIN = "The job continues from its last checkpoint when it is run again"


@dataclass(frozen=True)
class Processes:
    """How many processes train one model.

    `threads`: of each. `sharded`: each holds a part of weights, gradients and states.
    """

    on_node: int = 1
    nodes: int = 1
    sharded: bool = False
    threads: int = 1

    @property
    def total(self) -> int:
        return self.on_node * self.nodes


def call(
    function: Callable[..., None],
    arguments: dict[str, Any],
    processes: Processes,
    folder: Path,
    log: Path | None,
) -> None:
    """Run `function(**arguments)`: here, or, for more than one process, in each of them.

    `function`: one of a module's top level. `arguments`: plain values and paths, also in lists and dicts.
    `folder` is made for messages to and from the processes, and removed again; all nodes must see it. Their
    output is appended to `log`. Raises the `UserError` that a process raised, or one that says which process
    died and how.
    """
    if processes.total == 1:
        function(**arguments)
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        task = {
            "function": f"{function.__module__}:{function.__qualname__}",
            "arguments": arguments,
            "log": None if log is None else str(log.resolve()),
            "on_node": processes.on_node,
            "sharded": processes.sharded,
        }
        (folder / "task.json").write_text(
            json.dumps(task, allow_nan=False, default=_encoded), encoding="utf-8"
        )
        deaths = _on_nodes(processes, folder) if processes.nodes > 1 else _on_this_machine(processes, folder)
        if deaths is not None:
            raise _reason(deaths, folder, processes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _encoded(value: Any) -> dict[str, str]:
    """A path as JSON, which has no paths."""
    if not isinstance(value, Path):
        raise TypeError(f"a process can be told plain values and paths, not {value!r}")
    return {PATH: str(value.resolve())}


def _environment() -> dict[str, str]:
    """This process's environment, in which the library is found whether it is installed or not."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _on_this_machine(processes: Processes, folder: Path) -> dict[int, int] | None:
    """Exit codes of the processes that failed, by rank; None if all went well."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes.on_node,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # any free port
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "elastic")),
    )
    before = dict(os.environ)
    os.environ.update(_environment())  # what the processes are started with
    try:
        elastic_launch(config, sys.executable)("-m", "pipeline_lib.distributed.worker", str(folder.resolve()))
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    except SignalException:  # the processes were told, and have ended
        return {-1: -signal.SIGTERM}
    finally:
        os.environ.clear()
        os.environ.update(before)
    return None


def _on_nodes(processes: Processes, folder: Path) -> dict[int, int] | None:
    """The same through srun, inside the job's allocation. srun reports no ranks, so -1 stands for any."""
    from torch.distributed import TCPStore

    if "SLURM_JOB_ID" not in os.environ or shutil.which("srun") is None:
        raise UserError(
            f"resources.nodes is {processes.nodes}, but this job is not in a SLURM allocation (no "
            "SLURM_JOB_ID, or no srun); use workflow/profiles/slurm, or set resources.nodes: 1"
        )
    # This process holds the store, so nobody must guess where rank 0 will be, or which port is free there.
    store = TCPStore("0.0.0.0", 0, is_master=True, wait_for_workers=False)  # noqa: S104  # other nodes call
    command = [
        "srun",
        "--overlap",  # this process may be a step of the allocation itself
        "--kill-on-bad-exit=1",
        f"--nodes={processes.nodes}",
        f"--ntasks={processes.total}",
        f"--ntasks-per-node={processes.on_node}",
        f"--cpus-per-task={processes.threads}",
        *(sys.executable, "-m", "pipeline_lib.distributed.worker", str(folder.resolve())),
    ]
    # srun would take the variables of the step that this process is for options of the new one.
    plain = {k: v for k, v in _environment().items() if not k.startswith("SLURM_") or k in OF_THE_ALLOCATION}
    environment = {**plain, STORE: f"{socket.gethostname()}:{store.port}"}
    nothing = subprocess.DEVNULL  # else srun would read the stdin from which a scheduler feeds this job
    with deferred(), subprocess.Popen(command, env=environment, stdin=nothing) as process:  # noqa: S603
        while (code := process.poll()) is None:
            if asked():
                process.terminate()  # srun passes the signal on, and its tasks write their checkpoints
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1 if not asked() else None)
    if code > 128:  # so srun reports that a signal ended a task
        code = 128 - code
    return None if code == 0 else {-1: code}


def _reason(deaths: dict[int, int], folder: Path, processes: Processes) -> BaseException:
    """The error that came first: the other processes failed because of it."""
    told = {
        error["rank"]: error
        for error in (json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("error.*.json"))
    }
    silent = {
        rank: code
        for rank, code in deaths.items()
        if rank not in told and code not in (-signal.SIGTERM, -signal.SIGINT)  # by the launcher
    }
    # The launcher asks the others to end when one has died: no cause, unless this process was asked too.
    died = not asked() and any(code != 1 for code in silent.values())
    causes = [e for e in told.values() if not e["lost_another"] and not (died and e["stopped"])]
    if causes:
        first = min(causes, key=lambda error: error["time"])
        if first["stopped"]:
            return Stopped(first["message"])
        if first["user"]:
            return UserError(first["message"])
        where = f"process {first['rank']} of {processes.total}"
        return RuntimeError(f"{where} failed: {first['message']} (its traceback is in the log)")
    if asked() or (-signal.SIGTERM in deaths.values() and not silent):
        return Stopped(f"asked to end by a signal (SIGTERM); the last checkpoint is kept, and {CONTINUES}")
    # A process that lost the others may end with status 1 before it can say so: any other comes first.
    rank, code = min(silent.items(), key=lambda death: (death[1] == 1, death[0]), default=(-1, 1))
    who = f"process {rank} (from 0)" if rank >= 0 else "one"
    return UserError(f"{who} of {processes.total} processes {_end(code)}. The others were stopped. {AGAIN}")


def _end(code: int) -> str:
    """How a process ended that had no time to report it."""
    if code >= 0:
        return f"ended without a word, with exit status {code}: killed from outside, or by a library"
    hint = "; most often the machine ran out of memory" if code == -signal.SIGKILL else ""
    return f"was ended by signal {-code} ({signal.Signals(-code).name}){hint}"
