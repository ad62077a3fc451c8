# The suite, its runs, and where things lie. Everything else builds on these names.
import json
import re
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import ExecMode

REPOSITORY = Path(workflow.basedir).parent
for place in (REPOSITORY, Path(workflow.basedir)):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

import command_line

from pipeline_lib.environment import missing_package

try:
    import pipeline_lib.planning
except ImportError as error:
    raise WorkflowError(missing_package(error)) from None

from pipeline_lib.config import check_suite_file, dump_suite, parse_suite
from pipeline_lib.config.table import (
    ANCHORS,
    anchors_of,
    run_index,
    run_labels,
    tuned_index,
)
from pipeline_lib.errors import UserError
from pipeline_lib.locking import hold_lock
from pipeline_lib.planning import (
    check_access,
    check_fits,
    check_inputs,
    check_same_study,
    finished,
    pairs_of_targets,
    plan_text,
)
from pipeline_lib.provenance import source_hash
from pipeline_lib.redaction import visible
from pipeline_lib.reporting.catalog import FIGURES, REPORT_NEEDS, tables_of
from pipeline_lib.status import ending_text
from pipeline_lib.tracking import start_tracking

CALL = command_line.given()
try:
    if CALL is not None:
        command_line.check(CALL, sys.argv[1:])
    for path in workflow.overwrite_configfiles:
        check_suite_file(path)
    # A program that calls Snakemake gives values, not what somebody typed.
    TYPED = {} if CALL is None else workflow.config_settings.config
    SUITE = parse_suite(command_line.read_again(config, TYPED))
except UserError as error:
    raise WorkflowError(str(error)) from None

# A shell that is asked to end waits for its job, which writes a checkpoint first (pipeline_lib/stopping.py).
shell.prefix("set -euo pipefail; trap : TERM; ")

STARTED = time.time()
TRACKERS = []  # what ends the experiment tracker, where the suite has one
OUT = Path("results") / SUITE.suite
TABLES = tables_of(SUITE.resolved())
RUNS = run_index(SUITE)
EVALUATIONS = {task: SUITE.evaluation_of(task) for task in SUITE.tasks}
TUNED = tuned_index(SUITE)
ROW = "{task}/{model}/{method}/{optimizer}"
RUN = f"{ROW}/seed{{seed}}"
TRIAL = f"{ROW}/trial{{trial}}"
ANCHOR = "{task}/{model}/{method}/none/seed{seed}"
RESOURCES = SUITE.resources
DEVICE = RESOURCES.device
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


def tuned_row(wildcards):
    """How this row's settings are found; None where they are as written."""
    return TUNED.get(
        (wildcards.task, wildcards.model, wildcards.method, wildcards.optimizer)
    )


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
    distance between two models that both never saw the forget set is the scale of all others. None where
    the task cannot have one.
    """
    if "retrained" not in anchors_of(SUITE, wildcards.task):
        return []
    seed = int(wildcards.seed)
    if wildcards.method == "retrained":
        seeds = SUITE.seeds
        seed = seeds[(seeds.index(seed) + 1) % len(seeds)]
    return evaluated(wildcards, "retrained", seed)


def evaluated(wildcards, method, seed):
    """Records of an anchor of this task and model."""
    place = OUT / "evaluations" / wildcards.task / wildcards.model / method
    return place / f"none/seed{seed}/records.jsonl"


def trial_of(wildcards):
    """What this trial tries."""
    return tuned_row(wildcards).trials[int(wildcards.trial)]


def trial_reference(wildcards):
    """Records of the retrained model of this seed, where trials are judged by the distance to it."""
    if SUITE.tune.select.forget != "ks_statistic":
        return []
    return evaluated(wildcards, "retrained", wildcards.seed)


def trials_of_row(wildcards):
    """Results of every trial on every tuning seed."""
    row = OUT / "tuning" / ROW.format(**wildcards)
    trials = tuned_row(wildcards).trials
    return [
        row / f"trial{trial}/seed{seed}.json"
        for trial in trials
        for seed in SUITE.tune.seeds
    ]


def tuning_originals(wildcards):
    """Records of the models before unlearning, one a tuning seed: what the bound is measured from."""
    return [evaluated(wildcards, "original", seed) for seed in SUITE.tune.seeds]


def chosen_settings(wildcards):
    """What tuning chose for this row; nothing where its settings are as written."""
    if tuned_row(wildcards) is None:
        return []
    return OUT / "tuning" / ROW.format(**wildcards) / "chosen.json"


def given(wildcards, part):
    """Settings of a run's `objective` or `optimizer` that are not tuned."""
    row, run = tuned_row(wildcards), run_of(wildcards)
    if row is None:
        return run.objective if part == "objective" else run.optimizer_settings
    return getattr(row, part)


