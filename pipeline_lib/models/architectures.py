"""Which architectures can be unlearned here, judged from config.json alone: before any job, without torch.

The model must be a decoder of text that attends to earlier tokens and that transformers knows. Everything
else is refused with its own reason. What transformers knows is read from its installed tables of names;
importing them would import torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError

TABLES = "models/auto/modeling_auto.py"
CAUSAL, MASKED = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"
TRANSLATING = ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES")
SEEING = ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES")

# What carries a state from token to token, in transformers (a test compares them) or elsewhere.
# fmt: off
RECURRENT = frozenset((
    "bailing_hybrid", "bamba", "deepseek_v4", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba",
    "kimi_linear", "lfm2", "lfm2_moe", "lfm3", "mamba", "mamba2", "mamba_ssm", "minimax", "nemotron_h",
    "olmo_hybrid", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "qwen4_exp_text", "recurrent_gemma",
    "retnet", "rwkv", "rwkv5", "rwkv6", "rwkv7", "stripedhyena", "xlstm", "zamba", "zamba2", "zaya",
))
# fmt: on
STATES = frozenset({"linear_attention", "recurrent", "mamba", "mamba2", "conv", "ssm", "hybrid"})
OTHER_SENSES = ("vision_config", "audio_config", "speech_config", "vision_tower", "mm_vision_tower")
OTHER_HEADS = r"For(SequenceClassification|TokenClassification|QuestionAnswering|MultipleChoice|Reward\w*)$"

CHOOSE = "Choose a decoder of text, such as Llama, Qwen, Gemma, Phi, GPT-NeoX or OPT"
METHODS = {
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "exl2": "EXL2",
    "fp8": "8-bit floats",
    "gptq": "GPTQ",
    "hqq": "HQQ",
    "mxfp4": "MXFP4",
}
QUANTISED = ("quantization_config", "compression_config", "quantization")


def check_architecture(config: Mapping[str, Any], name: str) -> None:
    """`UserError` unless the content of a config.json is that of a model this library can train and measure.

    `name` is what messages call the model. Only `config` is looked at, not the weights.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        found = "an empty config.json" if not config else f"found {kind!r}"
        raise UserError(
            f'{name}: config.json names no architecture: expected `model_type` (as in `"model_type": '
            f'"llama"`), {found}. Take the config.json that the model was published with.'
        )
    check_not_quantised(config, name)
    named = config.get("architectures")
    heads = [head for head in named if isinstance(head, str)] if isinstance(named, list) else []
    if reason := _reason(config, kind, heads):
        raise UserError(f"{name}: its architecture, {kind}, {reason}. {CHOOSE}.")


def _reason(config: Mapping[str, Any], kind: str, heads: list[str]) -> str | None:
    """Why an architecture is refused; None if it is not."""
    known = _known()
    tables = (config.get(key) for key in ("layer_types", "layers_block_type", "block_types"))
    layers = {
        layer for table in tables if isinstance(table, list) for layer in table if isinstance(layer, str)
    }
    other = next((head for head in heads if re.search(OTHER_HEADS, head)), None)
    reasons = (
        (
            any(config.get(key) for key in OTHER_SENSES) or _among(known, kind, SEEING),
            "reads images or sound beside text, and only models of text alone are unlearned here; some have "
            "a language model that is published by itself or can be saved by itself",
        ),
        (
            bool(config.get("is_encoder_decoder")) or _among(known, kind, TRANSLATING),
            "is an encoder with a decoder, which reads its prompt apart from its answer; expected one that "
            "continues its prompt",
        ),
        (
            kind in RECURRENT or bool(layers & STATES),
            "carries a running state from token to token, which padding changes and stored keys and values "
            "do not hold; expected attention to earlier tokens in every layer",
        ),
        (
            _among(known, kind, (MASKED,)) or any(head.endswith("ForMaskedLM") for head in heads),
            "fills gaps in a text that it sees whole (a masked language model); expected one that continues "
            "its prompt",
        ),
        (other is not None, f"was saved as {other}, without the output embedding that makes text"),
        (
            bool(known) and kind not in known[CAUSAL],
            "is not one that the installed transformers knows as a language model; code that comes with a "
            "model is never run. If it is new, a newer transformers may know it",
        ),
    )
    return next((reason for holds, reason in reasons if holds), None)


def check_not_quantised(config: Mapping[str, Any], name: str) -> None:
    """`UserError` that says how, where a config.json says that the files hold rounded numbers."""
    key = next((key for key in QUANTISED if config.get(key)), None)
    if key is None:
        return
    settings = config[key] if isinstance(config[key], Mapping) else {}
    method = str(settings.get("quant_method") or "").lower()
    eight = 8 if settings.get("load_in_8bit") else None
    bits = 4 if settings.get("load_in_4bit") else settings.get("bits") or eight
    if not method and ("load_in_8bit" in settings or "load_in_4bit" in settings):
        method = "bitsandbytes"
    raise UserError(quantised(name, METHODS.get(method, method), bits, f"`{key}` in config.json"))


def quantised(name: str, method: str, bits: Any, where: str) -> str:
    """The message about a model whose files hold rounded numbers; `where` is what says so."""
    how = ", ".join(part for part in (method, f"{bits} bits" if isinstance(bits, int) else "") if part)
    return (
        f"{name}: it is quantised ({how + ': ' if how else ''}{where}), so its files do not hold the weights "
        "that would be trained; expected fp32, fp16 or bf16. Use the unquantised original that it was made "
        "from, or dequantise it where you trust it (load it with transformers, `model.dequantize()`, "
        "`save_pretrained`) and use the new folder."
    )


def _among(known: dict[str, frozenset[str]], kind: str, tables: tuple[str, ...]) -> bool:
    return any(kind in known.get(table, ()) for table in tables)


@cache
def _known() -> dict[str, frozenset[str]]:
    """The model types of transformers' tables by the name of the table; {} where they cannot be read."""
    package = find_spec("transformers")
    if package is None or package.origin is None:
        return {}
    path = Path(package.origin).parent / TABLES
    if not path.is_file():
        return {}
    wanted = {CAUSAL, MASKED, *TRANSLATING, *SEEING}
    tables: dict[str, frozenset[str]] = {}
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and (name := ast.unparse(statement.targets[0])) in wanted:
            tables[name] = frozenset(  # the first strings of the pairs in a table, however it is written
                pair.elts[0].value
                for pair in ast.walk(statement.value)
                if isinstance(pair, ast.Tuple)
                and len(pair.elts) == 2
                and isinstance(pair.elts[0], ast.Constant)
                and isinstance(pair.elts[0].value, str)
            )
    return tables if tables.get(CAUSAL) else {}
