"""Pruning of a finished model: a share of its weights becomes zero, as it may before it is served.

Source: Sun et al. 2024, arXiv 2306.11695 (Wanda, and magnitude pruning beside it); models/pruned.py. Pruning
as a probe of unlearning: what comes back when the smallest changes are taken away.

Trap: at 50 % a small model loses much by itself: read utility, and what `retrained` does after the same
pruning. Wanda reads texts: a split that holds the forget set would tell it what to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from pipeline_lib.core.blocks import Count, Fault, Name, Share
from pipeline_lib.stages.base import Made, Stage, Work


class Prune(Stage):
    """Sets weights of the decoder's linear layers to zero."""

    kind: Literal["prune"]
    by: Literal["magnitude", "wanda"] = Field("magnitude", description="What decides which weights go")
    sparsity: Share = Field(
        0.3, description="Share of the weights that become zero: of a layer (magnitude), of a row (wanda)"
    )
    split: Name = Field("retain", description="wanda: the split whose texts are read")
    texts: Count = Field(128, description="wanda: how many of them, spread over the groups")

    def splits(self) -> tuple[str, ...]:
        return (self.split,) if self.by == "wanda" else ()

    def faults(self, parents: int) -> Iterator[Fault]:
        fields = type(self).model_fields  # a kept suite spells out the defaults
        for name in ("split", "texts") if self.by == "magnitude" else ():
            if getattr(self, name) != fields[name].default:
                yield name, "is read with `by: wanda` alone; leave it out"

    def make(self, work: Work) -> Made:
        from pipeline_lib.data.task_folder import load_splits
        from pipeline_lib.engine.settings import spread_over_groups
        from pipeline_lib.models.encoding import encode_records
        from pipeline_lib.models.pruned import prune_wanda
        from pipeline_lib.models.reduced import change_weights, without_smallest

        first, share = work.first, self.sparsity
        if self.by == "magnitude":
            changed = change_weights(first.model, lambda _, weight: without_smallest(weight, share))
            return Made(changed=changed)
        records = spread_over_groups(load_splits(work.data, [self.split])[self.split], self.texts)
        examples = encode_records(records, first.tokenizer, first.prompt_format, work.max_length, learn=True)
        return Made((self.split,), changed=prune_wanda(first.model, examples, self.sparsity))
