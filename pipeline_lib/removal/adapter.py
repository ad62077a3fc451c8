"""The adapter of a removal: what was added to the model's weights, as a folder that peft loads.

A run with adapters ends in plain weights W' = W + (alpha / rank) B A (models/adapters.py). The difference has
that rank, so its singular value decomposition gives factors whose product is the difference, but for the
rounding of the merge: B = U sqrt(S), A = sqrt(S) V^T, with alpha = rank.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline_lib.core.files import atomic_path
from pipeline_lib.models.folder import load_model_folder

ITERATIONS, BEYOND = 4, 8  # of the randomised decomposition; it is exact for a matrix of the rank asked for
NAME = "default"  # what peft calls the only adapter of a model


def write_adapter(before: Path, after: Path, rank: int, folder: Path, base: str) -> None:
    """Write the adapter from the model folder `before` to `after`; `base`: as a request names it."""
    transformers.utils.logging.disable_progress_bar()  # its carriage returns would stand in the terminal
    old, new = (load_model_folder(place)[0] for place in (before, after))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")  # peft's own affair
        model = adapted(old, new, rank, base)
    with atomic_path(folder) as temporary:
        model.save_pretrained(temporary, save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)  # peft's form, with nothing filled in


def adapted(old: Any, new: Any, rank: int, base: str) -> Any:
    """`old`, in place, with adapters that make it `new`. Both are fp32; only linear layers may differ."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        factors = {name: _factors(change, rank) for name, change in _changed(old, new)}
        model = _with_adapters(old, list(factors), rank, base)
        for name, module in model.base_model.model.named_modules():
            if name in factors:
                module.lora_B[NAME].weight.copy_(factors[name][0])
                module.lora_A[NAME].weight.copy_(factors[name][1])
    return model


def _changed(old: Any, new: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and change of each linear layer's weight, (out, in), one after the other."""
    others = dict(new.named_modules())
    for name, layer in old.named_modules():
        linear, turned = isinstance(layer, torch.nn.Linear), type(layer).__name__ == "Conv1D"  # (in, out)
        if (linear or turned) and not torch.equal(layer.weight, others[name].weight):
            change = others[name].weight - layer.weight
            yield name, change.T if turned else change


def _factors(change: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """B (out, rank) and A (rank, in)."""
    width = min(rank + BEYOND, *change.shape)
    u, s, v = torch.svd_lowrank(change, q=width, niter=ITERATIONS)
    root = s[:rank].sqrt()
    return u[:, :rank] * root, root[:, None] * v[:, :rank].T


def _with_adapters(model: Any, layers: list[str], rank: int, base: str) -> Any:
    from peft import LoraConfig, get_peft_model

    name, _, revision = (base, "", "") if Path(base).exists() else base.partition("@")
    model.name_or_path = name  # which peft writes into the adapter's settings
    turned = any(type(model.get_submodule(name)).__name__ == "Conv1D" for name in layers)
    targets = sorted({name.rpartition(".")[2] for name in layers})  # where nothing changed, B stays zero
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, fan_in_fan_out=turned)
    config.revision = revision or None  # of the base model
    return get_peft_model(model, config)
