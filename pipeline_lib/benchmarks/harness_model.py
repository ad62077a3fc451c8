"""Our engine as a model of lm-evaluation-harness: what its `simple_evaluate` takes as `model`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain, islice

from lm_eval.api.model import LM

from pipeline_lib.benchmarks.encoding import (
    Pair,
    encode_pair,
    first_token,
    fit,
    longest_input,
    rolling_pairs,
    text_tokens,
)
from pipeline_lib.benchmarks.generation_settings import Wanted, cut, wanted
from pipeline_lib.benchmarks.likelihoods import score_pairs
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.meter import Meter
from pipeline_lib.engine.forward_pass import TextLikelihood
from pipeline_lib.engine.generation import generate
from pipeline_lib.engine.settings import Decoding
from pipeline_lib.models.ends import answer_ends
from pipeline_lib.models.forward import pad_token

FIRST_TRY = 32  # new tokens before stop strings are looked for; doubled for answers that go on


class EngineLM(LM):
    """loglikelihood, loglikelihood_rolling and greedy generate_until for one causal language model.

    `max_length`: tokens read at once; None: what the model can. `cut`: the texts of requests whose context
    was cut from the left since this was made.
    """

    def __init__(
        self,
        model,
        tokenizer,
        *,
        max_tokens_per_batch: int,
        max_length: int | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_length = longest_input(model, tokenizer) if max_length is None else max_length
        self.cut: set[tuple[str, ...]] = set()
        self._max_tokens_per_batch = max_tokens_per_batch
        self._pad_id = pad_token(tokenizer)
        self._ends = answer_ends(tokenizer)
        self._progress = progress

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        fitted = [
            fit(encode_pair(self.tokenizer, *request.args), self.max_length, _named(request))
            for request in requests
        ]
        self.cut |= {request.args for request, (_, cut) in zip(requests, fitted, strict=True) if cut}
        scores = self._scores([pair for pair, _ in fitted], requests, disable_tqdm)
        return [(-score.nll, all(score.argmax_correct)) for score in scores]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        first = first_token(self.tokenizer)
        windows = [rolling_pairs(self.tokens(one.args[0]), first, self.max_length) for one in requests]
        owners = [one for one, own in zip(requests, windows, strict=True) for _ in own]
        scores = iter(self._scores(list(chain(*windows)), owners, disable_tqdm))
        return [-sum(score.nll for score in islice(scores, len(own))) for own in windows]

    def _scores(self, pairs: Sequence[Pair], requests, disable_tqdm: bool) -> list[TextLikelihood]:
        """The score of each pair; `requests` say in errors which it is."""
        with self._meter(requests, disable_tqdm) as meter:
            return score_pairs(
                self.model,
                pairs,
                [_named(request) for request in requests],
                max_tokens_per_batch=self._max_tokens_per_batch,
                pad_id=self._pad_id,
                on_progress=meter.update,
            )

    def _meter(self, requests, disable_tqdm: bool) -> Meter:
        name = requests[0].task_name if requests else ""
        return Meter(len(requests), "text", name, show=self._progress and not disable_tqdm)

    def tokens(self, text: str) -> list[int]:
        """The tokens of running text, as they are counted."""
        return text_tokens(self.tokenizer, text)

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Greedy answers that end where lm-eval's own model ends them, alone in its batch.

        `UserError`, before anything is computed, where a request asks for what is not greedy decoding.
        """
        asked = [wanted(request.args[1]) for request in requests]
        with self._meter(requests, disable_tqdm) as meter:
            found: dict[int, str] = {}
            for limit in dict.fromkeys(settings.limit for settings in asked):
                contexts = {i: requests[i].args[0] for i, own in enumerate(asked) if own.limit == limit}
                found |= self._generate(contexts, asked, limit)
                meter.update(len(contexts))
        return [found[number] for number in range(len(requests))]

    def _generate(self, contexts: dict[int, str], asked: Sequence[Wanted], limit: int) -> dict[int, str]:
        """Answers by number. Stop strings are looked for after 32, 64, ... new tokens."""
        if (room := self.max_length - limit) < 1:
            raise UserError(
                f"lm-eval asks for {limit} new tokens, but the model reads {self.max_length} in all. "
                "Lower max_gen_toks of the task."
            )
        prompts = {}
        end = self.tokenizer.decode([self.tokenizer.eos_token_id], skip_special_tokens=False)
        text_of = partial(self.tokenizer.decode, skip_special_tokens=True)
        for number, context in contexts.items():
            tokens = text_tokens(self.tokenizer, context)
            self.cut |= {(context,)} if len(tokens) > room else set()
            prompts[number] = tokens[-room:] or [first_token(self.tokenizer)]
        tokens_of: dict[int, list[int]] = {number: [] for number in prompts}
        answers: dict[int, str] = {}
        made_so_far, step = 0, min(FIRST_TRY, limit)
        while len(answers) < len(prompts):
            running = [number for number in prompts if number not in answers]
            made = generate(
                self.model,
                [[*prompts[number], *tokens_of[number]] for number in running],
                Decoding(self._ends, self._pad_id, self._max_tokens_per_batch),
                max_new_tokens=step,
            )
            for number, generation in zip(running, made, strict=True):
                tokens_of[number] += generation.tokens
                stopped, text = cut(text_of, tokens_of[number], [*asked[number].stops, end])
                if stopped or generation.ended or made_so_far + step >= limit:
                    answers[number] = text
            made_so_far += step
            step = min(made_so_far, limit - made_so_far)
        return answers


def _named(request) -> str:
    return f"benchmark {request.task_name}, the text that ends in {request.args[0][-100:]!r}"
