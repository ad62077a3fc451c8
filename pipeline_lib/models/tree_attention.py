"""A decoder's pass over a tree of tokens (`models.token_tree`), for the architectures that read one exactly.

transformers' registry of attention functions is told a "sdpa" of ours: with a tree among its arguments it
lays the nodes out as texts, calls the fused attention without a mask, which is the fastest way, and brings
the results back to the nodes.

Whether an architecture takes this way is tried out, once for each model: its layers must hand the argument
on, attend to all earlier tokens and take positions as given. Dropout would hit what texts share only once, so
a model that drops reads texts apart.

Shapes: N nodes, B texts, T tokens of the longest text, H heads, D hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface

from pipeline_lib.core.system_errors import out_of_memory
from pipeline_lib.models.attention import attends_to_all, takes_positions
from pipeline_lib.models.fused_attention import fused_attention
from pipeline_lib.models.token_tree import TokenTree, build_tree

KNOWN = "_reads_trees"  # the attribute in which a model keeps the answer
RANDOM = ("drop", "jitter", "noise")  # in the name of a number above 0: something is drawn in training
NEAR = 1e-3  # of what another beginning changes, in fp32: rounding is far below, another attention far above


def tree_hidden(model: Any, tree: TokenTree, **options: Any) -> torch.Tensor:
    """Last hidden states of every node (N, D). `options`: further arguments of the decoder: a cache."""
    return model.get_decoder()(
        input_ids=tree.tokens[None],
        attention_mask=torch.zeros((1, 1, 1, 1), device=tree.tokens.device),  # masks nothing; is left alone
        position_ids=tree.depths[None],
        tree=tree,
        **{"use_cache": False, **options},
    ).last_hidden_state[0]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    tree: TokenTree | None = None,
    **options: Any,
) -> tuple[torch.Tensor, Any]:
    """(1, H, N, F) -> (1, N, H, F) where a tree is given; (B, H, T, F) -> (B, T, H, F) where none is."""
    if tree is None:
        return fused_attention(module, query, key, value, attention_mask, **options)
    if attention_mask is not None and attention_mask.numel() > 1:
        raise ValueError("the layer has a mask of its own")  # which a tree's texts would not meet
    query, key, value = (_rows(tree, heads) for heads in (query, key, value))
    found, _ = fused_attention(module, query, key, value, None, **options)  # (B, T, H, F)
    return tree.pick(found.flatten(0, 1).flatten(1)).view(1, -1, *found.shape[2:]), None


def _rows(tree: TokenTree, heads: torch.Tensor) -> torch.Tensor:
    """(1, H, N, F) -> (B, H, T, F)."""
    flat = heads[0].transpose(0, 1).flatten(1)  # (N, H * F)
    return tree.spread(flat).view(*tree.nodes.shape, -1, heads.shape[-1]).transpose(1, 2)


AttentionInterface.register("sdpa", _attention)


def reads_trees(model: Any) -> bool:
    """Whether this model gives the nodes of a tree the states that its texts have alone."""
    if not hasattr(model, "config"):  # not a model of transformers
        return False
    config = model.config.get_text_config()
    if config._attn_implementation != "sdpa" or (model.training and _drops(model)):
        return False
    if KNOWN not in model.__dict__:
        model.__dict__[KNOWN] = (
            attends_to_all(config) and takes_positions(model) and _same_states(model, config.vocab_size)
        )
    return model.__dict__[KNOWN]


def _drops(model: Any) -> bool:
    """Dropout is a module, or a number that a module hands to torch's function (Llama, OPT); a router's noise
    (Mixtral) is such a number too.
    """
    return any(
        (isinstance(module, torch.nn.Dropout) and module.p > 0)
        or any(
            any(word in name for word in RANDOM) and isinstance(value, float) and value > 0
            for name, value in vars(module).items()
        )
        for module in model.modules()
    )


@torch.no_grad()
def _same_states(model: Any, vocabulary: int) -> bool:
    """Tried on two texts with one beginning, held against the difference that another beginning makes."""
    device = model.get_input_embeddings().weight.device
    texts = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 5, 6]], device=device) % vocabulary
    other = texts.clone()
    other[:, 1] = 7 % vocabulary
    tree = build_tree(texts.tolist()).to(device)
    with torch.autocast(device.type, enabled=False):
        try:
            alone, changed = (
                model.get_decoder()(input_ids=rows, use_cache=False).last_hidden_state.float()
                for rows in (texts, other)
            )
            together = tree_hidden(model, tree).float()[tree.nodes]
        except (AttributeError, TypeError, ValueError, RuntimeError, IndexError) as error:
            if out_of_memory(error):
                raise
            return False
    effect = (alone - changed)[:, -1].abs().amax()
    near = max(NEAR, 16 * torch.finfo(model.dtype).eps)
    return bool(effect > 0) and bool((together - alone).abs().amax() <= near * effect)
