"""Tiny models of the architectures that people unlearn with: random weights, made from configurations."""

from __future__ import annotations

from typing import Any

import torch
import transformers as t

from pipeline_lib.models.attention import attention_of

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
WINDOW = 8  # shorter than the texts of the tests, so that it matters
GEMMA = {**HEADS, "sliding_window": WINDOW, "query_pre_attn_scalar": 8}
SLIDING = ["sliding_attention", "full_attention"]
BLOOM = {"hidden_size": 32, "n_layer": 2, "n_head": 4}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
FALCON = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", GROUPED),
    "mistral": ("MistralConfig", {**GROUPED, "sliding_window": WINDOW}),
    "ministral": ("MinistralConfig", {**HEADS, "sliding_window": WINDOW, "layer_types": SLIDING}),
    "qwen2": ("Qwen2Config", {**GROUPED, "tie_word_embeddings": True}),
    "qwen2 moe": ("Qwen2MoeConfig", {**GROUPED, "num_experts": 4, "moe_intermediate_size": 16}),
    "qwen3": ("Qwen3Config", {**HEADS, "tie_word_embeddings": True}),
    "gemma": ("GemmaConfig", HEADS),
    "gemma2": ("Gemma2Config", {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3TextConfig", {**GEMMA, "layer_types": SLIDING}),
    "gemma3 capped": (
        "Gemma3TextConfig",
        {**GEMMA, "layer_types": SLIDING, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "phi": ("PhiConfig", SMALL),
    "phi3": ("Phi3Config", GROUPED),
    "gpt2": ("GPT2Config", GPT),
    "gpt neo": (
        "GPTNeoConfig",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": WINDOW,
            "max_position_embeddings": 256,
        },
    ),
    "gptj": ("GPTJConfig", {**GPT, "rotary_dim": 4}),
    "codegen": ("CodeGenConfig", {**GPT, "rotary_dim": 4}),
    "bigcode": ("GPTBigCodeConfig", GPT),
    "pythia": ("GPTNeoXConfig", SMALL),
    "bloom": ("BloomConfig", BLOOM),
    "mpt": ("MptConfig", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "word_embed_proj_dim": 16,
        },
    ),
    "falcon": ("FalconConfig", {**FALCON, "alibi": False, "multi_query": True}),
    "falcon alibi": ("FalconConfig", {**FALCON, "alibi": True, "multi_query": False}),
    "mixtral": ("MixtralConfig", {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmo": ("OlmoConfig", GROUPED),
    "olmo2": ("Olmo2Config", GROUPED),
    "olmo3": ("Olmo3Config", {**GROUPED, "sliding_window": WINDOW, "layer_types": SLIDING}),
    "stablelm": ("StableLmConfig", GROUPED),
    "starcoder2": ("Starcoder2Config", {**GROUPED, "sliding_window": WINDOW}),
    "smollm3": ("SmolLM3Config", {**GROUPED, "no_rope_layers": [1, 0]}),
    "cohere": ("CohereConfig", {**GROUPED, "logit_scale": 0.25}),
    "cohere2": ("Cohere2Config", {**GROUPED, "sliding_window": WINDOW, "layer_types": SLIDING}),
    "granite": ("GraniteConfig", {**GROUPED, "logits_scaling": 3.0, "embedding_multiplier": 2.0}),
    "glm": ("GlmConfig", {**HEADS, "pad_token_id": None}),
    "gpt-oss": (
        "GptOssConfig",
        {**HEADS, "num_local_experts": 4, "sliding_window": WINDOW, "layer_types": SLIDING},
    ),
    "xglm": ("XGLMConfig", {"d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4}),
    "biogpt": ("BioGptConfig", SMALL),
}
CONTROL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def family_config(name: str, vocabulary: int, **changes: Any) -> Any:
    """The configuration of one of `FAMILIES`, with the control tokens of tests/tiny.py."""
    kind, sizes = FAMILIES[name]
    return getattr(t, kind)(**{"vocab_size": vocabulary, **CONTROL, **sizes, **changes})


def family_model(name: str, vocabulary: int, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Weights far from uniform, the same each time, with the attention that the product chooses."""
    config = family_config(name, vocabulary, **changes)
    generator = torch.Generator().manual_seed(0)
    model: Any = t.AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=attention_of(config)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.3 * drawn if parameter.dim() > 1 else parameter + 0.1 * drawn)
    model.get_input_embeddings().padding_idx = None
    return model.eval()
