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

# Settings of transformers, each with the values that leave greedy decoding as it is; None always does.
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
# Settings of sampling or of beams, which have no effect in greedy decoding.
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
    from lm_eval.models.utils import normalize_gen_kwargs  # heavy; a plan that asks nothing does without

    given = {name: value for name, value in arguments.items() if value is not None}
    settings: dict[str, Any] = dict(normalize_gen_kwargs(given))
    if settings.pop("do_sample"):
        raise UserError(
            "lm-eval asks for sampled answers (do_sample or a temperature), which this engine does not give; "
            "set do_sample: false and temperature: 0 in the task's generation_kwargs."
        )
    limit, stops = settings.pop("max_gen_toks"), settings.pop("until")
    for name, value in settings.items():
        if name not in IDLE and value not in NEUTRAL.get(name, ()):
            allowed = f"set it to {NEUTRAL[name][0]}" if name in NEUTRAL else "take it out"
            raise UserError(
                f"lm-eval asks for {name}: {value!r}, and this engine decodes greedily, with nothing but a "
                f"limit and stop strings; {allowed} in the task's generation_kwargs."
            )
    if limit < 1:
        raise UserError(
            f"lm-eval asks for {limit} new tokens; expected at least 1 (max_gen_toks of the task)"
        )
    if not all(isinstance(stop, str) for stop in stops):
        raise UserError(f"lm-eval's `until` must be a text or a list of texts, found {given['until']!r}")
    return Wanted(limit, tuple(stops))


def cut(
    text_of: Callable[[Sequence[int]], str], tokens: Sequence[int], stops: Sequence[str]
) -> tuple[bool, str]:
    """Whether these tokens reach a stop string, and their text up to it.

    The answer ends with the token that completes the first of them; of its text each stop string in turn, in
    the order given, leaves what is before it.
    """

    from lm_eval.models.utils import postprocess_generated_text

    def reached(length: int) -> bool:
        text = text_of(tokens[:length])
        return any(stop in text for stop in stops)

    length = len(tokens)
    stopped = length > 0 and reached(length)
    if stopped:
        length = 1 + bisect_left(range(1, length), True, key=reached)
    return stopped, postprocess_generated_text(text_of(tokens[:length]), list(stops), None)
