"""Quantisation of a finished model: its weights rounded to 8 or 4 bits, as they would be served.

Source: Zhang et al. 2024, arXiv 2410.16454: at 4 bits a model that was unlearned with a small step comes back
to what it knew before. The formats and their sources: models/quantised.py.

Trap: see there; also give `retrained` and `original` to the stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from pipeline_lib.core.blocks import Count, Fault
from pipeline_lib.stages.base import Made, Stage, Work


class Quantise(Stage):
    """Rounds the weights of the decoder's linear layers and widens them again to fp32."""

    kind: Literal["quantise"]
    format: Literal["fp16", "int8", "int4", "nf4"] = Field("int4", description="How weights are rounded")
    group: Count | None = Field(
        None,
        description="Neighbouring weights that share a scale; default: a row (int8), 128 (int4), 64 (nf4)",
    )

    def faults(self, parents: int) -> Iterator[Fault]:
        if self.format == "fp16" and self.group is not None:
            yield "group", "fp16 has no scales to share; leave it out"

    def make(self, work: Work) -> Made:
        from pipeline_lib.models.quantised import GROUPS, quantised
        from pipeline_lib.models.reduced import change_weights

        group = self.group or GROUPS[self.format]
        changed = change_weights(work.first.model, lambda _, weight: quantised(weight, self.format, group))
        return Made(changed=changed)
