"""Every objective with settings that are not 1, and how the tests run one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from pipeline_lib.data.batching import Alternative, Batch, Example
from pipeline_lib.models.adapters import attach
from pipeline_lib.objectives import Objective
from pipeline_lib.objectives.base import ReferenceModel
from pipeline_lib.objectives.finetuning import FineTuning
from tests.methods import make_objective
from tests.tiny import flat, make_examples, tiny_model

GAMMA, BETA, ALPHA, MARGIN, WEIGHT = 0.7, 0.2, 0.6, 0.3, 0.4
BETA1, BETA2 = 1.5, 0.5
BOUND, DUAL = 1.1, 1.7
STEERING, SEED, STRENGTH = 3.0, 5, 0.01
WITHOUT_LOSS = {"InContext"}


def dpo(kind: str, **more: str) -> Callable[[ReferenceModel], Objective]:
    return lambda reference: make_objective(kind, beta=BETA, alpha=ALPHA, **more)


def ceu(skip: bool) -> Callable[[ReferenceModel], Objective]:
    return lambda reference: make_objective("CEU", skip_first_token=skip)


def undial(alpha: float) -> Callable[[ReferenceModel], Objective]:
    return lambda reference: make_objective("UNDIAL", beta=3.0, alpha=alpha, reference_model=reference)


CASES: dict[str, Callable[[ReferenceModel], Objective]] = {
    "FineTuning": lambda reference: FineTuning(),
    "GradAscent": lambda reference: make_objective("GradAscent"),
    "GradDiff": lambda reference: make_objective("GradDiff", gamma=GAMMA),
    "KL": lambda reference: make_objective("KL", gamma=GAMMA, reference_model=reference),
    "PO": lambda reference: make_objective("PO", gamma=GAMMA),
    "RandomLabels": lambda reference: make_objective("RandomLabels", gamma=GAMMA),
    "DPO": dpo("DPO", alternatives="records"),
    "IdkDPO": dpo("IdkDPO"),
    "AltPO": dpo("AltPO"),
    "NPO": dpo("NPO"),
    "SimNPO": lambda reference: make_objective(
        "SimNPO", beta=BETA, margin=MARGIN, forget_weight=WEIGHT, alpha=ALPHA
    ),
    "WGA": dpo("WGA"),
    "SatImp": lambda reference: make_objective("SatImp", beta1=BETA1, beta2=BETA2, alpha=ALPHA),
    "UNDIAL": undial(ALPHA),
    "UNDIAL without retain": undial(0.0),
    "CEU": ceu(True),
    "CEU of all tokens": ceu(False),
    "PDU": lambda reference: make_objective(
        "PDU", retain_bound=BOUND, dual_start=DUAL, dual_step=0.5, dual_warmup=0
    ),
    "RMU": lambda reference: make_objective(
        "RMU",
        layer=0,
        update_layers=1,
        steering=STEERING,
        alpha=ALPHA,
        direction_seed=SEED,
        reference_model=reference,
    ),
    "L1Sparse": lambda reference: make_objective("L1Sparse", strength=STRENGTH),
    "TaskVector": lambda reference: make_objective("TaskVector", scale=0.5),
    "WHP": lambda reference: make_objective("WHP", alpha=2.0, gamma=GAMMA),
}


def held(model: torch.nn.Module) -> ReferenceModel:
    """The model before unlearning, as the training side hands it over."""
    return lambda: nullcontext(model)


def alternatives_to(examples: Sequence[Example], seed: int = 7) -> list[Alternative]:
    """Another answer to each of the same prompts, of 1 to 4 tokens, with a reference NLL."""
    answers = make_examples([(1, 1 + (3 * e.index + seed) % 4) for e in examples], seed)
    return [
        Alternative(replace(e, tokens=e.tokens[: e.prompt_length] + answer.tokens[1:]), 3.0 + e.index)
        for e, answer in zip(examples, answers, strict=True)
    ]


def loss_and_gradient(
    objective: Objective, model, forget: Sequence[Batch], retain: Sequence[Batch]
) -> tuple[dict[str, float | None], torch.Tensor]:
    """Losses and the gradient (one vector) summed over the micro-batches of one step."""
    model.zero_grad(set_to_none=True)
    sums: dict[str, float | None] = {"total": None, "forget": None, "retain": None}
    for pair in zip(forget, retain, strict=True):
        losses = objective(model, *pair)
        losses.total.backward()
        for name, before in sums.items():
            value = getattr(losses, name)
            if value is not None:
                sums[name] = (before or 0.0) + float(value.detach())
                assert name == "total" or not value.requires_grad  # for the log only
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return sums, flat(gradients)


def adapted(target: list[str]) -> Any:
    """A tiny model in fp64 with adapters on the layers `target` that already change what it computes."""
    model = tiny_model(0, torch.float64, tie_word_embeddings=False)
    attach(model, rank=2, alpha=4.0, dropout=0.0, target=target, seed=3)
    drawn = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=drawn).to(parameter))
    return model
