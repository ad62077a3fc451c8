"""Log-probabilities of answer tokens, with logits only where an answer token is predicted.

Shapes: B examples, T tokens, N answer tokens of the whole batch, D hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from pipeline_lib.data.batching import IGNORED, Batch


def position_ids(attention_mask: torch.Tensor) -> torch.Tensor:
    """(B, T) positions that count real tokens only, so that padding on either side changes nothing."""
    return (attention_mask.cumsum(-1) - 1).clamp(min=0)


def context_length(model) -> int | None:
    """Positions the model has, or None where its configuration names no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def pad_token(tokenizer) -> int:
    """What fills batches up; it is masked everywhere, so the end token does as well."""
    return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def answer_logits(model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits that predict the answer tokens.

    Returns logits (N, V), the labels they predict (N,) and the row of the batch each belongs to (N,),
    in row-major order. The vocabulary projection runs on these N positions alone: prompts and
    padding cost no (T, V) product.
    """
    targets = batch.labels[:, 1:]  # (B, T-1): position t is predicted from t-1
    wanted = targets != IGNORED
    hidden = model.get_decoder()(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=position_ids(batch.attention_mask),
        use_cache=False,
    ).last_hidden_state[:, :-1]  # (B, T-1, D)
    logits = model.get_output_embeddings()(hidden[wanted])  # (N, V)
    rows = torch.arange(len(targets), device=targets.device)[:, None].expand_as(targets)[wanted]
    return logits, targets[wanted], rows


def answer_nll(model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood in nats of every answer token (N,), in fp32, and its row (N,)."""
    logits, targets, rows = answer_logits(model, batch)
    return F.cross_entropy(logits.float(), targets, reduction="none"), rows


def summed_nll(model, batch: Batch) -> torch.Tensor:
    """Summed NLL in nats of each example's answer, (B,)."""
    nll, rows = answer_nll(model, batch)
    return torch.zeros(len(batch.input_ids), dtype=nll.dtype, device=nll.device).index_add(0, rows, nll)


def check_selected_logits(model) -> None:
    """Raise `ValueError` if decoder plus output embedding is not the model's whole forward pass.

    Some architectures scale or cap their logits after the projection; for them the shortcut above
    would be silently wrong, so it is compared with the model's own logits once at load time.
    """
    device = next(model.parameters()).device
    tokens = torch.arange(4, device=device)[None] % model.config.vocab_size
    batch = Batch(tokens, torch.ones_like(tokens), tokens, torch.zeros(1, device=device).long(), 4, 1)
    with torch.no_grad():
        ours = answer_logits(model, batch)[0].float()
        whole = model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
    if not torch.allclose(ours, whole, rtol=1e-3, atol=1e-3):
        raise ValueError(
            f"{type(model).__name__} changes its logits after the output embedding "
            f"(largest difference {float((ours - whole).abs().max()):.3g}); it is not supported"
        )
