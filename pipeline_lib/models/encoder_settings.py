"""Settings of a suite's text encoders. Readable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Block, HubId, PathText, Revision


class HubEmbedder(Block):
    """A sentence encoder of the hub at a pinned revision. `$PIPELINE_MODELS` may hold a local copy."""

    source: Literal["hub"]
    id: HubId
    revision: Revision


class FolderEmbedder(Block):
    """A sentence encoder in a local folder. `$VARIABLES` in the path are expanded."""

    source: Literal["folder"]
    path: PathText


EncoderSettings = Annotated[HubEmbedder | FolderEmbedder, Field(discriminator="source")]
