# The suite and its graph. Every rule reads its files, parameters and requests from there (pipeline_lib/study/graph.py).
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import ExecMode

if str(workflow.basedir) not in sys.path:
    sys.path.insert(0, str(workflow.basedir))

import command_line

if str(command_line.LIBRARY) not in sys.path:
    sys.path.insert(0, str(command_line.LIBRARY))

from pipeline_lib.core.environment import missing_package

try:
    import pipeline_lib.operations.running as running
except ImportError as error:
    raise WorkflowError(missing_package(error)) from None

from pipeline_lib.core.errors import UserError
from pipeline_lib.steps import fork_client
from pipeline_lib.study import check_suite_file, parse_suite

CALL = command_line.given()


def told(function, *arguments):
    """Call a function of the library; what it refuses is told in one message."""
    try:
        return function(*arguments)
    except UserError as error:
        raise WorkflowError(str(error)) from None


if CALL is not None:
    told(command_line.check, CALL, sys.argv[1:])
for path in workflow.overwrite_configfiles:
    told(check_suite_file, path)
# A program that calls Snakemake gives values, not what somebody typed.
TYPED = {} if CALL is None else workflow.config_settings.config
SUITE = told(parse_suite, command_line.read_again(config, TYPED))
STUDY = running.Running(SUITE, refuse=WorkflowError)

# A shell that is asked to end waits for its job, which writes a checkpoint first (pipeline_lib/core/stopping.py).
shell.prefix("set -euo pipefail; trap : TERM; ")

# Data and models that cannot be read are refused in a dry run too, but not in a job of a study that was looked at.
if workflow.exec_mode == ExecMode.DEFAULT and (
    CALL is None or command_line.runs_jobs(CALL)
):
    for line in told(STUDY.look_at_inputs, [] if CALL is None else CALL.targets):
        print(line, file=sys.stderr)


def model_folder(path):
    """Unlearned models may be deleted once they are evaluated."""
    return directory(path) if SUITE.resources.keep_models else temp(directory(path))


def shown(form, caption, category):
    """Outputs of which one stands in Snakemake's own report."""
    return {
        form: lambda path: report(
            path, caption=f"../report/{caption}.rst", category=category
        )
    }


# Jobs on this machine are forks of a process that has the heavy packages imported, also those of a cluster's group.
FORKS = fork_client.Forks()
if workflow.exec_mode == ExecMode.REMOTE:
    FORKS.start(command_line.jobs_of_the_group())


def ended():
    STUDY.end()
    FORKS.end()


onstart:
    told(STUDY.start)
    FORKS.start(workflow.local_exec and sum(1 for _ in workflow.dag.needrun_jobs()))
    if workflow.local_exec:
        # A limit of jobs a second is for clusters. With it every job that ends leaves one more timer that wakes
        # the scheduler each second: after 300 jobs that took a quarter of a core (Snakemake 9.27).
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    ended()


onerror:
    ended()
