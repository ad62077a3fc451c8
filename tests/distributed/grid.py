"""The runs that one process and several must agree on: every objective with every optimiser, in short.

In fp64, where two orders of adding up differ by 1e-15 and a sign flips for nothing else; so a tolerance far
below 1e-5 holds, and a row that is counted twice or left out cannot hide in it.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline_lib.curvature import ESTIMATORS
from pipeline_lib.distributed.group import ALONE, Group, Replicas, current
from pipeline_lib.distributed.sharding import in_parts, shard_reference
from pipeline_lib.influence import SOLVERS
from pipeline_lib.models import adapters
from pipeline_lib.objectives import Objective
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.optimizers.base import Curvature
from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.checkpoint import Kept
from pipeline_lib.training.data import TrainingData
from pipeline_lib.training.loop import Outcome, train
from pipeline_lib.training.make import make_update
from pipeline_lib.training.settings import Training, Unlearn
from tests.methods import estimator
from tests.optimizers.kinds import optimizer_of
from tests.tiny import VOCAB, in_float64, tiny_model
from tests.training.every import TRAINED, data_for, freeze, objective_of
from tests.training.runs import Stopped, data, one_shot, settings, stop_before, timeless, trained

KINDS = [
    kind
    for kind, method in OPTIMIZERS.kinds().items()
    if method.taken_by is None
    if kind != "adamw_8bit" or importlib.util.find_spec("bitsandbytes") is not None
    if kind != "soap"  # which is not held to the numbers of one process, see `names`
]
ESTIMATED = [name for name in ESTIMATORS.kinds() if name != "gauss_newton_bartlett"]
HALF = {"kind": "zo_adamm", "learning_rate": 0.5}
STEP = {"batch_size": 3, "accumulation": 1}  # cut into rows, unevenly
SHARED = {"batch_size": 2, "accumulation": 2}  # whole micro-batches for each of two
THREE = {"batch_size": 1, "accumulation": 3}  # three micro-batches of one row: cut, and one rank has nothing
OTHERS: dict[str, dict[str, Any]] = {  # by the update of a module of their own
    "zo_sgd": {"queries": 2},
    "r_adazo": {"directions": "sphere"},
    "hizoo": {"alpha": 0.1},
    "hybrid": {"first": {"kind": "sgd", "learning_rate": 1.0}, "second": HALF, "steps_each": 1},
}
SIZES = {"shared": SHARED, "three": THREE}


def names() -> list[str]:
    """Every run: objective, optimiser (with an estimator or a solver), and what is special."""
    pairs = [f"{objective} {kind}" for objective in TRAINED for kind in KINDS]
    return [
        *pairs,
        *(f"GradDiff sophia:{estimator}" for estimator in ESTIMATED),
        "GradDiff sophia:hutchinson_gaussian/3 shared",
        "NPO sophia:gauss_newton_bartlett/1",
        *(f"{objective} influence:diagonal" for objective in TRAINED),
        *(
            f"GradDiff influence:{solver}"
            for solver in SOLVERS.kinds()
            if solver not in ("diagonal", "ekfac")
        ),
        *(f"{objective} adamw shared" for objective in ("GradDiff", "DPO")),
        *(f"{objective} sophia three" for objective in ("GradDiff", "PDU")),
        *(f"{objective} sophia lora" for objective in ("NPO", "KL")),
        *(f"NPO {kind} fp32" for kind in ("adamw", "sgd", "sophia")),
        "GradDiff zo_sgd three",
        "NPO r_adazo shared",
        "KL hizoo lora",
        "GradDiff hybrid",
        # Gradients of a few rows leave eigenvalues at zero, and a last bit turns the eigenvectors there.
        *(["GradDiff soap"] if importlib.util.find_spec("pytorch_optimizer") is not None else []),
    ]


def sharded_names() -> list[str]:
    """Runs whose parameters are divided: every objective, every optimiser, and what is special there."""
    apart = {"L1Sparse", "RMU"}  # the first is refused; the second stands below
    return [
        *(f"{objective} adamw" for objective in TRAINED if objective not in apart),
        *(f"GradDiff {kind}" for kind in KINDS if kind != "adamw" and not OPTIMIZERS.kinds()[kind].in_parts),
        "GradDiff sophia:empirical_fisher",
        "NPO sophia three untied",
        "KL sophia lora",
        "RMU adamw",
        "RMU adamw early",
        "NPO adamw fp32",
    ]


def run_one(name: str, folder: Path, group: Group = ALONE, **changes: Any) -> tuple[torch.nn.Module, Outcome]:
    """The model after the run of this name, and its log; `changes` of the schedule."""
    if name.endswith("fp32"):
        return _run(name, folder, group, torch.float32, **changes)
    with in_float64():
        return _run(name, folder, group, torch.float64, **changes)


def _run(
    name: str, folder: Path, group: Group, dtype: torch.dtype, **changes: Any
) -> tuple[torch.nn.Module, Outcome]:
    kind, label, *special = name.split()
    label, _, part = label.partition(":")
    sizes = next((SIZES[word] for word in special if word in SIZES), STEP)
    model = _model(0, dtype, tie_word_embeddings="untied" not in special)
    objective = objective_of(kind, **({"layer": 0, "update_layers": 1} if "early" in special else {}))
    schedule = settings(**{"epochs": 1, "warmup": 0.5, **sizes, **changes})
    with_all = data_for(objective, model, data(5, 4), schedule if label != "influence" else None)
    freeze(objective, model)
    lora = "lora" in special
    if lora:
        adapters.attach(model, 2, 4.0, 0.0, "all-linear", seed=1)
    with in_parts(model, group) as (working, together):
        if objective.needs_reference_model:
            other = _model(1, dtype).requires_grad_(False)
            shown = partial(adapters.adapters_off, working) if lora else partial(nullcontext, other)
            if not lora:
                shard_reference(other, together)
            objective = objective.with_reference_model(shown)
        outcome = _trained(working, objective, label, part, with_all, schedule, folder, together)
    return model, outcome


def _model(seed: int, dtype: torch.dtype, **changes: Any) -> torch.nn.Module:
    return tiny_model(seed, dtype, hidden_size=16, intermediate_size=16, vocab_size=VOCAB, **changes)


def _trained(
    model: torch.nn.Module,
    objective: Objective,
    label: str,
    part: str,
    with_all: TrainingData,
    schedule: Training,
    folder: Path,
    group: Group,
) -> Outcome:
    if label == "influence":
        solver = {"solver": part, "damping": 1.0, "max_iterations": 4, "tolerance": 1e-2}
        chosen = {"learning_rate": 1e-2, "curvature_data": "both", "curvature_examples": 5, **solver}
        return one_shot(model, objective, with_all, 2, "fp32", 3, chosen, group)
    course, kept = MiniBatches(with_all, schedule, 3), Kept(folder / "c", "grid")
    if label in OTHERS:
        method = OPTIMIZERS.parse({"kind": label, "learning_rate": 1e-2, **OTHERS[label]})
        update = make_update(method, model, course, Unlearn(**schedule.model_dump()), group)
        return train(model, objective, update, course, kept, group)
    curvature = None
    if label == "sophia":
        used = "both"
        if not (objective.uses_forget and objective.uses_retain):
            used = "forget" if objective.uses_forget else "retain"
        name, _, drawn = part.partition("/")  # and of how many examples
        chosen = estimator(name or "gauss_newton_bartlett")
        curvature = Curvature(chosen, 2, None, used, int(drawn) if drawn else None)
    optimizer = optimizer_of(label, model, group=group)
    return trained(model, objective, optimizer, course, curvature, kept, group)


def all_runs(folder: Path, device: str) -> None:
    """Every run in this group: weights of each process and the log. `device` is for the worker."""
    group = current()
    parts = Replicas(shards=True)
    for place, name in enumerate(names()):
        model, outcome = run_one(name, folder, group)
        write(folder, f"{place}", group.rank, model, outcome)
    for place, name in enumerate(sharded_names()):
        model, outcome = run_one(name, folder, parts)
        write(folder, f"sharded{place}", group.rank, model, outcome)
    for kind, together in (("replicas", group), ("parts", parts)):
        for name in RESUMED:
            begin(name, folder / kind / name, together)
            group.check_same(1, "that the checkpoint is there")
            model, outcome = run_one(name, folder / f"alone for {kind}" / name, together, **LONG)
            write(folder, f"{kind} {name}", group.rank, model, outcome)


RESUMED = ("PDU sophia", "GradDiff muon")
LONG = {"epochs": 2.5, "checkpoint_seconds": 0}  # five steps
STOP = 3


def begin(name: str, folder: Path, group: Group = ALONE) -> None:
    """The first steps of a run, which leave a checkpoint."""
    with pytest.MonkeyPatch.context() as patch, suppress(Stopped):
        stop_before(STOP, patch)
        run_one(name, folder, group, **LONG)
        raise AssertionError("the run was to stop")


def write(folder: Path, place: str, rank: int, model: torch.nn.Module, outcome: Outcome) -> None:
    tensors = {n: p.detach().clone().contiguous() for n, p in model.named_parameters() if p.requires_grad}
    save_file(tensors, folder / f"{place}.{rank}.safetensors")
    told: dict[str, Any] = {"status": outcome.status, "log": timeless(outcome.log)}
    (folder / f"{place}.{rank}.json").write_text(json.dumps(told))


def differences(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """How far two logs are apart, number by number, relative to their size."""
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left.keys() == right.keys()
        for key, value in left.items():
            if value is None or right[key] is None or isinstance(value, bool):
                assert value == right[key], key
            else:
                yield key, abs(value - right[key]) / max(1.0, abs(value))
