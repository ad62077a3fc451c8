"""Tiny random encoders in folders, as the hub has them: BERT with a tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "the",
    "a",
    "river",
    "bank",
    "dog",
    "cat",
    "runs",
    "under",
    "over",
    "bad",
    "good",
)
POSITIONS = 16
TEXTS = ["the dog runs", "a cat", "the bad river runs under the good bank over a dog", "good"]


def tokenizer(limit: int = POSITIONS) -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=limit, **special)


def save_bert(folder: Path, kind: Any = BertModel, **config: Any) -> Any:
    """A BERT whose outputs are far from alike, saved into `folder`; returns the model."""
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": POSITIONS,
    }
    model = kind(BertConfig(**{**sizes, **config}, pad_token_id=0)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.dim() == 2:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model


def save_classifier(folder: Path, labels: list[str], **config: Any) -> Any:
    names = dict(enumerate(labels))
    return save_bert(folder, BertForSequenceClassification, id2label=names, label2id={}, **config)


def logits_alone(model: Any, text: str) -> torch.Tensor:
    """Logits of one text by itself, cut at the model's positions."""
    ids = tokenizer()(text, truncation=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids).logits[0]
