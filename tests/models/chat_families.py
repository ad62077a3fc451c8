"""Chat formats of published families, in our own words, each with a small tokenizer that has its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

TEXTS = [
    "Who wrote The Salt Road? The Salt Road was written by Mara Okonjo, born in 1956.",
    "user assistant system model question answer Today think Cutting Knowledge Date",
] * 4
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """`end`: the token that closes an assistant's turn, which a model learns."""

    template: str
    eos: str
    end: str
    extra: tuple[str, ...] = ()
    bos: str | None = None
    begins: bool = False  # whether the tokenizer itself puts `bos` before a text
    system: bool = True  # whether the template takes a system message
    unmarked: tuple[str, ...] = ()  # added tokens that are not marked as special


def turns(turn: str, ask: str, head: str = "") -> str:
    """A template of `head`, each message as `turn`, and `ask` where the assistant is to go on."""
    asked = f"{{% if add_generation_prompt %}}{ask}{{% endif %}}"
    return f"{head}{{% for m in messages %}}{turn}{{% endfor %}}{asked}"


CHATML = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
FAMILIES = {
    "llama2": Family(
        turns(
            "{% if m['role'] == 'system' %}<<SYS>>\n{{ m['content'] }}\n<</SYS>>\n\n"
            "{% elif m['role'] == 'user' %}[INST] {{ m['content'].strip() }} [/INST]"
            "{% else %} {{ m['content'].strip() }} {{ eos_token }}{% endif %}",
            "",
            "{{ bos_token }}",
        ),
        eos="</s>",
        end="</s>",
        bos="<s>",
        begins=True,
    ),
    "mistral": Family(
        ALTERNATE
        + turns(
            "{% if m['role'] == 'user' %}[INST] {{ m['content'] }}[/INST]"
            "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% endif %}",
            "",
            "{{ bos_token }}",
        ),
        eos="</s>",
        end="</s>",
        extra=("[INST]", "[/INST]"),
        bos="<s>",
        begins=True,
        system=False,
    ),
    "llama3": Family(
        turns(
            "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
            "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
            "Today Date: {{ date_string }}<|eot_id|>",
        ),
        eos="<|end_of_text|>",
        end="<|eot_id|>",
        extra=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
        begins=True,
    ),
    "gemma": Family(
        "{{ bos_token }}"
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + turns(
            "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
            "{{ m['content'] | trim }}<end_of_turn>\n",
            "<start_of_turn>model\n",
        ),
        eos="<eos>",
        end="<end_of_turn>",
        extra=("<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        begins=True,
        system=False,
        unmarked=("\n\n",),
    ),
    "phi3": Family(
        turns("<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n", "<|assistant|>\n")
        + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
        eos="<|endoftext|>",
        end="<|end|>",
        extra=("<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
    ),
    "chatml": Family(  # a base model's eos, and turns that end otherwise
        turns(CHATML, "<|im_start|>assistant\n"),
        eos="<|endoftext|>",
        end="<|im_end|>",
        extra=("<|im_start|>", "<|im_end|>"),
    ),
    "chatml with unmarked tokens": Family(
        turns(CHATML, "<|im_start|>assistant\n"),
        eos="<|endoftext|>",
        end="<|im_end|>",
        unmarked=("<|im_start|>", "<|im_end|>"),
    ),
    "qwen": Family(
        turns(CHATML, "<|im_start|>assistant\n"),
        eos="<|im_end|>",
        end="<|im_end|>",
        extra=("<|im_start|>",),
    ),
    "qwen3": Family(  # an empty thought before the last answer
        turns(
            "<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}"
            "<think>\n\n</think>\n\n{% endif %}"
            "{{ m['content'].split('</think>')[-1].lstrip('\n') }}<|im_end|>\n",
            "<|im_start|>assistant\n",
        ),
        eos="<|endoftext|>",
        end="<|im_end|>",
        extra=("<|im_start|>", "<|im_end|>"),
        unmarked=("<think>", "</think>"),
    ),
    "smollm3": Family(  # an empty thought in the question's prompt, and the day
        turns(
            CHATML,
            "<|im_start|>assistant\n<think>\n\n</think>\n",
            "<|im_start|>system\nToday: {{ strftime_now('%d %B %Y') }}<|im_end|>\n",
        ),
        eos="<|endoftext|>",
        end="<|im_end|>",
        extra=("<|im_start|>", "<|im_end|>"),
        unmarked=("<think>", "</think>"),
    ),
    "zephyr": Family(  # no begin token in the template, though the tokenizer puts one before every text
        turns("<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n", "<|assistant|>\n"),
        eos="</s>",
        end="</s>",
        bos="<s>",
        begins=True,
    ),
    "closes when another turn follows": Family(
        turns(
            "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}{% if not loop.last or m['role'] == 'user' %}"
            "<|im_end|>\n{% endif %}",
            "<|im_start|>assistant\n",
        ),
        eos="<|endoftext|>",
        end="<|im_end|>",
        extra=("<|im_start|>", "<|im_end|>"),
    ),
    "next question's header is no end": Family(
        turns("<|{{ m['role'] }}|>\n{{ m['content'] }}", "<|assistant|>\n"),
        eos="<|endoftext|>",
        end="<|endoftext|>",
        extra=("<|user|>", "<|assistant|>", "<|system|>"),
    ),
    "text alone": Family(
        turns("### {{ m['role'] }}:\n{{ m['content'] }}\n\n", "### assistant:\n"),
        eos="<|endoftext|>",
        end="<|endoftext|>",
    ),
    "refuses answers": Family(
        turns("{% if m['role'] == 'assistant' %}{{ 1 // 0 }}{% endif %}<q>{{ m['content'] }}</q>", "<a>"),
        eos="</s>",
        end="</s>",
        extra=("<q>", "</q>", "<a>"),
    ),
    "leaves answers out": Family(
        turns("{% if m['role'] != 'assistant' %}<q>{{ m['content'] }}</q>{% endif %}", "<a>"),
        eos="</s>",
        end="</s>",
        extra=("<q>", "</q>", "<a>"),
    ),
    "always asks": Family(
        "{% for m in messages %}<q>{{ m['content'] }}</q>{% endfor %}<a>",
        eos="</s>",
        end="</q>",
        extra=("<q>", "</q>", "<a>"),
    ),
}


@cache
def _trained(family: Family) -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(token for token in (family.bos, family.eos, *family.extra) if token))
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.unmarked])
    if family.begins:
        begin = (family.bos, tokenizer.token_to_id(family.bos))
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[begin]
        )
    return tokenizer.to_str()


def tokenizer_of(family: Family, **changes: Any):
    """A fresh one; `changes` go to transformers."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    settings = {"bos_token": family.bos, "eos_token": family.eos, "chat_template": family.template, **changes}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained(family)),
        extra_special_tokens=[token for token in family.extra if token != family.eos],
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        **settings,
    )


def model_for(tokenizer, seed: int = 0):
    """An untrained Llama for it, its weights widened, so that what it says is far from uniform."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.mul_(5 if parameter.ndim == 2 else 1)
    return model
