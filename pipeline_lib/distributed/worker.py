"""One of the processes of a job: join the others, run the job's function, report what went wrong.

    python -m pipeline_lib.distributed.worker FOLDER

FOLDER holds task.json (see `distributed.launch`); an error is left there as error.RANK.json.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_json
from pipeline_lib.core.joblog import JobLog
from pipeline_lib.core.stopping import Stopped, listen
from pipeline_lib.distributed import group
from pipeline_lib.distributed.launch import PATH, STORE

# The longest wait for another process: the first one may need long to write a checkpoint of a large model.
PATIENCE = timedelta(hours=2)


def main(folder: Path) -> int:
    """Exit status 0, or 1 after an error."""
    task = json.loads(
        (folder / "task.json").read_text(encoding="utf-8"),
        object_hook=lambda value: Path(value[PATH]) if PATH in value else value,
    )
    _watch_parent()
    listen()
    if task["log"]:
        _write_to(Path(task["log"]))
    rank = int(os.environ["RANK"] if "RANK" in os.environ else os.environ["SLURM_PROCID"])
    try:
        arguments = task["arguments"]
        join(rank, task["on_node"], arguments.get("device", "auto"), task["sharded"])
        module, name = task["function"].split(":")
        getattr(importlib.import_module(module), name)(**arguments)
        dist.destroy_process_group()
    except (Exception, Stopped) as error:
        stopped = isinstance(error, Stopped)
        user = isinstance(error, UserError) or stopped
        message = str(error) if user else traceback.format_exception_only(error)[-1].strip()
        # An exchange fails where another process is gone, whose error is then the cause.
        lost = isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
        write_json(
            folder / f"error.{rank}.json",
            {
                "rank": rank,
                "user": user,
                "message": message,
                "time": time.time(),
                "stopped": stopped,
                "lost_another": lost,
            },
        )
        if not user:
            print(f"process {rank}:", traceback.format_exc(), file=sys.stderr, flush=True)
        # The others may be waiting for this process in an exchange, so no tidy end is possible.
        sys.stderr.flush()
        os._exit(1)
    return 0


def join(rank: int, on_node: int, device: str, sharded: bool) -> None:
    """Meet the other processes. Where GPUs are used, each takes the one of its place on the node."""
    local = int(os.environ["LOCAL_RANK"] if "LOCAL_RANK" in os.environ else os.environ["SLURM_LOCALID"])
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        found = torch.cuda.device_count()
        if found < on_node:
            raise UserError(
                f"{on_node} processes on this node need a GPU each, but it shows {found}; set resources.gpus "
                "to what the job gets and leave resources.processes out, or set resources.device: cpu"
            )
        torch.cuda.set_device(local)
    backend = "nccl" if on_gpu else "gloo"
    if STORE in os.environ:
        host, port = os.environ[STORE].rsplit(":", 1)
        store = dist.TCPStore(host, int(port), is_master=False, timeout=PATIENCE)
        size = int(os.environ["SLURM_NTASKS"])
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    else:
        dist.init_process_group(backend, timeout=PATIENCE)
    group.set_sharding(sharded)


def _write_to(log: Path) -> None:
    """Append all output to the job's log, that of C libraries too."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    sys.stdout = sys.stderr = JobLog(sys.stderr, log)


def _watch_parent() -> None:
    """End with the process that started this one, however that ends: nothing else would stop this one."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
