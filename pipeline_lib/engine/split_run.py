"""Everything that the model is asked for one split; evaluate.py calls it.

Nothing is computed twice: one forward pass gives likelihoods, most likely tokens and the spread of the
next-token distribution, and greedy answers begin with it (asking.py).

Records of running text: the greedy continuation is as long as the true one, or `max_new_tokens` if that is
shorter, unless it ends before. It is compared with the true continuation cut to as many tokens (`reference`
in the row), so that its length is never judged. `as_released` asks nothing more of them: it adds paraphrases,
wrong answers and whole questions, which running text does not have.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.engine.asking import Asked, Asking
from pipeline_lib.engine.forward_pass import TextLikelihood
from pipeline_lib.engine.generation import sample, seed_of
from pipeline_lib.engine.gradients import gradient_norms
from pipeline_lib.engine.likelihoods import encode_texts, record_texts, tokens_read
from pipeline_lib.engine.progress import Progress, Work
from pipeline_lib.engine.questions import ADVERSARIAL_TOKENS, AS_RELEASED_TOKENS, Question
from pipeline_lib.engine.rows import Row, likelihood_row, released_fields
from pipeline_lib.engine.settings import Decoding, EvaluationSettings
from pipeline_lib.engine.wanted import Generation
from pipeline_lib.models.ends import answer_ends
from pipeline_lib.models.forward import context_length, pad_token

if TYPE_CHECKING:
    import numpy as np

    from pipeline_lib.models.prompt import PromptFormat

    Embedder = Callable[[Sequence[str]], np.ndarray]


class SplitRun:
    """Everything that the model is asked for one split."""

    def __init__(
        self,
        model,
        tokenizer,
        prompt_format: PromptFormat,
        split: str,
        records: list[Record],
        settings: EvaluationSettings,
        embedder: Embedder | None,
        adversarial: PromptFormat | None = None,
    ):
        self.model, self.tokenizer, self.prompt_format = model, tokenizer, prompt_format
        self.ends = answer_ends(tokenizer, prompt_format)
        self.decoding = Decoding(
            self.ends, pad_token(tokenizer), settings.max_tokens_per_batch, settings.compute
        )
        self.split, self.settings, self.embedder = split, settings, embedder
        self.adversarial = adversarial if settings.as_released and settings.generates(split) else None
        if len({record.form for record in records}) > 1:
            raise UserError(
                f"split {split!r}: its records are questions and running text, which have different metrics. "
                "Make two splits of them, or evaluate a split with one of the two."
            )
        self.samples = settings.samples_of(split)
        self.questions = self._asked_adversarially([self._question(record) for record in records])
        if settings.generates(split) or self.samples:
            for question in self.questions:
                for texts in question.groups:
                    self._check_room(question, texts[0].prompt_length)

    def _question(self, record: Record) -> Question:
        texts = self._encoded(record, record_texts(record), self.prompt_format)
        if not self.settings.as_released or record.form == "text":
            return Question(record, texts)
        question = Question(record, texts, Example(texts[0].tokens[:-1], 1, 0))
        if record.paraphrased_prompt in (None, record.prompt):
            return question
        paraphrased = replace(record, prompt=record.paraphrased_prompt)
        asked = self._encoded(paraphrased, [question.paraphrase, *record.distractors], self.prompt_format)
        return replace(question, released=[*asked, Example(asked[0].tokens[:-1], 1, 0)])

    def _encoded(self, asked: Record, texts: Sequence[str], prompt_format: PromptFormat) -> list[Example]:
        return encode_texts(self.tokenizer, prompt_format, self.split, asked, texts, self.settings.max_length)

    def _asked_adversarially(self, questions: list[Question]) -> list[Question]:
        """The questions with the paper's adversarial prompt if all of them fit; else the log says why not."""
        if self.adversarial is None or any(question.whole is None for question in questions):
            return questions
        try:
            told = []
            for question in questions:
                (example,) = self._encoded(question.record, [question.record.answer], self.adversarial)
                self._check_room(question, example.prompt_length)
                told.append(replace(question, adversarial=example))
            return told
        except UserError as error:
            self.adversarial = None
            print(f"not measured, the adversarial questions of the paper's code: {error}", file=sys.stderr)
            return questions

    def _limit(self, question: Question) -> int:
        """The most tokens that its greedy answer may have."""
        limit = self.settings.new_tokens_of(self.split)
        return min(limit, len(question.answer)) if question.record.form == "text" else limit

    def _check_room(self, question: Question, prompt_length: int) -> None:
        record, context = question.record, context_length(self.model)
        limit = self.settings.new_tokens_of(self.split) if self.samples else self._limit(question)
        if context is not None and prompt_length + limit > context:
            raise UserError(
                f"split {self.split!r}, record {record.id!r}: a prompt of {prompt_length} tokens and "
                f"max_new_tokens {limit} do not fit the model's context of {context} tokens. Lower "
                f"max_new_tokens to {context - prompt_length} or less for this split."
            )

    def work(self) -> Work:
        """How much there is to do, counted before any of it is done."""
        items, tokens = {"scoring": 0}, {"scoring": 0}
        for question in self.questions:
            items["scoring"] += len(question.groups)
            tokens["scoring"] += sum(map(tokens_read, question.groups))
        if self.settings.generates(self.split):
            items["answering"] = items["scoring"]
            tokens["answering"] = sum(self._limit(q) * len(q.groups) for q in self.questions)
        if self.samples:
            items["sampling"] = len(self.questions) * self.samples.n
            tokens["sampling"] = items["sampling"] * self.settings.new_tokens_of(self.split)
        if self.split in self.settings.grad_norm_splits:
            items["gradients"] = len(self.questions)
            tokens["gradients"] = sum(len(question.texts[0].tokens) for question in self.questions)
        return Work(items, tokens)

    def rows(self, bar: Progress) -> list[Row]:
        likelihoods, answers = self._ask(bar)
        rows = []
        for question, groups in zip(self.questions, likelihoods, strict=True):
            record, texts = question.record, groups[0][: len(question.texts)]
            row = likelihood_row(self.split, record, texts)
            row["round_trips"] = self._decode(question, question.answer) == record.answer
            if question.whole is not None:
                whole = groups[0][-1]
                # where the prompt is the same: all texts, without the answer if there is a paraphrase of it
                same = (*texts[record.paraphrased_answer is not None :], whole)
                *released, asked = groups[1] if question.released else same
                begin = self.tokenizer.bos_token_id
                row["as_released"] = released_fields(
                    released,
                    texts[0],
                    whole,
                    question.prompt_token(asked.token_nll, begin, released=True),
                    question.prompt_token(whole.token_nll, begin, released=False),
                )
            rows.append(row)
        if self.settings.generates(self.split):
            self._add_answers(rows, answers)
        if self.samples:
            self._sample(rows, bar)
        if self.split in self.settings.grad_norm_splits:
            bar.begin("gradients", self.split)
            examples = [question.texts[0] for question in self.questions]
            norms = gradient_norms(self.model, examples, self.decoding.pad_id, bar.did)
            for row, norm in zip(rows, norms, strict=True):
                row["grad_norm"] = norm
        return rows

    def _ask(self, bar: Progress) -> tuple[list[list[list[TextLikelihood]]], list[list[Generation]]]:
        """Likelihoods of each question's groups, and a greedy answer after each group's prompt."""
        generates = self.settings.generates(self.split)
        asked = [
            Asked(question.record.id, texts, self._limit(question) if generates else 0)
            for question in self.questions
            for texts in question.groups
        ]
        described = self.split in self.settings.distribution_splits
        asking = Asking(self.model, self.split, asked, self.decoding, described, bar)
        asking.run()
        following = iter(range(len(asked)))
        numbers = [[next(following) for _ in question.groups] for question in self.questions]
        return (
            [[asking.likelihoods[i] for i in own] for own in numbers],
            [[asking.answers[i] for i in own if i in asking.answers] for own in numbers],
        )

    def _add_answers(self, rows: list[Row], found: list[list[Generation]]) -> None:
        for question, answers, row in zip(self.questions, found, rows, strict=True):
            row["generation"] = self._decode(question, answers[0].tokens)
            row["generation_tokens"] = len(answers[0].tokens) + answers[0].ended  # the end token is one
            if question.record.form == "text":  # which is cut, not ended
                row["reference"] = self._reference(question)
            else:
                row["generation_ended"] = answers[0].ended
            if question.whole is not None:
                released, groups = row["as_released"], question.groups
                for name, place in (("answer", 0), ("generation", 1 if question.released else 0)):
                    room = max(1, AS_RELEASED_TOKENS - groups[place][0].prompt_length)
                    released[name] = self._decode(question, answers[place].tokens[:room])
                if question.adversarial is not None:
                    said = self._decode(question, answers[-1].tokens[:ADVERSARIAL_TOKENS])
                    released["adversarial"] = {"generation": said}
        if self.embedder is not None:
            self._compare(rows)

    def _sample(self, rows: list[Row], bar: Progress) -> None:
        """Add drawn answers to the rows. The randomness of a record comes from its split and id alone."""
        assert self.samples is not None
        room = max(len(question.prompt) for question in self.questions) + self.settings.new_tokens_of(
            self.split
        )
        bar.begin("sampling", self.split, self.settings.max_tokens_per_batch // room)
        drawn = sample(
            self.model,
            [question.prompt for question in self.questions],
            self.samples,
            self.decoding,
            seeds=[seed_of(f"{self.split}/{question.record.id}") for question in self.questions],
            max_new_tokens=self.settings.new_tokens_of(self.split),
            on_progress=bar.did,
        )
        for question, row, generations in zip(self.questions, rows, drawn, strict=True):
            row["samples"] = [self._decode(question, generation.tokens) for generation in generations]
            row["samples_ended"] = [generation.ended for generation in generations]

    def _compare(self, rows: list[Row]) -> None:
        """Add the cosine of each greedy answer with the right and each wrong answer, if there are any."""
        assert self.embedder is not None
        wanted: list[tuple[Row, list[str]]] = []  # where it goes; the answer, the right one, the wrong ones
        for question, row in zip(self.questions, rows, strict=True):
            record = question.record
            if not record.distractors:
                continue
            wanted.append((row, [row["generation"], record.answer, *record.distractors]))
            if "as_released" in row:
                released = row["as_released"]
                wanted.append((released, [released["generation"], question.paraphrase, *record.distractors]))
                if "adversarial" in released:
                    told = released["adversarial"]
                    wanted.append((told, [told["generation"], record.answer, *record.distractors]))
        texts = sorted({text for _, group in wanted for text in group})
        vectors = dict(zip(texts, self.embedder(texts), strict=True)) if texts else {}
        for place, (answer, *others) in wanted:
            place["similarity"] = [float(vectors[answer] @ vectors[other]) for other in others]

    def _reference(self, question: Question) -> str:
        """The beginning of the true continuation that is compared with a greedy one."""
        limit, whole = self._limit(question), question.answer
        return self._decode(question, whole[:limit]) if limit < len(whole) else question.record.answer

    def _decode(self, question: Question, tokens: Sequence[int]) -> str:
        """Text of what was generated after a question's prompt, or of its answer."""
        if question.record.form == "text":
            return self.prompt_format.decode_text(self.tokenizer, question.prompt, tokens)
        return self.prompt_format.decode_answer(self.tokenizer, tokens, question.record.opening)
