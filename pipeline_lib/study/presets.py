"""Starting points that make a short suite possible: `preset: tiny` or `preset: smollm2`.

A preset supplies the blocks that the suite leaves out. A block of settings (finetune, unlearn, evaluation,
resources) is merged key by key; a family (models, tasks, objectives, optimizers) of the suite replaces that
of the preset.
"""

from __future__ import annotations

from typing import Any

from pipeline_lib.core.blocks import suggestion
from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.errors import UserError

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        "models": {"tiny": {"source": "scratch"}},
        "tasks": {"authors": {"source": "fictitious"}},
        "finetune": {"epochs": 30, "batch_size": 16, "learning_rate": 2e-3, "warmup": 0.1, "decay": "linear"},
        "unlearn": {"epochs": 5, "batch_size": 8},
        "evaluation": {"max_new_tokens": 32},
    },
    "smollm2": {
        "models": {
            "smollm2": {
                "source": "hub",
                "id": "HuggingFaceTB/SmolLM2-135M-Instruct",
                "revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            }
        },
        "tasks": {"tofu": {"source": "tofu"}},
        "finetune": {"epochs": 5, "batch_size": 16, "learning_rate": 1e-4, "warmup": 0.1, "decay": "linear"},
        "unlearn": {"epochs": 5, "batch_size": 8},
        "resources": {"memory_mb": 6000},
    },
}

_MERGED = ("finetune", "unlearn", "evaluation", "resources")


def apply_preset(raw: dict[str, Any]) -> dict[str, Any]:
    """The suite with its `preset`, if any, filled in."""
    raw = dict(raw)
    name = raw.pop("preset", None)
    if name is None:
        return raw
    if not isinstance(name, str) or name not in PRESETS:
        raise UserError(f"preset: found {show(name)}; {suggestion(name, PRESETS)}")
    for key, value in PRESETS[name].items():
        given = raw.get(key)
        if key in _MERGED and (given is None or isinstance(given, dict)):
            raw[key] = {**value, **(given or {})}
        else:
            raw.setdefault(key, value)
    return raw
