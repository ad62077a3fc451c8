"""Numbers in 4 bits: blocks of 128 neighbours with a scale, and two codes a byte."""

from __future__ import annotations

import torch
import torch.nn.functional as F

BLOCK = 128  # elements that share a scale


def _dynamic_exponent() -> list[float]:
    """0, 1 and, with both signs, the centres of 1, 2 and 4 equal parts of [0.1, 1] over 100, 10 and 1.

    The signed codes of arXiv 2110.02861, section 2.2, with a sign and 3 bits for exponent and fraction
    (arXiv 2309.01507, appendix E.2). Between codes the spacing grows with the size; -1 is no code.
    """
    centres = [
        10.0 ** (bits - 2) * (0.1 + 0.9 * (part + 0.5) / 2**bits)
        for bits in range(3)
        for part in range(2**bits)
    ]
    return sorted([0.0, 1.0, *centres, *(-centre for centre in centres)])


SIGNED = torch.tensor(_dynamic_exponent())  # (16,)
UNSIGNED = torch.arange(1, 17) / 16  # (16,): without zero, so that no denominator vanishes


def pack(values: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The bytes (BLOCK / 2 a block) and scales (one a block) of flat fp32 values, the last block filled up.

    Each value over the largest magnitude of its block takes the nearest of the 16 sorted `codes`; halfway,
    the lower one.
    """
    blocks = F.pad(values, (0, -values.numel() % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    relative = blocks / scales.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)
    between = ((codes[1:] + codes[:-1]) / 2).to(values.device)
    chosen = torch.bucketize(relative, between, out_int32=True).to(torch.uint8).view(-1, 2)
    return chosen[:, 0] | chosen[:, 1] << 4, scales


def unpack(packed: torch.Tensor, scales: torch.Tensor, codes: torch.Tensor, size: int) -> torch.Tensor:
    """The `size` flat fp32 values that these bytes and scales stand for."""
    chosen = torch.stack((packed & 15, packed >> 4), dim=1).view(-1, BLOCK)
    return codes.to(packed.device)[chosen.int()].mul_(scales.unsqueeze(1)).view(-1)[:size]
