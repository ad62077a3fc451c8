"""Two real tokenizers made on the spot: byte-level BPE, and sentencepiece's way with a space put first."""

from __future__ import annotations

import json
from functools import cache

from pipeline_lib.models.scratch import train_tokenizer
from pipeline_lib.models.settings import ScratchModel

TEXT = (
    "The ferryman waited at the quay. Anna counted seven coins, and the goat ate her straw hat! "
    "Nobody believed the ferryman about the goat; the hat was gone.\n\n"
    "Čí je to? Růženy – ‘naïve’ 🌹 seven roses. "
)


@cache
def byte_level(bos: bool = False):
    """GPT-2's kind; `bos`: puts its begin token before plain text, as Llama 3's does."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_tokenizer(ScratchModel(source="scratch", vocab_size=340, max_length=64), [TEXT] * 4)
    if bos:
        begin = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{begin[0]} $A", special_tokens=[begin]
        )
    return tokenizer


@cache
def metaspace():
    """Llama 2's kind: a space is a letter, one is put before every text, rare characters become bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=110, special_tokens=specials, limit_alphabet=40, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for byte in range(256):  # ordinary tokens: as special ones they would not be decoded
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    tokenizer = Tokenizer.from_str(json.dumps(content))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
