"""Everything that is asked of the model for one split; see engine.py for what calls it.

Nothing is computed twice: one forward pass gives likelihoods, most likely tokens and the spread of the
next-token distribution, and a greedy answer begins where the scored texts stop showing what it is (a model
that knows an answer word by word need not generate it).

Records of running text: the greedy continuation is as many tokens long as the true one, or `max_new_tokens`
if that is fewer, unless it ends before. It is compared with the true continuation cut to as many tokens
(`reference` in the row), so that its length is judged nowhere. `as_released` asks nothing more of them: what
it adds are paraphrases, wrong answers and whole questions, which running text has not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline_lib.data.batching import Example
from pipeline_lib.data.records import Record
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.generation import continue_greedily, sample
from pipeline_lib.evaluation.gradients import gradient_norms
from pipeline_lib.evaluation.progress import Progress, Work
from pipeline_lib.evaluation.rows import (
    Row,
    continuation_fields,
    generation_fields,
    likelihood_row,
    released_fields,
)
from pipeline_lib.evaluation.scoring import (
    TextScore,
    check_finite,
    encode_texts,
    record_texts,
    score_groups,
)
from pipeline_lib.evaluation.settings import EvaluationSettings
from pipeline_lib.evaluation.trees import build_tree, greedy_beginning
from pipeline_lib.models.forward import context_length, pad_token

if TYPE_CHECKING:
    import numpy as np

    from pipeline_lib.models.prompt import PromptFormat

    Embedder = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class _Question:
    """One record as tokens: the texts after its prompt and, for `as_released`, after the paraphrased one."""

    record: Record
    texts: list[Example]  # answer, paraphrase, distractors
    whole: Example | None = None  # prompt and answer as one text without an end token, for `as_released`
    released: list[Example] | None = None  # paraphrased answer and distractors, where the prompt is another

    @property
    def prompt(self) -> list[int]:
        return list(self.texts[0].tokens[: self.texts[0].prompt_length])

    @property
    def answer(self) -> list[int]:
        return list(self.texts[0].tokens[self.texts[0].prompt_length :])

    @property
    def groups(self) -> list[list[Example]]:
        """Sequences that are scored together, as one tree a prompt."""
        first = self.texts if self.whole is None else [*self.texts, self.whole]
        return [first] if self.released is None else [first, self.released]

    @property
    def paraphrase(self) -> str:
        """The paraphrased answer, or the answer where there is none."""
        return (
            self.record.answer if self.record.paraphrased_answer is None else self.record.paraphrased_answer
        )


class SplitRun:
    """Everything asked of the model for one split."""

    def __init__(
        self,
        model,
        tokenizer,
        prompt_format: PromptFormat,
        split: str,
        records: list[Record],
        settings: EvaluationSettings,
        embedder: Embedder | None,
    ):
        self.model, self.tokenizer, self.prompt_format = model, tokenizer, prompt_format
        self.split, self.settings, self.embedder = split, settings, embedder
        if len({record.form for record in records}) > 1:
            raise UserError(
                f"split {split!r}: its records are questions and running text, which have different metrics. "
                "Make two splits of them, or evaluate a split with one of the two."
            )
        self.questions = [self._question(record) for record in records]
        self.samples = settings.samples_of(split)
        if settings.generates(split) or self.samples:
            for question in self.questions:
                for texts in question.groups:
                    self._check_room(question, texts[0].prompt_length)

    def _question(self, record: Record) -> _Question:
        def encoded(asked: Record, texts: Sequence[str]) -> list[Example]:
            return encode_texts(
                self.tokenizer, self.prompt_format, self.split, asked, texts, self.settings.max_length
            )

        texts = encoded(record, record_texts(record))
        if not self.settings.as_released or record.form == "text":
            return _Question(record, texts)
        whole = Example(texts[0].tokens[:-1], 1, 0)
        question = _Question(record, texts, whole)
        if record.paraphrased_prompt in (None, record.prompt):
            return question
        paraphrased = replace(record, prompt=record.paraphrased_prompt)
        return replace(question, released=encoded(paraphrased, [question.paraphrase, *record.distractors]))

    def _limit(self, question: _Question) -> int:
        """The most tokens of its greedy answer."""
        limit = self.settings.new_tokens_of(self.split)
        return min(limit, len(question.answer)) if question.record.form == "text" else limit

    def _check_room(self, question: _Question, prompt_length: int) -> None:
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
            tokens["scoring"] += sum(len(build_tree(group).tokens) for group in question.groups)
        if self.settings.generates(self.split):
            items["answering"] = items["scoring"]
            tokens["answering"] = sum(self._limit(q) * len(q.groups) for q in self.questions)
        if self.samples:
            items["sampling"] = len(self.questions) * self.samples["n"]
            tokens["sampling"] = items["sampling"] * self.settings.new_tokens_of(self.split)
        if self.split in self.settings.grad_norm_splits:
            items["gradients"] = len(self.questions)
            tokens["gradients"] = sum(len(question.texts[0].tokens) for question in self.questions)
        return Work(items, tokens)

    def rows(self, bar: Progress) -> list[Row]:
        scores = self._score(bar)
        rows = []
        for question, groups in zip(self.questions, scores, strict=True):
            record, texts = question.record, groups[0][: len(question.texts)]
            row = likelihood_row(self.split, record, texts)
            row["round_trips"] = self._decode(question, question.answer) == record.answer
            if question.whole is not None:
                # where the prompt is the same: all texts, without the answer if there is a paraphrase of it
                same = texts[record.paraphrased_answer is not None :]
                row["as_released"] = released_fields(groups[1] if question.released else same, groups[0][-1])
            rows.append(row)
        if self.settings.generates(self.split):
            self._answer(rows, scores, bar)
        if self.samples:
            self._sample(rows, bar)
        if self.split in self.settings.grad_norm_splits:
            bar.begin("gradients", self.split)
            examples = [question.texts[0] for question in self.questions]
            norms = gradient_norms(self.model, examples, pad_token(self.tokenizer), bar.done)
            for row, norm in zip(rows, norms, strict=True):
                row["grad_norm"] = norm
        return rows

    def _score(self, bar: Progress) -> list[list[list[TextScore]]]:
        """Scores of each question's groups."""
        bar.begin("scoring", self.split)
        flat = score_groups(
            self.model,
            [group for question in self.questions for group in question.groups],
            max_tokens_per_batch=self.settings.max_tokens_per_batch,
            pad_id=pad_token(self.tokenizer),
            distribution=self.split in self.settings.distribution_splits,
            on_progress=bar.done,
        )
        following = iter(flat)
        scores = [[next(following) for _ in question.groups] for question in self.questions]
        for question, groups in zip(self.questions, scores, strict=True):
            for texts in groups:
                check_finite(f"split {self.split!r}, record {question.record.id!r}", texts)
        return scores

    def _answer(self, rows: list[Row], scores: list[list[list[TextScore]]], bar: Progress) -> None:
        """Add greedy answers to the rows."""
        bar.begin("answering", self.split)
        asked = [
            (question, texts, texts_scores)
            for question, groups in zip(self.questions, scores, strict=True)
            for texts, texts_scores in zip(question.groups, groups, strict=True)
        ]
        if self.settings.compute == "fp32":
            known = [self._known(texts, texts_scores) for _, texts, texts_scores in asked]
        else:  # other arithmetic than that of the scores: another answer, perhaps
            known = [[] for _ in asked]
        generations = continue_greedily(
            self.model,
            [list(texts[0].tokens[: texts[0].prompt_length]) for _, texts, _ in asked],
            known,
            max_new_tokens=[self._limit(question) for question, _, _ in asked],
            end_id=self.tokenizer.eos_token_id,
            pad_id=pad_token(self.tokenizer),
            max_tokens_per_batch=self.settings.max_tokens_per_batch,
            compute=self.settings.compute,
            on_progress=bar.done,
        )
        following = iter(generations)
        for question, row in zip(self.questions, rows, strict=True):
            answers = [next(following) for _ in question.groups]
            said = self._decode(question, answers[0].tokens)
            if question.record.form == "text":
                row |= continuation_fields(answers[0], said, self._reference(question))
            else:
                row |= generation_fields(answers[0], said)
            if question.whole is not None:
                row["as_released"]["generation"] = self._decode(question, answers[-1].tokens)
        if self.embedder is not None:
            self._compare(rows)

    def _known(self, texts: Sequence[Example], scores: Sequence[TextScore]) -> list[int]:
        """The beginning of the greedy answer, as the scored texts after this prompt show it."""
        length = texts[0].prompt_length
        prompt = texts[0].tokens[:length]
        pairs = [
            (text.tokens[length:], score.argmax)
            for text, score in zip(texts, scores, strict=True)
            if text.prompt_length == length and text.tokens[:length] == prompt
        ]
        return greedy_beginning(
            [text for text, _ in pairs],
            [argmax for _, argmax in pairs],
            frozenset([self.tokenizer.eos_token_id]),
        )

    def _sample(self, rows: list[Row], bar: Progress) -> None:
        """Add drawn answers to the rows; a record's randomness comes from its split and id alone."""
        assert self.samples is not None
        bar.begin("sampling", self.split)
        drawn = sample(
            self.model,
            [question.prompt for question in self.questions],
            **self.samples,
            seeds=[_seed(self.split, question.record.id) for question in self.questions],
            max_new_tokens=self.settings.new_tokens_of(self.split),
            end_id=self.tokenizer.eos_token_id,
            pad_id=pad_token(self.tokenizer),
            max_tokens_per_batch=self.settings.max_tokens_per_batch,
            compute=self.settings.compute,
            on_progress=bar.done,
        )
        for question, row, generations in zip(self.questions, rows, drawn, strict=True):
            row["samples"] = [self._decode(question, generation.tokens) for generation in generations]
            row["samples_ended"] = [generation.ended for generation in generations]

    def _compare(self, rows: list[Row]) -> None:
        """Add cosines of each greedy answer with the right and the wrong answers, if there are wrong ones."""
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
        texts = sorted({text for _, group in wanted for text in group})
        vectors = dict(zip(texts, self.embedder(texts), strict=True)) if texts else {}
        for place, (answer, *others) in wanted:
            place["similarity"] = [float(vectors[answer] @ vectors[other]) for other in others]

    def _reference(self, question: _Question) -> str:
        """The beginning of the true continuation that is compared with a greedy one."""
        limit = self._limit(question)
        if limit == len(question.answer):
            return question.record.answer
        return self._decode(question, question.answer[:limit])

    def _decode(self, question: _Question, tokens: Sequence[int]) -> str:
        """Text of what was generated after a question's prompt, or of its answer."""
        if question.record.form == "text":
            return self.prompt_format.decode_text(self.tokenizer, question.prompt, tokens)
        return self.prompt_format.decode_answer(self.tokenizer, tokens)


def _seed(split: str, identifier: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{split}/{identifier}".encode()).digest()[:8])
