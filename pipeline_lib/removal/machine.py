"""What this machine has for a removal, and how a model that is too large for it is trained."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.operations.plan import check_fits
from pipeline_lib.removal.request import Prepared
from pipeline_lib.removal.suites import sweep_of, tried
from pipeline_lib.study import parse_suite


def resources() -> dict[str, Any]:
    """The block of a suite: one GPU with its memory, or the memory of the machine."""
    import torch

    if torch.cuda.is_available():
        return {"gpus": 1, "gpu_memory_gb": round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)}
    return {"memory_limit_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20}


def at_once(made: Prepared, cores: int) -> int:
    """How many jobs run at a time: one on a GPU, which two would not fit into."""
    return 1 if made.resources.get("gpus") else cores


def made_to_fit(made: Prepared) -> Prepared:
    """The request with all weights trained where their training fits, else, or where asked, with adapters.

    Raises `UserError` where adapters do not fit either.
    """
    if made.request.adapter:
        made = replace(made, lora=True)
    try:
        check_fits(parse_suite(tried(made, sweep_of(made, 1, 1.0))))
    except UserError:
        if made.lora:
            raise
        adapted = replace(
            made,
            lora=True,
            notes=[*made.notes, "not all weights fit into memory: adapters are trained, and merged"],
        )
        check_fits(parse_suite(tried(adapted, sweep_of(adapted, 1, 1.0))))
        return adapted
    return made