def equal_retain(wildcards):
    """The share of retention that an unlearned model may lose; None for anchors and where it is off."""
    if wildcards.method in ANCHORS:
        return None
    return EVALUATIONS[wildcards.task].equal_retain


# blocks of `evaluation` that steps of their own, or their own parameters, take
APART = {"equal_retain", "embedder", "benchmarks", "toxicity"}


def evaluation_settings(part):
    """Of the run's task one of those blocks, or with "records" all the rest; None where a block is off."""

    def settings(wildcards):
        evaluation = EVALUATIONS[wildcards.task]
        if part == "records":
            return evaluation.model_dump(exclude=APART)
        block = getattr(evaluation, part)
        return None if block is None else block.model_dump()

    return settings


def evaluation_setting(name):
    """One setting of the evaluation of the run's task."""
    return lambda wildcards: getattr(EVALUATIONS[wildcards.task], name)


def toxicity_setting(name):
    """One setting of the toxicity of the task, or one block of it."""
    return lambda wildcards: EVALUATIONS[wildcards.task].toxicity.model_dump()[name]


def also_measured(part):
    """Path of an evaluation beside the task's own; none where it is off."""

    def path(wildcards):
        if getattr(EVALUATIONS[wildcards.task], part) is None:
            return []
        return str(OUT / "evaluations" / RUN / f"{part}.jsonl").format(**wildcards)

    return path


def data_of_prompts(wildcards):
    """The task's data where its own prompts are asked, else nothing: other data change no other prompts."""
    if EVALUATIONS[wildcards.task].toxicity.prompts.source != "task":
        return []
    return str(OUT / "data/{task}/manifest.json").format(**wildcards)


def judge_of(wildcards):
    """What was found out about the classifier of the task's toxicity; none where that is off."""
    if EVALUATIONS[wildcards.task].toxicity is None:
        return []
    return str(OUT / "judges/{task}.json").format(**wildcards)


def max_length(wildcards):
    """Longest sequence of a run's model, in tokens."""
    return SUITE.models[wildcards.model].max_length


def original_to_mix_with(wildcards):
    """The model before unlearning, where the comparison at equal retention needs it."""
    if equal_retain(wildcards) is None:
        return []
    return str(OUT / "models/{task}/{model}/original/none/seed{seed}").format(
        **wildcards
    )


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


def look_at_inputs():
    """Refuse a study whose data or models cannot be read, before a job starts and in a dry run too."""
    if workflow.exec_mode != ExecMode.DEFAULT or (
        CALL is not None and not command_line.runs_jobs(CALL)
    ):
        return  # one job of a study that was looked at, or a call that runs none
    # A part of the study, asked for by name, may do without the files of the others.
    targets = [] if CALL is None else CALL.targets
    pairs = pairs_of_targets(SUITE, targets) if targets else None
    try:
        check_same_study(SUITE, OUT)
        unseen = check_inputs(SUITE, finished(OUT), pairs)
    except UserError as error:
        raise WorkflowError(str(error)) from None
    for line in unseen:
        print(line, file=sys.stderr)


def announce():
    """Print what the study will need and what cannot be had, before its first job."""
    try:
        check_fits(SUITE, finished(OUT))
        lines = [plan_text(SUITE, finished(OUT)), *check_access(SUITE)]
        print(visible("\n".join(lines)))
        TRACKERS.append(start_tracking(SUITE, OUT))
    except UserError as error:
        raise WorkflowError(str(error)) from None


def take_leave():
    """Print what failed, with the last lines of its log, after the last job."""
    for end in TRACKERS:
        end()
    print(visible(ending_text(SUITE, OUT, since=STARTED)))


look_at_inputs()


onstart:
    # Released by the operating system however this process ends, so a kill leaves nothing to unlock.
    hold_lock(OUT / ".lock")
    announce()


onsuccess:
    take_leave()


onerror:
    take_leave()
