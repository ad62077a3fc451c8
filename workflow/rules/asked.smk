# What jobs ask for: GPUs and processes from the suite, memory and time from the suite or the plan.
from pipeline_lib.planning.requests import Requests

REQUESTS = Requests(SUITE, len(RUNS))
GPU = {"gpu": 1} if RESOURCES.gpus else {}


def training_processes():
    """GPUs, processes and machines of a training job; with several machines SLURM counts GPUs by machine."""
    several = RESOURCES.nodes > 1
    gpus = {"gres": f"gpu:{RESOURCES.gpus}"} if several else {"gpu": RESOURCES.gpus}
    found = gpus if RESOURCES.gpus else {}
    if several:
        found["nodes"] = RESOURCES.nodes
    if several or RESOURCES.per_node > 1:
        found["processes"] = RESOURCES.per_node
    if RESOURCES.sharding != "none":
        found["sharding"] = RESOURCES.sharding
    return found


def asked(kind):
    """What a job with a model asks for, more at every try: see pipeline_lib/planning/requests.py."""
    return {
        **(training_processes() if kind in ("finetune", "unlearn", "trial") else GPU),
        "mem_mb": lambda wildcards, attempt: REQUESTS.memory_mb(
            kind, wildcards, attempt
        ),
        "runtime": lambda wildcards, attempt: REQUESTS.minutes(
            kind, wildcards, attempt
        ),
    }


def small(reads_all_runs=False, with_classifier=False):
    """What a job without a model asks for: it reads the results of one run, or of all of them.

    `with_classifier`: it runs a text classifier.
    """
    return {
        "mem_mb": lambda wildcards, attempt: REQUESTS.small_memory_mb(
            attempt, reads_all_runs, with_classifier
        ),
        "runtime": lambda wildcards, attempt: REQUESTS.small_minutes(
            attempt, reads_all_runs
        ),
    }
