"""Which settings would make a job fit that does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline_lib.operations.plan.jobs import Work, memory_of
from pipeline_lib.operations.plan.measuring import Asking
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.training.settings import LoRA

Form = tuple[str, dict[str, Any]]  # in words, and the settings


def advice(work: Work) -> str | None:
    """What makes the job fit into the memory of its device: one setting if one will do, else several.

    None where it fits as it is, or where the suite does not say how much memory there is.
    """
    room = work.device.memory
    if room is None or memory_of(work).total <= room:
        return None
    changes = _changes(work)
    for words, settings in (form for change in changes for form in change):
        if memory_of(_with(work, settings)).total <= room:
            return words
    names: list[str] = []
    for *_, (words, settings) in changes:  # each in its strongest form
        work = _with(work, settings)
        names.append(words)
        if memory_of(work).total <= room:
            return " and ".join(names)
    return "a smaller model, or a device with more memory: no setting is enough"


def _with(work: Work, settings: dict[str, Any]) -> Work:
    if isinstance(work, Training):
        return replace(work, settings=work.settings.model_copy(update=settings))
    assert isinstance(work, Asking)
    return replace(work, evaluation=work.evaluation.model_copy(update=settings))


def _changes(work: Work) -> list[list[Form]]:
    """What may be changed, each in forms of rising strength. What leaves the result as it is comes first."""
    if isinstance(work, Asking):
        sizes = [min(size, work.evaluation.max_tokens_per_batch) for size in (2048, 1024, 512, 256)]
        return [_forms("evaluation", [{"max_tokens_per_batch": size} for size in sizes])]
    if not isinstance(work, Training):
        return []
    batch, whole = work.settings.batch_size, work.settings.batch_size * work.settings.accumulation
    sizes = [size for size in range(max(batch // 2, 1), 0, -1) if whole % size == 0]
    lora = work.settings.lora or LoRA()
    block = work.block or ("finetune" if work.forget is None else "unlearn")
    changes = [_forms(block, [{"batch_size": size, "accumulation": whole // size} for size in sizes])]
    if work.block is not None:  # pretraining has no other setting that takes less memory
        return [*changes, _forms(block, [{"compute": "bf16"}])]
    changes.append(_forms(block, [{"checkpointing": True}]))
    if work.optimizer is not None and work.optimizer.one_shot:
        return changes
    if work.device.kind == "cuda":  # a CPU's states lie there already
        changes.append(_forms(block, [{"offload": True}]))
    changes += [_forms(block, [{"compute": "bf16"}]), _forms(block, [{"weights": "bf16"}])]
    return [*changes, [(f"{block}.lora: {{rank: {lora.rank}}}", {"lora": lora})]]


def _forms(block: str, forms: list[dict[str, Any]]) -> list[Form]:
    return [
        (f"{block}." + " with ".join(f"{name}: {str(value).lower()}" for name, value in form.items()), form)
        for form in forms
    ]
