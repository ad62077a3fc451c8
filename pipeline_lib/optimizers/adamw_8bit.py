"""AdamW with 8-bit states, from the optional package bitsandbytes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pipeline_lib.core.errors import UserError
from pipeline_lib.optimizers.adamw import AdamW
from pipeline_lib.optimizers.update import Group, Groups, TorchOptimizer

DEVICES = {"cpu", "cuda", "xpu"}  # for which bitsandbytes 0.50 has 8-bit optimisers


class AdamW8bit(AdamW):
    """AdamW whose two averages are stored in 8 bits a value; needs the optional extra `eightbit`.

    Dettmers et al. 2022, arXiv 2110.02861. 256 neighbours share one fp32 scale. Tensors of fewer than 4096
    elements keep fp32 states.
    """

    kind: Literal["adamw_8bit"]  # type: ignore[assignment]

    display: ClassVar[str] = "AdamW (8bit)"
    reference: ClassVar[bool] = False
    in_parts: ClassVar[str | None] = (
        "its 8-bit states share a scale among 256 neighbours, and these are cut apart"
    )

    def state_bytes(self, trained: float, embedding: float, width: int) -> float:
        return 2.0 * trained * (1 + 4 / 256)  # a byte an element, and one scale for 256 of them

    def build(self, groups: Groups, parts: Group) -> TorchOptimizer:
        import torch

        try:
            import bitsandbytes
        except ImportError as error:
            raise UserError(
                f"optimiser adamw_8bit needs bitsandbytes ({error}); install it: "
                'pip install "bitsandbytes>=0.50"'
            ) from error
        found = {parameter.device.type for group in groups for parameter in group["params"]}
        if not found <= DEVICES:
            raise UserError(
                f"optimiser adamw_8bit runs on {', '.join(sorted(DEVICES))}; found "
                f"{', '.join(sorted(found))}; choose adamw"
            )

        class WithPlainStates(bitsandbytes.optim.AdamW8bit):
            """Its state dictionary is one that checkpoints can hold: tensors by name, none of them shared."""

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

        return WithPlainStates(
            groups,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
