"""Which settings would make a job fit that does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline_lib.operations.plan.jobs import Work, memory_of
from pipeline_lib.operations.plan.measuring import Asking, Combining
from pipeline_lib.operations.plan.training import Training
from pipeline_lib.training.settings import LoRA

Step = tuple[str, Work]  # the setting in words, the job with it and all before it


def advice(work: Work) -> str | None:
    """What makes the job fit into the memory of its device: one setting if one will do, else several.

    None where it fits as it is, or where the suite does not say how much memory there is.
    """
    room = work.device.memory
    if room is None or memory_of(work).total <= room:
        return None
    for change in _changes(work):
        for name, changed in change(work):
            if memory_of(changed).total <= room:
                return name
    names: list[str] = []
    for change in _changes(work):
        name, work = list(change(work))[-1]  # the change's strongest form
        names.append(name)
        if memory_of(work).total <= room:
            return " and ".join(names)
    return "a smaller model, or a device with more memory: no setting is enough"


def _changes(work: Work) -> Sequence[Callable[[Any], Iterator[Step]]]:
    """Those first that leave the result as it is."""
    if not isinstance(work, Training):
        return [] if isinstance(work, Combining) else [_smaller_evaluation_batch]
    if work.optimizer is not None and work.optimizer.one_shot:
        return [_smaller_batch, _checkpointing]
    offload = [_offload] if work.device.kind == "cuda" else []  # a CPU's states lie there already
    return [_smaller_batch, _checkpointing, *offload, _bf16_compute, _bf16_weights, _adapters]


def _changed(work: Training, words: str, **changes: Any) -> Iterator[Step]:
    block = "finetune" if work.forget is None else "unlearn"
    yield f"{block}.{words}", replace(work, settings=work.settings.model_copy(update=changes))


def _smaller_batch(work: Training) -> Iterator[Step]:
    half, whole = work.settings.batch_size // 2, work.settings.batch_size * work.settings.accumulation
    for size in range(max(half, 1), 0, -1):
        if whole % size == 0:
            words = f"batch_size: {size} with accumulation: {whole // size}"
            yield from _changed(work, words, batch_size=size, accumulation=whole // size)


def _checkpointing(work: Training) -> Iterator[Step]:
    return _changed(work, "checkpointing: true", checkpointing=True)


def _offload(work: Training) -> Iterator[Step]:
    return _changed(work, "offload: true", offload=True)


def _bf16_compute(work: Training) -> Iterator[Step]:
    return _changed(work, "compute: bf16", compute="bf16")


def _bf16_weights(work: Training) -> Iterator[Step]:
    return _changed(work, "weights: bf16", weights="bf16")


def _adapters(work: Training) -> Iterator[Step]:
    lora = work.settings.lora or LoRA()
    return _changed(work, f"lora: {{rank: {lora.rank}}}", lora=lora)


def _smaller_evaluation_batch(work: Asking) -> Iterator[Step]:
    for size in (2048, 1024, 512, 256):
        smaller = min(size, work.evaluation.max_tokens_per_batch)
        evaluation = work.evaluation.model_copy(update={"max_tokens_per_batch": smaller})
        yield f"evaluation.max_tokens_per_batch: {smaller}", replace(work, evaluation=evaluation)
