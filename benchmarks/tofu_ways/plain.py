"""The plain way: one example and one answer at a time, whole logits, `model.generate` on a batch of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from pipeline_lib.data.records import Record
from pipeline_lib.metrics.rouge import rouge_recall
from tofu_ways import NEW_TOKENS, SOUL_PROMPT, TOFU_PROMPT, TOTAL_TOKENS, extraction


def prepare(records: list[Record], definition: str) -> Callable[[Any, Any], dict[str, Any]]:
    """A function (model, tokenizer) -> values."""
    evaluate = _tofu if definition == "tofu" else _soul
    return lambda model, tokenizer: evaluate(model, tokenizer, records)


@torch.no_grad()
def _scored(model, tokenizer, prompt_format, prompt: str, text: str, end: bool) -> tuple[float, list[int]]:
    """Mean NLL of a text's tokens, and which of them are the most likely one."""
    prompt_ids = prompt_format.encode_prompt(tokenizer, prompt)
    answer = prompt_format.encode_answer(tokenizer, text)
    answer = answer if end else answer[:-1]
    logits = model(input_ids=torch.tensor([[*prompt_ids, *answer]])).logits[0]  # (T, V)
    log_p = logits.float().log_softmax(-1)[len(prompt_ids) - 1 : -1]
    tokens = torch.tensor(answer)
    return -float(log_p.gather(1, tokens[:, None]).mean()), (log_p.argmax(-1) == tokens).long().tolist()


@torch.no_grad()
def _answer(model, tokenizer, prompt_format, prompt: str, **limit: int) -> str:
    ids = torch.tensor([prompt_format.encode_prompt(tokenizer, prompt)])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        pad_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **limit,
    )
    return prompt_format.decode_answer(tokenizer, output[0, ids.shape[1] :].tolist())


def _tofu(model, tokenizer, records: list[Record]) -> dict[str, Any]:
    values: dict[str, Any] = {
        name: [] for name in ("probability", "truth ratio", "ROUGE-L", "extraction", "answers")
    }
    for record in records:

        def nll(text: str, record: Record = record) -> float:
            return _scored(model, tokenizer, TOFU_PROMPT, record.prompt, text, end=True)[0]

        own, hits = _scored(model, tokenizer, TOFU_PROMPT, record.prompt, record.answer, end=True)
        values["probability"].append(math.exp(-own))
        values["extraction"].append(extraction(hits[:-1]))
        paraphrase = nll(record.paraphrased_answer or record.answer)
        wrong = [nll(text) for text in record.distractors]
        values["truth ratio"].append(math.exp(paraphrase - math.fsum(wrong) / len(wrong)))
        answer = _answer(model, tokenizer, TOFU_PROMPT, record.prompt, max_new_tokens=NEW_TOKENS)
        values["answers"].append(answer)
        values["ROUGE-L"].append(rouge_recall(answer, record.answer))
    return values


def _soul(model, tokenizer, records: list[Record]) -> dict[str, Any]:
    probabilities, ratios, rouge, answers = [], [], [], []
    for record in records:

        def p(prompt: str, text: str) -> float:
            return math.exp(-_scored(model, tokenizer, SOUL_PROMPT, prompt, text, end=False)[0])

        anew = record.paraphrased_prompt or record.prompt
        wrong = [p(anew, text) for text in record.distractors]
        ratios.append(math.fsum(wrong) / len(wrong) / p(anew, record.paraphrased_answer or record.answer))
        probabilities.append(p(record.prompt, record.answer))
        for prompt in (record.prompt, anew):
            answers.append(_answer(model, tokenizer, SOUL_PROMPT, prompt, max_length=TOTAL_TOKENS))
        rouge.append(rouge_recall(f"Answer: {answers[-2]}", record.answer))
    n = len(records)
    return {
        "mean probability": [math.fsum(probabilities) / n],
        "truth ratio": ratios,
        "mean ROUGE-L": [math.fsum(rouge) / n],
        "answers": [*answers[0::2], *answers[1::2]],
    }
