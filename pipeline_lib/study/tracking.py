"""An experiment tracker beside the study."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline_lib.core.blocks import Block, Count


class Tracking(Block):
    """What shows the study while it runs. It reads results and changes none of them."""

    kind: Literal["tensorboard"] = "tensorboard"
    every_seconds: Count = Field(
        30, description="How often new steps and metrics are looked for; steps come with each checkpoint"
    )
