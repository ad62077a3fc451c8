"""Influence unlearning: one damped Newton step instead of a training loop."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from tqdm import tqdm

from pipeline_lib.data.batching import Batch, Example, micro_batches
from pipeline_lib.distributed.group import ALONE, Group
from pipeline_lib.distributed.pieces import pieces, weightless
from pipeline_lib.errors import UserError
from pipeline_lib.influence import newton_direction
from pipeline_lib.influence.vectors import gradients_into, norm, parts, zeros
from pipeline_lib.memory import peak_memory_mb
from pipeline_lib.objectives import Objective
from pipeline_lib.training.data import TrainingData, forget_batches, forget_examples
from pipeline_lib.training.loop import Outcome, tokens_of
from pipeline_lib.training.sampling import derived_seed


def one_shot(
    model: torch.nn.Module,
    objective: Objective,
    data: TrainingData,
    batch_size: int,
    compute: str,
    seed: int,
    settings: dict[str, Any],
    group: Group = ALONE,
) -> Outcome:
    """theta <- theta - learning_rate (G + damping I)^-1 grad L(theta), in place.

    The static influence update that SOUL iterates (arXiv 2404.18239, section 4; Koh & Liang 2017,
    arXiv 1703.04730, eq. 1). L: `objective` over the whole forget and retain sets, with its means over whole
    sets; G: the Gauss-Newton matrix of `influence.GaussNewton` on `curvature_examples` examples
    of `curvature_data`, drawn without repetition by `seed` (`both`: from the two sets as one pool; all where
    there are fewer). `settings`: learning_rate, solver, damping, max_iterations, tolerance, curvature_data,
    curvature_examples. `batch_size`: examples in one forward pass, of each set. `compute`: "bf16" is autocast
    for the gradient alone; G is always in fp32. Dropout is off throughout.

    The log has one row, with the loop's keys (`loss` and others before the step; `update_norm`: L2 of the
    change) and `solver_iterations`, `solver_residual` (relative, of the whole system), `solver_converged`.
    A solver that does not converge says so on stderr, and its step is taken; a loss, gradient, curvature or
    result that is not finite ends as "diverged". Equal seeds give equal bits; there is no checkpoint, a
    killed run starts again. Raises `UserError` for weights below fp32, for curvature data without examples
    and for a model that cannot be differentiated as needed.

    Memory beside the model, in vectors of parameter size (0.54 GB for 135 million fp32 parameters): the
    gradient and, for conjugate gradients, four of the solver; LiSSA three, the diagonal up to four, ekfac
    about five. To this come the activations of one micro-batch.

    `group`: processes that share the passes over the data, each with all of these vectors.
    """
    started = time.monotonic()
    parameters = [p for p in model.parameters() if p.requires_grad]
    if any(p.dtype not in (torch.float32, torch.float64) for p in parameters):
        found = next(p.dtype for p in parameters if p.dtype not in (torch.float32, torch.float64))
        raise UserError(
            f"the influence step needs fp32 weights and found {found}; set `unlearn.weights: fp32`"
        )
    place = parameters[0].device
    training = model.training
    model.eval()
    try:
        answers = forget_examples(data, range(len(data.forget)), 0, seed)
        gradient, losses, tokens = _whole_gradient(
            model, objective, data, batch_size, compute, seed, parameters, group
        )
        length = norm(gradient)
        if not (math.isfinite(losses["loss"]) and math.isfinite(length)):
            return Outcome([], "diverged", 1, 0, time.monotonic() - started)
        examples = _curvature_examples(answers, data.retain, settings, seed)
        batches = [batch.to(place) for batch in micro_batches(examples, batch_size, data.pad_id)]
        with tqdm(
            desc=f"{settings['solver']}: products", unit="product", mininterval=2, disable=not group.writes
        ) as bar:
            direction, report = newton_direction(
                model,
                batches,
                parameters,
                gradient,
                settings["solver"],
                settings["damping"],
                settings["max_iterations"],
                settings["tolerance"],
                torch.Generator(place).manual_seed(derived_seed(seed, "labels", 0)),
                bar.update,
                group,
            )
    finally:
        model.train(training)
    if not report.converged and group.writes:
        print(
            f"influence: {settings['solver']} did not converge: relative residual "
            f"{report.relative_residual:.3g} after {report.iterations} iterations, "
            f"tolerance {settings['tolerance']:g} ({report.reason})",
            file=sys.stderr,
        )
    update_norm = settings["learning_rate"] * norm(direction)
    if not (report.finite and math.isfinite(update_norm)):
        return Outcome([], "diverged", 1, 0, time.monotonic() - started)
    with torch.no_grad():
        for parameter, part in zip(parameters, parts(direction, parameters), strict=True):
            parameter.sub_(part, alpha=settings["learning_rate"])
    elapsed = time.monotonic() - started
    row = {
        "step": 1,
        "epoch": 1.0,
        "loss": losses["loss"],
        "forget_loss": losses.get("forget_loss"),
        "retain_loss": losses.get("retain_loss"),
        "grad_norm": length,
        "learning_rate": settings["learning_rate"],
        "clipped_share": None,
        "update_norm": update_norm,
        "gamma": None,
        "curvature_mean": None,
        "curvature_drift": None,
        "curvature_s": None,
        "update_every": None,
        "curvature_skipped": None,
        "tokens_per_s": tokens / elapsed,
        "memory_mb": peak_memory_mb(place),
        "elapsed_s": elapsed,
        "solver_iterations": report.iterations,
        "solver_residual": report.relative_residual,
        "solver_converged": report.converged,
    }
    if not all(bool(torch.isfinite(p).all()) for p in parameters):
        return Outcome([row], "diverged", 1, 1, elapsed)
    return Outcome([row], "ok", None, 1, elapsed)


def _curvature_examples(
    forget: Sequence[Example], retain: Sequence[Example], settings: dict[str, Any], seed: int
) -> list[Example]:
    """`curvature_examples` of the chosen data, or all where there are fewer."""
    name = settings["curvature_data"]
    pool = {"forget": [*forget], "retain": [*retain], "both": [*forget, *retain]}[name]
    if not pool:
        raise UserError(f"curvature_data is {name}, but that set is empty; choose forget, retain or both")
    generator = torch.Generator().manual_seed(derived_seed(seed, "curvature examples"))
    rows = torch.randperm(len(pool), generator=generator)[: settings["curvature_examples"]].tolist()
    return [pool[row] for row in rows]


def _whole_gradient(
    model: torch.nn.Module,
    objective: Objective,
    data: TrainingData,
    batch_size: int,
    compute: str,
    seed: int,
    parameters: Sequence[torch.Tensor],
    group: Group,
) -> tuple[torch.Tensor, dict[str, float], int]:
    """Gradient of the objective over the whole sets (P,), its losses in nats, and the tokens read."""
    place = parameters[0].device
    forget = range(len(data.forget)) if objective.uses_forget else range(0)
    retain = data.retain if objective.uses_retain else []
    # As many micro-batches of the one set as of the other, where their sizes allow it.
    count = max(math.ceil(len(rows) / batch_size) for rows in (forget, retain))
    size_f, size_r = (max(math.ceil(len(rows) / count), 1) for rows in (forget, retain))
    cut = {
        "forget": forget_batches(data, forget, 0, seed, size_f) if forget else [],
        "retain": micro_batches(retain, size_r, data.pad_id),
    }
    tokens = sum(tokens_of(batch) for batches in cut.values() for batch in batches)
    gradient = zeros(parameters)
    sums: dict[str, torch.Tensor] = {}
    autocast = torch.autocast(place.type, torch.bfloat16) if compute == "bf16" else nullcontext()
    own = [
        [piece.batch for piece in pieces([_at(batches, i) for i in range(count)], group)] if batches else []
        for batches in cut.values()
    ]
    with gradients_into(gradient, parameters):
        for i in range(max(map(len, own))):
            pair = [batches[i].to(place) if batches else None for batches in own]
            with autocast:
                losses = objective(model, *pair)
            losses.total.backward()
            named = {"loss": losses.total, "forget_loss": losses.forget, "retain_loss": losses.retain}
            for name, value in named.items():
                if value is not None:
                    sums[name] = sums.get(name, 0.0) + value.detach().double()  # a GPU waits once, below
    group.sum_([gradient])
    values = torch.stack(list(sums.values())).tolist()
    return gradient, group.sums(dict(zip(sums, values, strict=True))), tokens


def _at(batches: Sequence[Batch], i: int) -> Batch:
    """Micro-batch i; past the end one that weighs nothing, as objectives want both sets at every call."""
    return batches[i] if i < len(batches) else weightless(batches[0])
