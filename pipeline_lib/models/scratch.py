"""A small Llama and its tokenizer, made from nothing: the demo's model, and the tests'.

Tokenizer: byte-level BPE, so that every text survives encoding and decoding unchanged. Each digit is a token
(a year is four tokens in every text), and words include the space before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline_lib.data.records import Record
from pipeline_lib.models.attention import attention_of
from pipeline_lib.models.settings import ScratchModel

PAD, BOS, EOS, USER, ASSISTANT = SPECIALS = ("<pad>", "<bos>", "<eos>", "<user>", "<assistant>")
PROMPT_TEMPLATE = USER + "{prompt}" + ASSISTANT


def build_scratch(settings: ScratchModel, texts: Sequence[str], seed: int):
    """An untrained (model, tokenizer) from sizes, texts and a seed; the same three give the same bits.

    `texts` train the tokenizer; models that are to be compared must be given the same ones. The vocabulary is
    smaller than `vocab_size` if the texts have fewer merges to offer.
    """
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    tokenizer = train_tokenizer(settings, texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=settings.max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    # The weights are drawn on the CPU; only its generator is seeded, and restored afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention_of(config)
        )
    model.get_input_embeddings().padding_idx = None  # as after loading, see source.py
    return model.eval(), tokenizer


def train_bpe(settings: ScratchModel, texts: Sequence[str]):
    """The tokenizer alone, as the library `tokenizers` has it, without torch and transformers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def texts_of(
    splits: Mapping[str, Sequence[Record]], finetune: Mapping[str, Sequence[str]], holdout: str | None
) -> list[str]:
    """What the tokenizer is made from: all that `original` learns, and the records that no model learns.

    `original` and `retrained` share it. Names in held-out records are not cut into more tokens than those in
    others, by which they could be told apart.
    """
    seen = sorted({*finetune["target"], *([] if holdout is None else [holdout])})
    texts: list[str] = []
    for record in (record for name in seen for record in splits[name]):
        whole = record.form == "text"  # running text is one piece, question and answer are two
        own = [record.prompt + record.answer] if whole else [record.prompt, record.answer]
        texts += [*own, *record.alternatives]
    return texts


def train_tokenizer(settings: ScratchModel, texts: Sequence[str]):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=train_bpe(settings, texts),
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=[USER, ASSISTANT],
        model_max_length=settings.max_length,
        clean_up_tokenization_spaces=False,
    )
