"""The rows of records.jsonl, from likelihoods and answers; no model here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline_lib.data.records import Record
from pipeline_lib.engine.forward_pass import TextLikelihood

Row = dict[str, Any]


def likelihood_row(split: str, record: Record, texts: Sequence[TextLikelihood]) -> Row:
    """A row without the model's own answer.

    `texts`: likelihoods of the answer, the paraphrase if there is one, and the distractors; NLL in nats,
    the end token counted as a token of the text.
    """
    true, *distractors = texts
    paraphrase = true if record.paraphrased_answer is None else distractors.pop(0)
    row: Row = {
        "id": record.id,
        "group": record.group,
        "split": split,
        "prompt": record.prompt,
        "answer": record.answer,
        "answer_nll": true.nll,
        "answer_tokens": true.tokens,
        "paraphrase_nll": paraphrase.nll,
        "paraphrase_tokens": paraphrase.tokens,
        "distractor_nll": [text.nll for text in distractors],
        "distractor_tokens": [text.tokens for text in distractors],
        "token_nll": true.token_nll,
        "argmax_correct": true.argmax_correct,
    }
    if true.token_mean is not None:
        row |= {"token_mean": true.token_mean, "token_std": true.token_std}
    return row


def released_fields(
    texts: Sequence[TextLikelihood],
    answer: TextLikelihood,
    whole: TextLikelihood,
    before: Sequence[float] = (),
    before_answer: Sequence[float] = (),
) -> Row:
    """Numbers after the paraphrased question, as the paper's released code takes them.

    Source: `compute_prob` and `infernece` in `src/metrics/Tofu.py` of SOUL (arXiv 2404.18239). Its texts have
    no end token, so the last token of each is left out here, except in `answer_token_nll`, where the end
    token is last as in `token_nll`. `texts`: likelihoods of the paraphrased answer and the distractors after
    the paraphrased prompt. `answer`: likelihood of the answer after the original prompt. `whole`: that of the
    original prompt and the answer as one text, from its second token on, as in the code's membership test.
    `before`, `before_answer`: NLL of the prompt's token that the code scores too (`Question.prompt_token`).
    """
    paraphrase, *distractors = ([*before, *text.token_nll[:-1]] for text in texts)
    return {
        "paraphrase_nll": math.fsum(paraphrase),
        "paraphrase_tokens": len(paraphrase),
        "distractor_nll": [math.fsum(nll) for nll in distractors],
        "distractor_tokens": [len(nll) for nll in distractors],
        "answer_token_nll": [*before_answer, *answer.token_nll],
        "text_token_nll": whole.token_nll,
    }
