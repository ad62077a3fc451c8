"""Products of bf16 matrices in fp32, rounded once: torch's numbers, on CPUs without instructions for bf16.

There torch adds up bf16 products number by number, a dozen times slower than fp32. A product of two bf16
numbers is exact in fp32, and torch sums in fp32 and rounds the sum: so does this, in another order. Python
imports this module by itself where its folder is on the search path, and it changes torch in the process
whose forks are a study's jobs, alone.
"""

from __future__ import annotations

import sys
from typing import Any


def emulate() -> Any:
    """Take over torch's products of two matrices on the CPU, while the returned object lives."""
    import torch

    def rounded(plain: Any) -> Any:
        def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            if a.dtype == torch.bfloat16:
                return product(a.float(), b.float()).bfloat16()
            return plain(a, b, out=a.new_empty((*a.shape[:-1], b.shape[-1])))

        return product

    library = torch.library.Library("aten", "IMPL")
    library.impl("mm", rounded(torch.ops.aten.mm.out), "CPU")
    library.impl("bmm", rounded(torch.ops.aten.bmm.out), "CPU")
    return library


if any(argument.endswith("fork_server.py") for argument in sys.orig_argv):
    kept = emulate()
