"""Which training settings leave a reduced base reduced. Never imports torch, since it checks suites."""

from __future__ import annotations


def base_fault(kind: str, lora: bool, weights: str, optimizer: str, moves_zeros: bool) -> str | None:
    """What is wrong with the settings `unlearn` and this kind of optimiser; None if nothing is.

    `kind`: of the model block's `base`, "pruned" or "int8". `lora`: whether adapters are trained. `weights`:
    the type of the trained weights. `moves_zeros`: whether coordinates whose gradient is 0 move under the
    optimiser.
    """
    if kind == "int8" and not lora:
        return (
            "the model's base is int8, whose weights cannot be trained, and `lora` is not set: train "
            "adapters (`unlearn.lora: {}`) or leave `base` out of the model block"
        )
    if kind == "int8" and weights != "fp32":
        return (
            f"the model's base is int8: found `weights: {weights}`, expected fp32 (of the "
            "adapters; the base takes a byte a weight already). For bf16 arithmetic set `compute: bf16`"
        )
    if kind == "pruned" and not lora and moves_zeros:
        return (
            f"the model's base is pruned, and {optimizer} moves weights that are 0 too: choose another "
            "optimizer, or train adapters (`unlearn.lora: {}`), which give a dense model"
        )
    return None
