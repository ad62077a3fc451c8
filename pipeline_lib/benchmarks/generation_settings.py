"""What a task of lm-evaluation-harness asks of generated answers, and where such an answer ends.

Source: lm-evaluation-harness 0.4.13, `normalize_gen_kwargs`, `postprocess_generated_text` and the stopping
criteria of its model for transformers. Trap: its answer goes on until every answer of its batch has reached a
stop string, and only then is cut; where stop strings overlap the batch decides what is left. Here each answer
ends as it does there alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_lib.core.errors import UserError

GENERATED = 256  # lm-eval's own limit of new tokens where a task names none
LIMIT_NAMES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")  # the first counts

# Settings of transformers with the values that leave greedy decoding as it is. None is one of them always.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "num_return_sequences": (1,),
    "repetition_penalty": (1.0,),
    "encoder_repetition_penalty": (1.0,),
    "diversity_penalty": (0.0,),
    "no_repeat_ngram_size": (0,),
    "encoder_no_repeat_ngram_size": (0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "penalty_alpha": (0.0,),
    "guidance_scale": (1.0,),
}
# They speak of sampling or of beams, and do nothing without.
IDLE = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "length_penalty",
    "early_stopping",
    "use_cache",
}


@dataclass(frozen=True)
class Wanted:
    """At most `limit` new tokens; `stops` in the order in which they are cut at."""

    limit: int
    stops: tuple[str, ...]


def wanted(arguments: Mapping[str, Any]) -> Wanted:
    """What `generation_kwargs` ask for; `UserError` where that is anything but greedy decoding."""
    # As in lm-eval a temperature alone means sampling, and does nothing beside `do_sample: false`.
    sampled = arguments.get("do_sample")
    if sampled is None:
        sampled = float(arguments.get("temperature") or 0) > 0
    if sampled:
        raise UserError(
            "lm-eval asks for sampled answers (do_sample or a temperature), which this engine does not give; "
            "set do_sample: false and temperature: 0 in the task's generation_kwargs."
        )
    for name, value in arguments.items():
        if name in ("until", "do_sample", *LIMIT_NAMES) or name in IDLE or value is None:
            continue
        if value not in NEUTRAL.get(name, ()):
            allowed = f"set it to {NEUTRAL[name][0]}" if name in NEUTRAL else "take it out"
            raise UserError(
                f"lm-eval asks for {name}: {value!r}, and this engine decodes greedily, with nothing but a "
                f"limit and stop strings; {allowed} in the task's generation_kwargs."
            )
    limits = [arguments[name] for name in LIMIT_NAMES if arguments.get(name) is not None]
    limit = int(limits[0]) if limits else GENERATED
    if limit < 1:
        raise UserError(
            f"lm-eval asks for {limit} new tokens; expected at least 1 (max_gen_toks of the task)"
        )
    until = arguments.get("until")
    stops = [until] if isinstance(until, str) else [] if until is None else until
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise UserError(f"lm-eval's `until` must be a text or a list of texts, found {until!r}")
    return Wanted(limit, tuple(stops))


def cut(
    text_of: Callable[[Sequence[int]], str], tokens: Sequence[int], stops: Sequence[str]
) -> tuple[bool, str]:
    """Whether these tokens reach a stop string, and their text up to it.

    The answer ends with the token that completes the first of them; of its text each stop string in turn, in
    the order given, leaves what is before it.
    """

    def reached(length: int) -> bool:
        text = text_of(tokens[:length])
        return any(stop in text for stop in stops)

    length = len(tokens)
    stopped = length > 0 and reached(length)
    if stopped:
        length = 1 + bisect_left(range(1, length), True, key=reached)
    text = text_of(tokens[:length])
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return stopped, text
