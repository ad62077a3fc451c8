"""The layers of a decoder, whatever its architecture calls them."""

from __future__ import annotations

from typing import Any

from pipeline_lib.core.errors import UserError

NAMES = ("layers", "h", "blocks")  # Llama and most; GPT-2, BLOOM; MPT


def decoder_layers(model: Any, who: str) -> Any:
    """The decoder's list of layers, from the first to the last. `who` asks for them, for the message."""
    found = (getattr(model.get_decoder(), name, None) for name in NAMES)
    layers = next((layers for layers in found if layers is not None), None)
    if layers is None:
        names = f"{', '.join(f'`{name}`' for name in NAMES[:-1])} or `{NAMES[-1]}`"
        raise UserError(
            f"{who} looks for the layers of {type(model).__name__} under {names} and found none of them; "
            "leave it out of the suite"
        )
    return layers
