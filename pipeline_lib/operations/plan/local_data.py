"""Checks of a suite's data before any job starts: records, splits, and what methods and metrics need.

The task's own loader reads the data, and the checks are those of the job that prepares them, so that this
refuses nothing that a job would accept. Never imports torch, and downloads nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline_lib.benchmarks.data import Asked
from pipeline_lib.benchmarks.definitions import check_data
from pipeline_lib.core.blocks import Fault, suggestion
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import NotAtHand, nothing_downloaded
from pipeline_lib.core.system_errors import explained
from pipeline_lib.data.overlap import check_overlap, measure_overlap
from pipeline_lib.data.refusals import refusals
from pipeline_lib.data.splits import Task, check_roles, check_split
from pipeline_lib.data.toxicity_prompts import load_toxicity_prompts
from pipeline_lib.metrics import declared
from pipeline_lib.models.settings import ScratchModel
from pipeline_lib.objectives.alternatives import alternative_answers
from pipeline_lib.study.draws import parted
from pipeline_lib.tasks.loading import load_task

if TYPE_CHECKING:
    from pipeline_lib.study.suite import Suite
    from pipeline_lib.tasks.base import TaskSettings

MOST_RECORDS = 100_000  # of a task; reading more before the start would take minutes


@dataclass
class Look:
    """Findings about a suite's inputs.

    `faults`: (setting, message); `unseen`: what was not looked at, and why; `tasks`: data without a fault;
    `benchmarks`: those that were looked at, with their settings.
    """

    faults: list[Fault] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    tasks: dict[str, Task] = field(default_factory=dict)
    benchmarks: set[tuple[str, str]] = field(default_factory=set)

    def attempt(self, where: str, what: str, read: Callable[..., Any], *given: Any) -> tuple[bool, Any]:
        """(True, the value of `read`); (False, None) where it failed (a fault) or cannot be tried here."""
        try:
            with nothing_downloaded():
                return True, read(*given)
        except NotAtHand as error:
            self.unseen.append(f"{what} ({error} is on the hub)")
        except UserError as error:
            self.faults.append((where, str(error)))
        except ImportError as error:
            self.unseen.append(f"{what}, which needs a package that does not load here ({error})")
        except Exception as error:  # a user's own task may raise anything, and would in the job too
            words = " ".join(str(error).split())[:200]
            self.faults.append(
                (where, explained(error) or f"cannot be read: {type(error).__name__}: {words}")
            )
        return False, None


def look_at_task(look: Look, suite: Suite, name: str) -> None:
    """Load and check one task; a task without a fault goes to `look.tasks`."""
    settings, where = suite.settings_of(name), f"tasks.{parted(name)[0]}"
    count = sum(size.records for size in (settings.size_hint() or {}).values())
    if count > MOST_RECORDS:
        look.unseen.append(f"the task {name}, which has about {count:,} records")
        return
    loaded, task = look.attempt(where, f"the task {name}", load_task, settings)
    if not loaded:
        return
    before = len(look.faults)
    for split, records in task.splits.items():
        look.attempt(where, where, check_split, split, records)
    look.attempt(where, where, check_roles, task)
    look.attempt(where, where, _check_retain, task, settings)
    if len(look.faults) == before:
        look.tasks[name] = task
    look.faults += [*_method_faults(suite, name, task), *_scratch_faults(suite, name, task)]
    look.faults += [(where, fault) for fault in _headline_faults(task)]


def _check_retain(task: Task, settings: TaskSettings) -> None:
    check_overlap(measure_overlap(task.splits["forget"], task.splits["retain"]), settings.max_overlap)


def _method_faults(suite: Suite, name: str, task: Task) -> Iterator[Fault]:
    """Methods that teach alternative answers which these records do not have."""
    seen = set()
    for run in suite.run_table():
        if run.task == parted(name)[0] and run.method not in seen and run.objective.teaches is not None:
            seen.add(run.method)
            try:
                alternative_answers(run.objective, task.splits["forget"], refusals(), run.seed)
            except UserError as error:
                yield f"objectives.{run.method}", f"on the task {name!r}: {error}"


def _scratch_faults(suite: Suite, name: str, task: Task) -> Iterator[Fault]:
    """Models made from scratch, on a task that teaches nothing."""
    if task.finetune.get("target"):
        return
    for label in dict.fromkeys(run.model for run in suite.run_table() if run.task == parted(name)[0]):
        model = suite.models[label]
        if isinstance(model, ScratchModel) and model.pretrain is None:
            yield (
                f"models.{label}",
                f"is made from scratch and knows nothing, and the task {name!r} takes a model as it is; use "
                "a pretrained model, or let the task teach it",
            )


def _headline_faults(task: Task) -> Iterator[str]:
    """Metrics of `Task.headline` that no evaluation of this task can have.

    They are looked up here and not where the task is loaded, so that the prepared data do not depend on the
    code of the metrics.
    """
    for split, name in (pair for pairs in (task.headline or {}).values() for pair in pairs):
        metric = declared().get(name)
        if metric is None:
            yield f"`headline` names {name!r}, which is no metric; {suggestion(name, declared())}"
        elif metric.needs_retrained and "retrained" not in task.finetune:
            yield f"`headline` names {name}, which compares with a `retrained`, and there is none"
        elif metric.on == "records" and split not in task.evaluate:
            yield (
                f"`headline` names {name} of the split {split!r}, which is not evaluated; "
                f"{suggestion(split, task.evaluate)}"
            )


def look_at_evaluation(look: Look, suite: Suite, name: str) -> None:
    """Read the benchmarks, prompts and labelled texts that one task's evaluation names on this machine."""
    benchmarks, toxicity = suite.evaluation_of(name).benchmarks, suite.evaluation_of(name).toxicity
    if benchmarks is not None:
        asked = Asked(**benchmarks.model_dump())
        for benchmark in (*asked.tasks, *asked.lm_eval):
            if (benchmark, str(asked)) not in look.benchmarks:  # tasks of a suite mostly share them
                look.benchmarks.add((benchmark, str(asked)))
                where = f"evaluation of {name}.benchmarks"
                look.attempt(where, f"the benchmark {benchmark}", check_data, benchmark, asked)
    if toxicity is None:
        return
    where = f"evaluation of {name}.toxicity"
    if toxicity.prompts.source != "task":
        look.attempt(
            f"{where}.prompts",
            f"the prompts of {where}",
            load_toxicity_prompts,
            toxicity.prompts,
            toxicity.n_prompts,
        )
    elif name in look.tasks:
        records = look.tasks[name].splits.get(toxicity.prompts.split, [])
        if texts := [record.id for record in records if record.form == "text"]:
            look.faults.append(
                (
                    f"{where}.prompts.split",
                    f"{len(texts)} of {len(records)} records of the split {toxicity.prompts.split!r} are "
                    f"running text (the first: {texts[0]!r}), which asks nothing; choose one of questions",
                )
            )
