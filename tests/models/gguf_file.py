"""Write a tiny GGUF file, as llama.cpp would, from a small Llama."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_gguf(path: Path, model, tokenizer, pre: str = "smollm") -> None:
    """A GGUF file of a Llama with F32 weights, in the tensor order that llama.cpp uses."""
    import gguf

    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(bpe["vocab"], key=bpe["vocab"].get))
    writer.add_token_types([3] * 5 + [1] * (len(bpe["vocab"]) - 5))  # 3 control, 1 normal
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)

    def pair_rotary(weight: np.ndarray, heads: int) -> np.ndarray:
        """llama.cpp rotates neighbouring dimensions where transformers rotates halves."""
        halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))

    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", state["model.norm.weight"].numpy())
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"].numpy()
            if theirs == "attn_q":
                weight = pair_rotary(weight, config.num_attention_heads)
            if theirs == "attn_k":
                weight = pair_rotary(weight, config.num_key_value_heads)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
