"""What a model cannot do, as far as is known: long texts, layers that it lacks, runs beside its base."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline_lib.core.blocks import Fault
from pipeline_lib.models.base_rules import base_fault
from pipeline_lib.models.chosen_layers import layers_fault
from pipeline_lib.operations.plan.shape import shape_of
from pipeline_lib.stages.ask import Ask
from pipeline_lib.study.suite import Suite


def context_faults(suite: Suite) -> Iterator[Fault]:
    """(path of the setting, message) of every length that leaves no room for even the shortest prompt.

    Whether the actual prompts fit is known once they are tokens; the evaluation step checks each.
    """
    for label, model in suite.models.items():
        shape = shape_of(model)
        context = None if shape is None else shape.context
        if context is not None and model.max_length > context:
            yield (
                f"models.{label}.max_length",
                f"the model reads at most {context} tokens; found {model.max_length}; set it to at most "
                f"{context}",
            )
        for task in suite.tasks:
            yield from _task_faults(suite, task, label, context, model.max_length)
        for name, stage in suite.stages.items():
            soft = stage.soft_tokens() if isinstance(stage, Ask) else 0
            if context is not None and soft >= context and label in (stage.models or suite.models):
                yield (
                    f"stages.{name}.soft_prompt.tokens",
                    f"found {soft}, and the model {label!r} reads at most {context} tokens, question and "
                    "answer with them; choose fewer",
                )


def _task_faults(
    suite: Suite, task: str, label: str, context: int | None, max_length: int
) -> Iterator[Fault]:
    settings, evaluation = suite.settings_of(task), suite.evaluation_of(task)
    where = f"tasks.{task}"
    # Tasks of running text say how long their prompts are; their answers end where the text does.
    lengths = getattr(settings, "prompt_tokens", None)
    prompts = [] if lengths is None else (lengths if isinstance(lengths, list) else [lengths])
    if (longest := max(prompts, default=0)) >= max_length:
        yield (
            f"{where}.prompt_tokens",
            f"a prompt of {longest} tokens leaves no room for an answer within the `max_length` of the model "
            f"{label!r} ({max_length}); shorten it or raise `models.{label}.max_length`",
        )
    of = f"{where}.evaluation" if settings.evaluation else "evaluation"
    for name, asking in (
        ("max_new_tokens", None if prompts else evaluation),
        ("toxicity.max_new_tokens", evaluation.toxicity),
    ):
        if context is not None and asking is not None and asking.max_new_tokens >= context:
            yield (
                f"{of}.{name}",
                f"found {asking.max_new_tokens}, and the model {label!r} reads at most {context} tokens, "
                f"prompt and answer together; choose at most {context - 1}, less the length of the prompts",
            )


def layer_faults(suite: Suite) -> Iterator[Fault]:
    """(path of the setting, message) where `evaluation.inside` asks for layers that a model does not have."""
    for task in suite.tasks:
        inside, own = suite.evaluation_of(task).inside, "inside" in suite.settings_of(task).evaluation
        for label, model in suite.models.items():
            shape = shape_of(model)
            fault = shape and inside and layers_fault(inside.layers, shape.layers)
            if fault:
                where = f"tasks.{task}.evaluation" if own else "evaluation"
                yield f"{where}.inside.layers", f"model {label!r}: {fault}"


def base_faults(suite: Suite) -> Iterator[Fault]:
    """(path of the setting, message) of each method and optimiser that does not go with a model's `base`."""
    for run in suite.run_table():
        base, optimizer = suite.models[run.model].base, run.optimizer_settings
        if base is not None and optimizer is not None:
            adapted, weights = run.unlearn.lora is not None, run.unlearn.weights
            if fault := base_fault(base.kind, adapted, weights, optimizer.kind, optimizer.moves_zeros):
                yield f"models.{run.model}.base", f"{run.method} with {run.optimizer}: {fault}"
