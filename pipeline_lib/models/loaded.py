"""A model compared with its files: shapes before anything is allocated, weights once they are read."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.models.attention import attention_of, class_of
from pipeline_lib.models.checks import CONFIG
from pipeline_lib.models.hub import first_line
from pipeline_lib.models.weights import BYTES, Stored, is_constant

SPARE = 4 << 30  # bytes of constants (masks, positions) that an architecture may make beside its weights
SHOWN = 3


def configuration(content: dict[str, Any], folder: Path, name: str) -> Any:
    """transformers' configuration of a checked config.json, read from a copy without orders."""
    from transformers import AutoConfig

    try:
        with TemporaryDirectory() as aside:
            (Path(aside) / CONFIG).write_text(json.dumps(content), encoding="utf-8")
            config = AutoConfig.from_pretrained(aside, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each configuration checks its values in its own way
        raise UserError(
            f"{name}: its config.json does not fit {content.get('model_type')}: {_whole(error)}. Take the "
            "config.json that the model was published with."
        ) from error
    config.name_or_path = str(folder)
    return config


def check_shapes(config: Any, stored: Mapping[str, Stored], name: str) -> None:
    """`UserError` if the model that config.json describes is not the one in the files, compared by name.

    The model is made without memory for its weights (torch's device "meta").
    """
    import torch

    try:
        with torch.device("meta"):
            sketch = class_of(config)._from_config(config, attn_implementation=attention_of(config))
    except Exception as error:
        raise UserError(
            f"{name}: its config.json describes no model that can be built: {_whole(error)}. Take the "
            "config.json that the model was published with."
        ) from error
    prefix = f"{sketch.base_model_prefix}."
    expected = {key: tuple(value.shape) for key, value in sketch.state_dict().items()}
    if wrong := [
        f"{tensor} is {found.shape} in the files and {shape} by config.json"
        for tensor, found in stored.items()
        if (shape := expected.get(tensor) or expected.get(prefix + tensor)) not in (None, found.shape)
        and not is_constant(tensor, found.shape)
    ]:
        raise UserError(
            f"{name}: {len(wrong)} weights have other shapes in the files than config.json says: "
            f"{'; '.join(wrong[:SHOWN])}. They belong to different models; take both from the same one."
        )
    described = sum(parameter.numel() for parameter in sketch.parameters())
    held = sum(found.size for found in stored.values() if found.dtype in BYTES)
    beside = sum(buffer.nbytes for buffer in sketch.buffers())
    if described > 2 * held or beside > SPARE + 8 * held:
        raise UserError(
            f"{name}: config.json describes a model of {described:,} weights and {beside:,} bytes beside "
            f"them; the files hold {held:,} weights. They belong to different models; take both from the "
            "same one."
        )


def check_loaded(model: Any, report: Mapping[str, Any], name: str) -> None:
    """`UserError` unless every weight came from the files, in its shape there, and is finite."""
    if missing := sorted(report["missing_keys"]):
        # transformers would fill these with random numbers and continue.
        if before := _before_all(missing, report["unexpected_keys"]):
            raise UserError(
                f"{name}: the names of its weights begin with {before!r}, as those of a model that was "
                "saved within another object (torch.compile, peft). Save the model inside it with "
                "`save_pretrained`, after `merge_and_unload()` where that object holds adapters."
            )
        raise UserError(
            f"{name}: {len(missing)} weights are not in its files, the first is {missing[0]}. Files and "
            "config.json are of different models, or a file is missing; download the model again."
        )
    if mismatched := sorted(report["mismatched_keys"]):
        key, found, expected = mismatched[0]
        raise UserError(
            f"{name}: {len(mismatched)} weights have other shapes in the files than config.json says: the "
            f"first, {key}, is {tuple(found)} and {tuple(expected)}. Take both from the same model."
        )
    check_finite_weights(model, name)


def _before_all(missing: Sequence[str], unexpected: Collection[str]) -> str | None:
    """The prefix that all names in the files have before a missing weight's: "_orig_mod." (torch.compile)."""
    first = min(unexpected, default="")
    inner = max((key for key in missing if first.endswith(f".{key}")), key=len, default=first)
    before = first.removesuffix(inner)
    fits = all(key.startswith(before) and key.removeprefix(before) in missing for key in unexpected)
    return before if before and fits else None


def check_nothing_left(report: Mapping[str, Any], stored: Mapping[str, Stored], name: str) -> None:
    """`UserError` if files hold weights that the architecture has no place for.

    Without them the model would be another function than the published one: a further head, adapters, layers.
    Constants that older versions of transformers wrote too are allowed.
    """
    shapes = {key: found.shape for key, found in stored.items()}
    if left := sorted(key for key in report["unexpected_keys"] if not is_constant(key, shapes.get(key, ()))):
        raise UserError(
            f"{name}: its files hold {len(left)} weights that the architecture has no place for: "
            f"{', '.join(left[:SHOWN])}. The model would not be the one that was trained: take the "
            "config.json that belongs to the files, or save the model again with `save_pretrained` (adapters "
            "merged, further heads removed)."
        )


def check_finite_weights(model: Any, name: str) -> None:
    """`UserError` that names the first weight with a NaN or an infinity."""
    import torch

    for key, value in (*model.named_parameters(), *model.named_buffers()):
        # The sum of a tensor costs a third of a test of each number; it is finite if all are, unless it
        # overflows.
        if not value.is_floating_point() or torch.isfinite(value.sum()):
            continue
        if broken := int((~torch.isfinite(value)).sum()):
            if key.endswith(("mask", "bias")) and value.dim() > 2:  # a mask of minus infinities
                continue
            if key not in model.state_dict():
                raise UserError(
                    f"{name}: {key}, which is computed from config.json, holds {broken} numbers that are "
                    "not finite (NaN or infinite). Look for a factor of 0 there, or take the config.json "
                    "that the model was published with."
                )
            raise UserError(
                f"{name}: {key} holds {broken} numbers that are not finite (NaN or infinite), of "
                f"{value.numel()}: expected finite weights. A run that diverged leaves such files, and so "
                "does a conversion to fp16 of large weights. Download the model again, or train it again "
                "with a lower learning rate or in bf16."
            )


def _whole(error: Exception) -> str:
    """All lines of an error as one, cut: the first line often says only that something is wrong."""
    return " ".join(str(error).split())[:300].rstrip(".") or first_line(error)
