"""What an evaluation asks of splits that no task, or not this task, has."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pipeline_lib.core.blocks import Fault, suggestion
from pipeline_lib.study.evaluation import Evaluation
from pipeline_lib.tasks.base import HOLDOUT


def split_faults(
    evaluation: Evaluation, given: Collection[str], where: str, known: Collection[str], nobody: str
) -> Iterator[Fault]:
    """Faults of the settings in `given`; `known`: splits there are; `nobody`: who lacks the others."""
    answered = set(known) - {HOLDOUT}
    if "max_records" in given:
        for name in evaluation.max_records:
            if name not in known:
                path = f"{where}.max_records.{name}"
                yield path, f"{nobody} evaluates such a split; {suggestion(name, known)}"
    if "samples" in given and evaluation.samples is not None:
        for i, name in enumerate(evaluation.samples.splits):
            if name not in answered:
                path = f"{where}.samples.splits.{i}"
                yield path, f"{nobody} has such a split with answers; {suggestion(name, answered)}"
    if "grad_norm" in given and evaluation.grad_norm and HOLDOUT not in known:
        yield (
            f"{where}.grad_norm",
            f"membership inference needs records that no model learns, and {nobody} holds any out; set "
            "`holdout_authors` (or `holdout`) of a task",
        )


def fitting(evaluation: Evaluation, known: Collection[str]) -> Evaluation:
    """The evaluation without what it asks of other tasks' splits."""
    samples = evaluation.samples
    if samples is not None:
        splits = [name for name in samples.splits if name in set(known) - {HOLDOUT}]
        samples = samples.model_copy(update={"splits": splits}) if splits else None
    changes = {
        "max_records": {name: n for name, n in evaluation.max_records.items() if name in known},
        "samples": samples,
        "grad_norm": evaluation.grad_norm and HOLDOUT in known,
    }
    return evaluation.model_copy(update=changes)


def own_prompt_faults(
    evaluation: Evaluation, where: str, task: str, known: Collection[str]
) -> Iterator[Fault]:
    """Toxicity of a task's own prompts, from a split that this task does not have."""
    prompts = None if evaluation.toxicity is None else evaluation.toxicity.prompts
    if prompts is not None and prompts.source == "task" and prompts.split not in set(known) - {HOLDOUT}:
        names = suggestion(prompts.split, set(known) - {HOLDOUT})
        yield f"{where}.toxicity.prompts.split", f"the task {task!r} has no split {prompts.split!r}; {names}"
