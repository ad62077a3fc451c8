"""Smoothed runs as one process makes them, or several that share them, in fp64."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline_lib.distributed.group import ALONE, Group, Replicas, current
from pipeline_lib.distributed.sharding import in_parts
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.loop import Outcome, train
from tests.methods import make_objective
from tests.smoothing.kinds import SETTINGS, smoothing_of, update_of
from tests.tiny import VOCAB, in_float64, tiny_model
from tests.training.runs import data, settings, timeless

SHARDED = [kind for kind in SETTINGS if smoothing_of(kind).in_parts is None]


def run(kind: str, folder: Path, group: Group = ALONE) -> tuple[torch.nn.Module, Outcome]:
    """Four steps of three examples each, two of them on the way to a mean; the embedding is tied."""
    with in_float64():
        model = tiny_model(0, torch.float64, hidden_size=16, intermediate_size=16, vocab_size=VOCAB)
        course = MiniBatches(data(6, 4), settings(batch_size=3, accumulation=1, checkpoint_seconds=0), 3)
        with in_parts(model, group) as (working, together):
            update = update_of(working, smoothing_of(kind), "adamw", course.steps, together, eps=1e-3)
            kept = Kept(folder / kind, "here")
            outcome = train(working, make_objective("GradDiff", gamma=1.0), update, course, kept, together)
    return model, outcome


def all_runs(folder: Path, device: str) -> None:
    """Every kind in this group, whole and in parts; `device` is for the worker."""
    for how, kinds, group in (("whole", SETTINGS, current()), ("parts", SHARDED, Replicas(shards=True))):
        for kind in kinds:
            model, outcome = run(kind, folder / how, group)
            place = folder / f"{how} {kind}.{group.rank}"
            tensors = {name: p.detach().clone().contiguous() for name, p in model.named_parameters()}
            save_file(tensors, f"{place}.safetensors")
            Path(f"{place}.json").write_text(json.dumps(timeless(outcome.log)))
