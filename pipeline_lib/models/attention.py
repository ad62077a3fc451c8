"""Which attention an architecture runs with, and what that attention can do: never a model's files' choice.

A `config.json` can name an attention of its own, even one that transformers would fetch from the hub and run.
"""

from __future__ import annotations

from inspect import signature
from typing import Any


def attention_of(config: Any, auto_class: str = "AutoModelForCausalLM") -> str:
    """ "sdpa", torch's fused attention, if the architecture has it and it computes the same; else "eager".

    Fused attention has no soft-caps (Gemma 2), so a cap in the configuration means "eager".
    """
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "sdpa" if class_of(config, auto_class)._supports_sdpa and not capped else "eager"


def class_of(config: Any, auto_class: str = "AutoModelForCausalLM") -> Any:
    """The class of transformers that a configuration is loaded with."""
    import transformers

    found = getattr(transformers, auto_class)._model_mapping[type(config)]
    return found[0] if isinstance(found, list | tuple) else found


def attends_to_all(config: Any) -> bool:
    """Whether every layer attends to all earlier tokens: no window, no chunks, no local layers (GPT-Neo)."""
    text = config.get_text_config()
    limits = ("sliding_window", "attention_chunk_size")
    if any(getattr(text, name, None) is not None for name in limits):
        return False
    kinds = {*(getattr(text, "layer_types", None) or ()), *(getattr(text, "attention_layers", None) or ())}
    return kinds <= {"full_attention", "global"}


def takes_positions(model: Any) -> bool:
    """Whether the decoder is given the places of its tokens; others count in the mask or the row (ALiBi)."""
    decoder = model.get_decoder()
    return "position_ids" in signature(getattr(decoder, "forward", decoder)).parameters
