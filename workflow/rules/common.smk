# The suite, its runs, and where things lie. Everything else builds on these names.
import json
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

REPOSITORY = Path(workflow.basedir).parent
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

from pipeline_lib.config import dump_suite, parse_suite
from pipeline_lib.config.table import ANCHORS, run_index, run_labels
from pipeline_lib.errors import UserError
from pipeline_lib.locking import hold_lock
from pipeline_lib.provenance import source_hash
from pipeline_lib.reporting.catalog import FIGURES, REPORT_NEEDS, TABLES

try:
    SUITE = parse_suite(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

OUT = Path("results") / SUITE.suite
RUNS = run_index(SUITE)
RUN = "{task}/{model}/{method}/{optimizer}/seed{seed}"
ANCHOR = "{task}/{model}/{method}/none/seed{seed}"
RESOURCES = SUITE.resources
DEVICE = RESOURCES.device
GPU = {"gpu": RESOURCES.gpus} if RESOURCES.gpus else {}
TABLE_FORMS = ["csv", "md", "tex"]
FIGURE_FORMS = ["svg", "png"]


wildcard_constraints:
    task="|".join(map(re.escape, SUITE.tasks)),
    model="|".join(map(re.escape, SUITE.models)),
    optimizer="[A-Za-z0-9][A-Za-z0-9_.-]*",
    seed="[0-9]+",


def run_of(wildcards):
    """The run table's row that these wildcards name."""
    return RUNS[
        wildcards.task,
        wildcards.model,
        wildcards.method,
        wildcards.optimizer,
        int(wildcards.seed),
    ]


def identity(wildcards):
    """Who a run is, for run.json and metrics.json. Anchors have no optimiser wildcard."""
    return {
        "suite": SUITE.suite,
        "task": wildcards.task,
        "model": wildcards.model,
        "method": wildcards.method,
        "optimizer": wildcards.get("optimizer", "none"),
        "seed": int(wildcards.seed),
    }


def all_runs():
    """Folder below models/, training/ and evaluations/ of every run, anchors first."""
    return [
        f"{task}/{model}/{method}/{optimizer}/seed{seed}"
        for task, model, method, optimizer, seed in RUNS
    ]


def unlearned_model(path):
    """Unlearned models may be deleted once they are evaluated; anchors stay."""
    return directory(path) if RESOURCES.keep_models else temp(directory(path))


def reference_records(wildcards):
    """Records of the retrained model that this run is held against: the one of the same seed.

    A retrained model is held against the retrained model of the next seed, where there is one: the
    distance between two models that both never saw the forget set is the scale of all others.
    """
    seed = int(wildcards.seed)
    if wildcards.method == "retrained":
        seeds = SUITE.seeds
        seed = seeds[(seeds.index(seed) + 1) % len(seeds)]
    place = (
        OUT
        / "evaluations"
        / wildcards.task
        / wildcards.model
        / f"retrained/none/seed{seed}"
    )
    return place / "records.jsonl"


def files_named(names):
    """Every file of the study with one of these names; tables and figures say what they read."""
    places = {
        "runs.json": [OUT / "runs.json"],
        "suite.yaml": [OUT / "suite.yaml"],
        "metrics.csv": [OUT / "metrics.csv"],
        "costs.csv": [OUT / "costs.csv"],
        "manifest.json": expand(OUT / "data/{task}/manifest.json", task=SUITE.tasks),
        "run.json": expand(OUT / "training/{run}/run.json", run=all_runs()),
        "steps.jsonl": expand(OUT / "training/{run}/steps.jsonl", run=all_runs()),
        "records.jsonl": expand(
            OUT / "evaluations/{run}/records.jsonl", run=all_runs()
        ),
    }
    return [path for name in names for path in places[name]]


onstart:
    # Released by the operating system however this process ends, so a kill leaves nothing to unlock.
    hold_lock(OUT / ".lock")
