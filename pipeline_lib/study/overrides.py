"""A block of settings with some of them changed, and what is wrong with the changes."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from pipeline_lib.core.blocks import Block, Fault
from pipeline_lib.core.blocks.messages import describe

B = TypeVar("B", bound=Block)


def changed(block: B, changes: dict[str, Any], where: str, faults: list[Fault], owner: str = "") -> B | None:
    """The block with the changes; None where they do not fit, which goes to `faults` after `owner`."""
    try:
        return type(block).model_validate({**block.model_dump(), **changes})
    except ValidationError as error:
        found = describe(error, type(block), settled=("kind",))
        faults += [(f"{where}.{path}", f"{owner}{message}") for path, message in found]
        return None
