"""How a job runs: its output goes to its log, and a `UserError` ends without a traceback.

A training may run in several processes: those start here. `fork_client` says in which process this runs.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.joblog import JobLog, start_line
from pipeline_lib.core.locking import only_one
from pipeline_lib.core.redaction import visible
from pipeline_lib.core.stopping import STATUS, Stopped, listen
from pipeline_lib.core.system_errors import explained
from pipeline_lib.distributed.launch import Processes, call
from pipeline_lib.steps.job import run_step

RESOURCES = ("device", "gpu", "processes", "nodes", "sharding")


def run(asked: Mapping[str, Any]) -> None:
    """Run the job's step in as many processes as the job's resources say; they share its threads.

    `asked`: plain values, as `workflow/scripts/step.py` reads them from the rule: `params` (step, settings,
    identity, code, work), `inputs` and `outputs` (paths by name), `log`, `threads`, and those of RESOURCES
    that the job has (`processes`: on each node). These are no parameters, because results do not depend on
    them but for rounding: a study may go on on another device, or on more GPUs.
    """
    log = Path(asked["log"])
    with job(log):
        resources, params = asked["resources"], asked["params"]
        on_node = resources.get("processes", max(resources.get("gpu", 1), 1))
        threads = max(asked["threads"] // on_node, 1)
        sharded = resources.get("sharding", "none") == "full"
        given = {
            **params,
            "inputs": {name: _paths(value) for name, value in asked["inputs"].items()},
            "outputs": {name: _paths(value) for name, value in asked["outputs"].items()},
            "work": None if params["work"] is None else Path(params["work"]),
            "threads": threads,
            "device": resources.get("device", "auto"),
        }
        processes = Processes(on_node, resources.get("nodes", 1), sharded, threads)
        call(run_step, given, processes, log.with_name(f"{log.name}.processes"), log)


@contextmanager
def job(log: Path) -> Iterator[None]:
    """Send stdout and stderr to the log and end the process with status 1 on any error.

    Asked to end by SIGTERM, it says what is kept and ends with status 143 (see core/stopping.py).
    One process at a time runs a job: what a killed snakemake left running is not started a second time.
    A machine without disk space or memory is told in a message, as a `UserError` is.
    """
    terminal = sys.stderr
    with ExitStack() as held:
        try:
            held.enter_context(only_one(log.with_name(f".{log.name}.running"), f"the job of {log}"))
            log.write_text("")
            # "a": other processes may append too
            handle = held.enter_context(open(log, "a", encoding="utf-8", buffering=1))
            handle.write(start_line())  # by which the status of the study knows whether the job still runs
        except (UserError, OSError) as error:
            _say(f"error: {explained(error) or error}", terminal)
            sys.exit(1)
        lines: Any = JobLog(handle, log)
        sys.stdout = sys.stderr = lines
        try:
            listen()
            yield
        except Stopped as told:
            _say(f"stopped: {told}", lines, terminal)
            sys.exit(STATUS)
        except UserError as error:
            _say(f"error: {error}", lines, terminal)
            sys.exit(1)
        except Exception as error:
            _say(traceback.format_exc().rstrip(), lines)
            if reason := explained(error):
                _say(f"error: {reason}", lines, terminal)
                sys.exit(1)
            raise
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, terminal
            with suppress(OSError):
                lines.close()


def _say(text: str, *streams: TextIO) -> None:
    for stream in streams:
        with suppress(OSError):  # a log on a full disk
            print(visible(text), file=stream, flush=True)


def _paths(value: str | list[str]) -> Path | list[Path]:
    return Path(value) if isinstance(value, str) else [Path(path) for path in value]
