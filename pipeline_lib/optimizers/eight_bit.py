"""The torch optimiser of `adamw_8bit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from pipeline_lib.core.errors import UserError

DEVICES = ("cpu", "cuda", "xpu")  # that bitsandbytes 0.50 has 8-bit optimisers for
INSTALL = 'pip install "bitsandbytes>=0.50"'


def adamw_8bit(
    params: Sequence[dict[str, Any]], lr: float, beta1: float, beta2: float, eps: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW whose two averages are stored in 8 bits a value, with one fp32 scale for 256 of them.

    Dettmers et al. 2022, arXiv 2110.02861. Tensors of fewer than 4096 elements keep fp32 states.
    """
    try:
        import bitsandbytes
    except ImportError as error:
        raise UserError(
            f"optimiser adamw_8bit needs bitsandbytes ({error}); install it: {INSTALL}"
        ) from error
    found = {parameter.device.type for group in params for parameter in group["params"]}
    if not found <= set(DEVICES):
        raise UserError(
            f"optimiser adamw_8bit runs on {', '.join(DEVICES)}; found {', '.join(sorted(found))}; "
            "choose adamw"
        )

    class AdamW8bit(bitsandbytes.optim.AdamW8bit):
        """With a state dictionary that checkpoints can hold: tensors by name, none of them shared."""

        TABLES: ClassVar = {"qmap1": "dynamic", "qmap2": "udynamic"}  # what the 256 codes stand for

        def state_dict(self) -> dict[str, Any]:
            content = torch.optim.Optimizer.state_dict(self)  # bitsandbytes nests its 8-bit tensors
            content["state"] = {
                index: {key: value for key, value in state.items() if key not in self.TABLES}
                for index, state in content["state"].items()
            }
            return content

        def load_state_dict(self, state_dict: dict[str, Any], move_to_device: bool = True) -> None:
            super().load_state_dict(state_dict, move_to_device)
            for parameter, state in self.state.items():
                state["step"] = int(state["step"])
                if state["state1"].dtype == torch.uint8:
                    for key, name in self.TABLES.items():
                        state[key] = self.name2qmap[name].to(parameter.device)

    return AdamW8bit(params, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
