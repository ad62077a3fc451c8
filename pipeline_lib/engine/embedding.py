"""Sentence embeddings: the mean over a text's tokens of the encoder's last layer, at length 1.

Formula: e = m / |m|, m = (1 / T) sum over the text's T tokens (control tokens included, padding left out) of
the last hidden state. The cosine of two texts is then their dot product, from -1 to 1; higher is more alike.
Source: Reimers and Gurevych 2019 (Sentence-BERT, arXiv 1908.10084), section 3, pooling MEAN, with which
models of sentence-transformers such as all-MiniLM-L6-v2 were trained.
Traps: the cosine says how alike two texts are in topic and wording; a wrong name in the same sentence, or a
"not", changes it little. Texts beyond the model's limit (all-MiniLM-L6-v2: 256 tokens) are judged by their
beginning; `truncated` counts them. Models trained with another pooling are refused.

Shapes: N texts, B texts of a batch, T tokens, D width of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_object
from pipeline_lib.models.encoder import Encoder, load_encoder
from pipeline_lib.models.encoder_settings import EncoderSettings

STEPS = {"Transformer", "Pooling", "Normalize"}  # of a sentence-transformers model, as its modules.json says


class Embedder:
    """Texts -> (N, D) unit vectors in fp32. `truncated` counts the texts that were cut, over all calls."""

    def __init__(self, encoder: Encoder) -> None:
        self.name = encoder.name
        self.truncated = 0
        self._encoder = encoder

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        tokens, cut = self._encoder.tokenize(texts)
        self.truncated += sum(cut)
        if not tokens:
            return np.zeros((0, self._encoder.model.config.hidden_size), dtype=np.float32)
        vectors = torch.stack(self._encoder.run(tokens, self._pool)).numpy()  # (N, D)
        if not np.isfinite(vectors).all():
            raise UserError(
                f"{self.name}: an embedding is not finite; its weights are broken, fetch them again"
            )
        return vectors

    def _pool(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self._encoder.model(input_ids=input_ids, attention_mask=mask).last_hidden_state  # (B, T, D)
        weight = mask[:, :, None].to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)  # (B, D)


def load_embedder(settings: EncoderSettings, device: torch.device | str) -> Embedder:
    """The embedder of these settings, on `device`."""
    # "pooler.": BERT's head; not the mean
    return Embedder(_as_trained(load_encoder(settings, "AutoModel", device, unused=("pooler.",))))


def _as_trained(encoder: Encoder) -> Encoder:
    """The encoder with the limit that sentence-transformers gives it; an error where it pools otherwise."""
    steps = encoder.folder / "modules.json"
    if steps.is_file():
        kinds = [str(step.get("type", "")).rpartition(".")[2] for step in _steps(steps)]
        if other := sorted(set(kinds) - STEPS):
            raise UserError(
                f"{encoder.name}: sends its vectors through {other[0]}, which is not supported; take "
                "one of transformer and mean pooling alone, such as sentence-transformers/all-MiniLM-L6-v2"
            )
    _check_pooling(encoder.name, encoder.folder / "1_Pooling" / "config.json")
    settings = encoder.folder / "sentence_bert_config.json"
    limit = read_object(settings).get("max_seq_length") if settings.is_file() else None
    return replace(encoder, limit=min(encoder.limit, limit or encoder.limit))


def _steps(path: Path) -> list[dict[str, Any]]:
    steps = read_json(path)
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise UserError(f"{path}: expected a list of blocks, one a step. Download the model again.")
    return steps


def _check_pooling(name: str, path: Path) -> None:
    """Refuse another pooling. Only folders have the file: a download takes the top level alone."""
    if not path.is_file():
        return
    settings = read_object(path)
    chosen = settings.get("pooling_mode") or [
        key.removeprefix("pooling_mode_")
        for key, value in settings.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    if chosen not in ("mean", ["mean"], ["mean_tokens"]):
        raise UserError(
            f"{name}: was trained with pooling {chosen}; expected the mean over tokens. Choose another "
            "model, such as sentence-transformers/all-MiniLM-L6-v2."
        )
