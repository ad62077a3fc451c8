"""The labels of Who's Harry Potter: what a model would say that knew the forget texts less well."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.data.batching import Example, collate, token_budget_batches
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.distributed.sharding import in_parts
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_object, write_json
from pipeline_lib.models import adapters
from pipeline_lib.models.forward import answer_logits
from pipeline_lib.objectives import FineTuning
from pipeline_lib.objectives.whp import WHP, generic_logits
from pipeline_lib.optimizers import make_optimizer
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import Outcome, TrainingSettings, train
from pipeline_lib.training.sampling import derived_seed

TOKENS = 2048  # of one forward pass, padding included


def generic_labels(
    model: Any,
    objective: WHP,
    forget: Sequence[Example],
    pad_id: int,
    settings: TrainingSettings,
    lora: dict[str, Any] | None,
    seed: int,
    folder: Path,
    fingerprint: str,
    group: Group = ALONE,
) -> tuple[list[list[int]], Outcome]:
    """Labels of each forget row's answer positions, and how training the reinforced model went.

    `model`: the one before unlearning; it is unchanged afterwards. The reinforced model is trained on
    `forget` by AdamW as `settings` say, but for epochs and learning rate, which are the objective's. With
    `lora` it is the model itself with adapters of its own, else a copy, which is in memory with its optimiser
    until this returns. `folder` keeps its checkpoints, and its labels once they are known, so that a killed
    run neither starts over nor reinforces twice. No labels if it diverged. `group`: see `train`; each of its
    processes finds all the labels by itself.
    """
    kept = _kept(folder / "labels.json", fingerprint)
    group.check_same(int(kept is not None), "whether the generic labels are known (1) or not (0)")
    if kept is not None:
        return kept
    reinforced = model if lora else copy.deepcopy(model)
    if lora:
        adapters.attach(model, **lora, seed=derived_seed(seed, "adapters of the reinforced model"))
    with in_parts(reinforced, group) as (working, together):
        optimizer = make_optimizer(
            "adamw",
            working,
            learning_rate=objective.reinforce_learning_rate,
            weight_decay=0.0,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            group=together,
        )
        outcome = train(
            working,
            FineTuning(),
            optimizer,
            TrainingData(forget=[], retain=forget, pad_id=pad_id),
            replace(settings, epochs=objective.reinforce_epochs),
            derived_seed(seed, "reinforced model"),
            None,
            folder / "checkpoint",
            fingerprint,
            together,
        )
    labels: list[list[int]] = []
    if outcome.status == "ok":
        labels = _labels(model, reinforced, objective.alpha, forget, pad_id, bool(lora))
        facts = {"steps": outcome.steps, "train_time_s": outcome.train_time_s}
        if group.writes:
            write_json(folder / "labels.json", {"fingerprint": fingerprint, "labels": labels, **facts})
    if lora:
        adapters.detach(model, merge=False)
    return labels, replace(outcome, log=[])


@torch.no_grad()
def _labels(
    model: Any, reinforced: Any, alpha: float, forget: Sequence[Example], pad_id: int, one_model: bool
) -> list[list[int]]:
    """argmax of the generic logits at every answer position, row by row."""
    place = next(model.parameters()).device
    labels: list[list[int]] = [[] for _ in forget]
    model.eval()
    reinforced.eval()
    for group in token_budget_batches(forget, TOKENS):
        batch = collate(group, pad_id).to(place)
        strong, _, rows = answer_logits(reinforced, batch)  # (N, V)
        if one_model:
            with adapters.adapters_off(model) as base:
                plain = answer_logits(base, batch)[0]
        else:
            plain = answer_logits(model, batch)[0]
        chosen = generic_logits(plain.float(), strong.float(), alpha).argmax(-1)
        for row, token in zip(batch.index[rows].tolist(), chosen.tolist(), strict=True):
            labels[row].append(token)
    return labels


def _kept(path: Path, fingerprint: str) -> tuple[list[list[int]], Outcome] | None:
    """What an earlier job that was killed later has found, if it had the same settings and code."""
    try:
        found = read_object(path)
    except UserError:
        return None
    if found.get("fingerprint") != fingerprint:
        return None
    return found["labels"], Outcome([], "ok", None, found["steps"], found["train_time_s"])
