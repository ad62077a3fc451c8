"""The optimiser's step in the machine's memory, so that a GPU holds weights and gradients but no states."""

from __future__ import annotations

import torch

from pipeline_lib.optimizers.on_copies import OnCopies


class OnHost(OnCopies):
    """Any optimiser, its states and its arithmetic on the CPU, for parameters that may lie on a GPU.

    Every step copies weights and gradients to the machine's memory, steps there, and copies the weights
    back (the idea of ZeRO-Offload, Ren et al. 2021, arXiv 2101.06840). The arithmetic is that of the wrapped
    optimiser: the same bits on a CPU; between CPU and GPU the rounding of their kernels differs. Beside the
    states, the machine holds a copy of weights and gradients (page-locked where they come from a GPU).

    Why not a library's: torchao's offloading optimiser and bitsandbytes' paged ones are AdamW and its
    relatives, on CUDA alone; this serves every optimiser here, Sophia's curvature included, and runs without
    a GPU.
    """

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """In the machine's memory; page-locked where it comes from a GPU, which copies faster."""
        return torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda).copy_(tensor)
