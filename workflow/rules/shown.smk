# Which files the tables, figures and the report read. A task's own tables are gathered first, so that what
# shows one task needs its runs alone.
from pipeline_lib.reporting.catalog import PAPER_FIGURES, PAPER_TABLES, tasks_of

PAPER = PAPER_TABLES | PAPER_FIGURES
PAPER_TASKS = {name: tasks_of(SUITE.resolved(), item) for name, item in PAPER.items()}


def collected_from(wildcards):
    """The files of one task's runs that a collected table is made of."""
    runs = [run for run in all_runs() if run.split("/")[0] == wildcards.task]
    if wildcards.collected == "metrics":
        return expand(OUT / "evaluations/{run}/metrics.json", run=runs)
    names = ["run.json", "steps.jsonl"]
    return expand(OUT / "training/{run}/{name}", run=runs, name=names)


def paper_files(name):
    """The files that an item of the paper reads, of the tasks that it shows."""
    tasks = PAPER_TASKS[name]
    places = {
        "runs.json": [OUT / "runs.json"],
        "suite.yaml": [OUT / "suite.yaml"],
        "metrics.csv": expand(OUT / "collected/{task}/metrics.csv", task=tasks),
        "costs.csv": expand(OUT / "collected/{task}/costs.csv", task=tasks),
        "manifest.json": expand(OUT / "data/{task}/manifest.json", task=tasks),
    }
    return [path for need in PAPER[name].needs for path in places[need]]


def paper_outputs(name, forms):
    """An input function: the files of an item of the paper, where the suite has a task for it."""

    def outputs(wildcards):
        if not PAPER_TASKS[name]:
            wanted = " or ".join(PAPER[name].sources)
            found = dict.fromkeys(task.source for task in SUITE.tasks.values())
            raise WorkflowError(
                f"paper_{name} shows tasks with the source {wanted}, and the suite {SUITE.suite!r} has "
                f"none (its sources: {', '.join(found)}). Add such a task to the suite, or name a suite "
                "that has one with --configfile."
            )
        return expand(OUT / "paper/{name}.{form}", name=name, form=forms)

    return outputs
