"""Our engine as a model of lm-evaluation-harness. Import it through harness.py, which checks the package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lm_eval.api.model import TemplateLM

from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.benchmarks.encoding import (
    encode_pair,
    first_token,
    fit,
    rolling_pairs,
    text_tokens,
)
from pipeline_lib.evaluation.benchmarks.evaluate import progress_bar
from pipeline_lib.evaluation.benchmarks.generation_settings import GENERATED, Wanted, cut, wanted
from pipeline_lib.evaluation.benchmarks.likelihoods import score_pairs
from pipeline_lib.evaluation.generation import generate
from pipeline_lib.models.ends import answer_ends

FIRST_TRY = 32  # new tokens before stop strings are looked for; doubled for answers that go on


class EngineLM(TemplateLM):
    """loglikelihood, loglikelihood_rolling and greedy generate_until for one causal language model.

    `truncated` counts the requests whose context was cut from the left since the model was made.
    """

    def __init__(
        self, model, tokenizer, *, max_tokens_per_batch: int, pad_id: int, max_length: int, progress: bool
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.truncated = 0
        self._max_tokens_per_batch = max_tokens_per_batch
        self._pad_id = pad_id
        self._ends = answer_ends(tokenizer)
        self._progress = progress
        self._device = model.get_input_embeddings().weight.device

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        return first_token(self.tokenizer)

    @property
    def max_gen_toks(self) -> int:
        return GENERATED

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return text_tokens(self.tokenizer, string, add_special_tokens)

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        texts = [request.args for request in requests]
        coded = [(pair, *encode_pair(self.tokenizer, *pair)) for pair in texts]
        return self._loglikelihood_tokens(coded, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self, requests, disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = []
        names = []
        for texts, context, continuation in requests:
            names.append(f"lm-eval request {str(texts)[:100]!r}")
            pair, cut = fit((context, continuation), self.max_length, names[-1])
            self.truncated += cut
            pairs.append(pair)
        answers = []
        for (texts, _, _), score in zip(requests, self._scores(pairs, names, disable_tqdm), strict=True):
            answers.append((-score.nll, all(score.argmax_correct)))
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answers[-1])
        return answers

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        pairs = []
        owners = []
        for number, request in enumerate(requests):
            tokens = text_tokens(self.tokenizer, request.args[0])
            own = rolling_pairs(tokens, self.prefix_token_id, self.max_length)
            pairs += own
            owners += [number] * len(own)
        names = [f"lm-eval request {requests[owner].args[0][:100]!r}" for owner in owners]
        totals = [0.0] * len(requests)
        for owner, score in zip(owners, self._scores(pairs, names, disable_tqdm), strict=True):
            totals[owner] -= score.nll
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _scores(self, pairs, names, disable_tqdm):
        with progress_bar("lm-eval", len(pairs), self._progress and not disable_tqdm) as bar:
            return score_pairs(
                self.model,
                pairs,
                names,
                max_tokens_per_batch=self._max_tokens_per_batch,
                pad_id=self._pad_id,
                on_progress=bar.update,
            )

    def _text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """Greedy answers that end where lm-eval's own model ends them, alone in its batch.

        `UserError`, before anything is computed, where a request asks for what is not greedy decoding.
        """
        answers: list[str] = []
        asked = [wanted(request.args[1]) for request in requests]
        with progress_bar("lm-eval", len(requests), self._progress and not disable_tqdm) as bar:
            by_limit: dict[int, list[int]] = {}
            for number, settings in enumerate(asked):
                by_limit.setdefault(settings.limit, []).append(number)
            found: dict[int, str] = {}
            for limit, numbers in by_limit.items():
                found |= self._generate(
                    {number: requests[number].args[0] for number in numbers}, asked, limit
                )
                bar.update(len(numbers))
        for number, request in enumerate(requests):
            answers.append(found[number])
            self.cache_hook.add_partial("generate_until", request.args, found[number])
        return answers

    def _generate(self, contexts: dict[int, str], asked: Sequence[Wanted], limit: int) -> dict[int, str]:
        """Answers by number. Stop strings are looked for after 32, 64, ... new tokens."""
        room = self.max_length - limit
        if room < 1:
            raise UserError(
                f"lm-eval asks for {limit} new tokens, but the model reads {self.max_length} in all. "
                "Lower max_gen_toks of the task."
            )
        prompts = {}
        end = self.tokenizer.decode([self.eot_token_id], skip_special_tokens=False)
        for number, context in contexts.items():
            tokens = text_tokens(self.tokenizer, context)
            self.truncated += len(tokens) > room
            prompts[number] = tokens[-room:] or [self.prefix_token_id]
        tokens_of: dict[int, list[int]] = {number: [] for number in prompts}
        answers: dict[int, str] = {}
        made_so_far, step = 0, min(FIRST_TRY, limit)
        while len(answers) < len(prompts):
            running = [number for number in prompts if number not in answers]
            made = generate(
                self.model,
                [[*prompts[number], *tokens_of[number]] for number in running],
                max_new_tokens=step,
                end_id=self._ends,
                pad_id=self._pad_id,
                max_tokens_per_batch=self._max_tokens_per_batch,
            )
            for number, generation in zip(running, made, strict=True):
                tokens_of[number] += generation.tokens
                stopped, text = cut(self._text, tokens_of[number], [*asked[number].stops, end])
                if stopped or generation.ended or made_so_far + step >= limit:
                    answers[number] = text
            made_so_far += step
            step = min(made_so_far, limit - made_so_far)
        return answers
