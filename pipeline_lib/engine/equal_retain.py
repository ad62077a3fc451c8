"""Forgetting at equal retention: all unlearned models are judged at the same loss of retention.

A method that forgets more because it breaks more cannot be compared with a gentle one. So each unlearned
model is moved along its own direction until it has lost as much as the bound allows, and no more:

    theta(a) = theta_original + a (theta_unlearned - theta_original),    0 <= a <= 2

with the largest a whose mean probability of the retain answers is at least (1 - bound) of the original's; the
forget questions are then judged at theta(a). Source: the calibration by model mixing of "Unlearning with
Control" (Wang et al. 2025, ICLR, arXiv 2406.09179), which measures retention by extraction strength; here it
is TOFU's probability exp(-NLL per token), which changes smoothly with a. There a is at most 1. Here a gentle
model is carried further, a > 1, because otherwise it would be compared at a smaller loss than the others;
what it forgets there is extrapolated, not trained.

a = 1 is tried first, then a = 2 if 1 keeps the bound; in between, a is bisected to 1 / 128. The reported a
was scored and keeps the bound, and the a one step above was scored and breaks it. Where even a = 2 keeps the
bound, that is reported, and retention is not equal. Retention usually falls steadily with a; where it does
not, a larger a may keep the bound as well, since bisection finds one crossing and not the last one.

Models are mixed in fp32 and in place: the unlearned model is loaded anew for every a, so that only two models
are in memory and theta(a) does not depend on which a were tried before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record
from pipeline_lib.engine.likelihoods import LikelihoodReader, answers_only
from pipeline_lib.engine.rows import Row
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.probability import probability

if TYPE_CHECKING:
    from pipeline_lib.models.prompt import PromptFormat

STEP = 1 / 128  # resolution of a
FARTHEST = 2.0  # largest a
RETAIN_KEYS = ("id", "group", "split", "answer_nll", "answer_tokens")
RETAIN_SPLITS = ("retain_eval", "retain")  # the part of the retain set that is judged comes first


def retain_split(evaluated: Sequence[str]) -> str:
    """The retain split among the splits that a task evaluates."""
    if found := next((name for name in RETAIN_SPLITS if name in evaluated), None):
        return found
    raise UserError(
        f"equal_retain needs a retain split, but the task evaluates {', '.join(evaluated)} only. Take "
        "`equal_retain` out of the suite."
    )


def rows_at_equal_retain(
    load_unlearned: Callable[[], Any],
    original,
    tokenizer,
    prompt_format: PromptFormat,
    splits: dict[str, list[Record]],
    settings: ScoringSettings,
    bound: float,
) -> dict[str, Any]:
    """The content of equal_retain.json for one unlearned model.

    `load_unlearned` loads the unlearned model anew, in fp32 on its device; `original` (fp32, same device) is
    not changed. `splits` and `settings` are those of `evaluate_model`, so that the same records are judged.
    `bound`: share of the original's mean retain probability that may be lost, between 0 and 1.

    Keys: `bound`; `mix`, the length a; `tried`, (a, mean retain probability) in the order of the trials,
    which begins with the original, a = 0; `retain`, the retain rows at a; `forget`, the forget rows at a, as
    in records.jsonl but without generated answers.
    """
    name = retain_split(list(splits))
    # The true answers alone decide about a: the other texts would cost five times the tokens.
    retain = answers_only(settings.records_of(name, splits[name]))
    retain_reader = LikelihoodReader(tokenizer, prompt_format, name, retain, settings)
    forget = settings.records_of(FORGET_SPLIT, splits[FORGET_SPLIT])
    forget_reader = LikelihoodReader(tokenizer, prompt_format, FORGET_SPLIT, forget, settings)

    def retained(model, share: float) -> float:
        rows = retain_reader.rows(model.eval())
        mean = sum(probability(row["answer_nll"], row["answer_tokens"]) for row in rows) / len(rows)
        kept[share] = [{key: row[key] for key in RETAIN_KEYS} for row in rows]
        tried.append((share, mean))
        print(f"equal retain: a = {share:g}, retain probability {mean:.4f}", file=sys.stderr, flush=True)
        return mean

    kept: dict[float, list[Row]] = {}
    tried: list[tuple[float, float]] = []
    lowest = (1 - bound) * retained(original, 0.0)
    low, high = 0.0, 1.0  # `low` keeps the bound; `high` breaks it, once it has been tried
    if retained(load_unlearned(), 1.0) >= lowest:
        low, high = 1.0, FARTHEST
        if retained(mixed(load_unlearned(), original, FARTHEST), FARTHEST) >= lowest:
            low = FARTHEST
    while high - low > STEP:
        middle = (low + high) / 2
        if retained(mixed(load_unlearned(), original, middle), middle) >= lowest:
            low = middle
        else:
            high = middle
    return {
        "bound": bound,
        "mix": low,
        "tried": tried,
        "retain": kept[low],
        "forget": forget_reader.rows(mixed(load_unlearned(), original, low).eval()),
    }


@torch.no_grad()
def mixed(unlearned, original, share: float):
    """`unlearned`, changed in place to original + share (unlearned - original); `original` stays.

    A share of 0 gives the original's weights and 1 the unlearned model's, bit for bit.
    """
    ours, theirs = dict(unlearned.named_parameters()), dict(original.named_parameters())
    if {name: p.shape for name, p in ours.items()} != {name: p.shape for name, p in theirs.items()}:
        raise UserError(
            "the unlearned model and the one before unlearning have different weights, so they cannot be "
            "mixed: they are of two studies. Give the same snakemake command with `--forcerun unlearn`."
        )
    for name, parameter in ours.items():
        if parameter.dtype != torch.float32 or theirs[name].dtype != torch.float32:
            raise ValueError(f"weights are mixed in fp32, found {parameter.dtype} and {theirs[name].dtype}")
        parameter.copy_(torch.lerp(theirs[name], parameter, share))
    return unlearned
