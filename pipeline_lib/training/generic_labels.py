"""Generic labels: what a model that knew the forget texts less well would say."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, write_json
from pipeline_lib.data.batching import collate, token_budget_batches
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.distributed.sharding import in_parts
from pipeline_lib.models import adapters
from pipeline_lib.models.forward import answer_logits
from pipeline_lib.objectives import Objective
from pipeline_lib.objectives.finetuning import FineTuning
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import Outcome, train
from pipeline_lib.training.sampling import derived_seed
from pipeline_lib.training.settings import LoRA, Training
from pipeline_lib.training.updates import gradient_update

TOKENS = 2048  # of one forward pass, padding included


def generic_labels(
    model: Any,
    objective: Objective,
    data: TrainingData,
    settings: Training,
    lora: LoRA | None,
    seed: int,
    kept: Kept,
    group: Group = ALONE,
) -> tuple[list[list[int]], Outcome]:
    """Labels for the answer positions of each forget row, and how training the reinforced model went.

    `model`: the one before unlearning; it is unchanged afterwards. The reinforced model is trained on the
    forget set by AdamW as `settings` say, but with the objective's epochs and learning rate. With `lora` it
    is the model itself with adapters of its own, else a copy, which stays in memory with its optimiser until
    this returns. `kept` holds its checkpoints, and its labels once they are known, so that a killed run
    neither starts over nor reinforces twice. There are no labels if it diverged. `group`: see `train`; each
    of its processes finds all the labels by itself.
    """
    reinforcing = objective.reinforcing
    assert reinforcing is not None
    known = _known(kept)
    group.check_same(int(known is not None), "whether the generic labels are known (1) or not (0)")
    if known is not None:
        return known
    reinforced = model if lora else copy.deepcopy(model)
    if lora:
        adapters.attach(
            model, **lora.model_dump(), seed=derived_seed(seed, "adapters of the reinforced model")
        )
    with in_parts(reinforced, group) as (working, together):
        stepper = AdamW(kind="adamw", learning_rate=reinforcing.learning_rate)
        course = MiniBatches(
            TrainingData(forget=[], retain=data.forget, pad_id=data.pad_id),
            settings.model_copy(update={"epochs": reinforcing.epochs}),
            derived_seed(seed, "reinforced model"),
        )
        update = gradient_update(stepper, working, settings.max_grad_norm, together)
        place = replace(kept, folder=kept.folder / "checkpoint")
        outcome = train(working, FineTuning(), update, course, place, together)
    labels: list[list[int]] = []
    if outcome.status == "ok":
        labels = _labels(model, reinforced, objective, data)
        if group.writes:
            facts = {"steps": outcome.steps, "train_time_s": outcome.train_time_s}
            write_json(
                kept.folder / "labels.json", {**facts, "fingerprint": kept.fingerprint, "labels": labels}
            )
    if lora:
        adapters.detach(model, merge=False)
    return labels, replace(outcome, log=[])


@torch.no_grad()
def _labels(model: Any, reinforced: Any, objective: Objective, data: TrainingData) -> list[list[int]]:
    """argmax of the generic logits at every answer position, row by row."""
    place = next(model.parameters()).device
    labels: list[list[int]] = [[] for _ in data.forget]
    model.eval()
    reinforced.eval()
    for group in token_budget_batches(data.forget, TOKENS):
        batch = collate(group, data.pad_id).to(place)
        strong, _, rows = answer_logits(reinforced, batch)  # (N, V)
        with adapters.adapters_off(model) if reinforced is model else nullcontext(model) as base:
            plain = answer_logits(base, batch)[0]
        chosen = objective.generic_logits(plain.float(), strong.float()).argmax(-1)
        for row, token in zip(batch.index[rows].tolist(), chosen.tolist(), strict=True):
            labels[row].append(token)
    return labels


def _known(kept: Kept) -> tuple[list[list[int]], Outcome] | None:
    """What an earlier job found before it was killed, if it had the same settings and code."""
    try:
        found = read_object(kept.folder / "labels.json")
    except UserError:
        return None
    if found.get("fingerprint") != kept.fingerprint:
        return None
    return found["labels"], Outcome([], "ok", None, found["steps"], found["train_time_s"])
