"""Memory and time of the jobs that read finished models: evaluation, benchmarks, toxicity, combinations.

They all read models as fp32, whatever the precision of training.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from pipeline_lib.operations.plan.device import DISK_BANDWIDTH, START_SECONDS, Device
from pipeline_lib.operations.plan.shape import Shape
from pipeline_lib.operations.plan.sizes import PADDING, Lengths
from pipeline_lib.study.evaluation import Benchmarks, Evaluation, Toxicity

CPU_SCORED_AT_ONCE = 1024.0  # tokens, after which a batch of engine/likelihoods.py ends
LOGIT_ROWS = {"cpu": 128, "cuda": 512}  # positions whose logits are computed at once, engine/likelihoods.py
SHARE, LEAST = 0.25, 16  # of an answer's tokens, for which a batch keeps room: engine/wanted.py
PACKED_BYTES = 1 << 30  # of weights kept in another order, models/products.py
SCORED_TOKENS = 1024  # of a batch: more are taken only where lengths are alike
ANSWER_SLACK = 1.5  # a model's answer against the true one, in tokens
MIXTURES = 9  # models that the comparison at equal retention scores
CLASSIFIER = 125e6  # parameters of a classifier or sentence encoder of the usual size

# name -> questions, choices, tokens of the prompt, tokens of a choice; the shipped files, rounded. For MMLU
# the tokens are those of the question alone, and of each example before it.
BENCHMARKS: dict[str, tuple[int, int, int, int]] = {
    "arc_challenge": (1172, 4, 30, 6),
    "arc_easy": (2376, 4, 27, 5),
    "boolq": (3270, 2, 150, 1),
    "boolq_closed_book": (3270, 2, 15, 1),
    "hellaswag": (10042, 4, 50, 30),
    "mmlu": (14042, 4, 110, 1),
    "openbookqa": (500, 4, 15, 4),
    "piqa": (1838, 2, 12, 25),
    "truthfulqa_mc1": (817, 5, 170, 12),
    "truthfulqa_mc2": (817, 8, 170, 12),
    "wikitext": (62, 1, 1, 5000),
    "winogrande": (1267, 2, 12, 12),
}
OTHER_BENCHMARK = (1500, 4, 200, 20)  # a guess for further tasks of lm-eval


Phases = dict[str, dict[str, float]]  # name -> bytes by part


@dataclass(frozen=True)
class Measuring(ABC):
    """A job that reads a finished model."""

    shape: Shape
    device: Device

    @property
    def weights(self) -> float:
        """Bytes of the model's weights."""
        return 4.0 * self.shape.parameters

    @property
    def loading(self) -> float:
        """Seconds to start and to read one model."""
        return START_SECONDS + self.weights / DISK_BANDWIDTH

    @abstractmethod
    def phases(self) -> Phases:
        """Bytes by part of each phase: scoring known texts, generating new ones."""

    @abstractmethod
    def seconds(self) -> float:
        """Time: 2 operations a parameter and token; generation reads all weights for every token."""


@dataclass(frozen=True)
class Combining(Measuring):
    """A model from the weights of `models` others, which are read one after another; of one, as it is."""

    models: int

    def phases(self) -> Phases:
        following = {"weights of the next": self.weights} if self.models > 1 else {}
        return {"combining": {"weights": self.weights, **following}}

    def seconds(self) -> float:
        return self.models * self.loading


@dataclass(frozen=True)
class Asking(Measuring):
    """A job that asks a model something."""

    evaluation: Evaluation

    def packed(self) -> dict[str, float]:
        """Weights in a second order, on CPUs for which oneDNN is faster; counted for others too."""
        if self.device.kind != "cpu":
            return {}
        return {"packed weights": min(4.0 * (self.shape.body + self.shape.head), float(PACKED_BYTES))}

    def scoring(self, tokens: float) -> dict[str, float]:
        """What one forward pass has at a time: a layer's tensors, and logits of a few hundred positions."""
        inner = (3 if self.shape.gated else 2) * self.shape.intermediate
        return {
            "activations": 4.0 * tokens * (inner + 4 * self.shape.hidden),
            "logits": 2 * 4.0 * min(LOGIT_ROWS[self.device.kind], tokens) * self.shape.vocab,
        }

    def generating(self, count: int | None, prompt: float, new: int, drawn: bool) -> dict[str, float]:
        """Keys and values of every token of a batch, prompt and answer; logits of each row's next token.

        `count`: rows that there are, if it is known. The prompts pass through the layers together. Drawing a
        token takes the distribution, its sums in fp64 and a mask beside the logits.
        """
        shape, narrow = self.shape, self.evaluation.compute == "bf16"
        rows = self.fitting(prompt, new) if count is None else min(self.fitting(prompt, new), count)
        held = max(prompt + new, float(self.evaluation.max_tokens_per_batch))
        if count is not None:
            held = min(held, count * (prompt + new))
        cache = 2 * 4.0 * held * shape.kv_heads * shape.head_size * shape.layers
        return {
            "weights": self.weights,
            **self.packed(),
            "bf16 copies": 2.0 * (shape.body + shape.head) if narrow else 0.0,
            "keys and values": cache / (2 if narrow else 1),
            "activations": 4.0 * rows * prompt * (3 * shape.intermediate + 4 * shape.hidden),
            "logits": (32.0 if drawn else 8.0) * rows * shape.vocab,
        }

    def fitting(self, prompt: float, new: int) -> int:
        """Rows of a batch that generates: prompts and next tokens of all together stay within the budget."""
        ahead = min(new, max(LEAST, math.ceil(SHARE * new)))
        return max(1, int(self.evaluation.max_tokens_per_batch / (prompt + ahead)))

    def forward(self, tokens: float, answers: float, compute: str = "fp32") -> float:
        """Seconds to read so many tokens, with logits for `answers` of them."""
        operations = 2 * (self.shape.body * tokens + self.shape.head * answers)
        passes = math.ceil(tokens / SCORED_TOKENS)
        read, launches = passes * 4.0 * self.shape.body, passes * self.shape.layers
        return self.device.seconds(operations, read, launches, compute)

    def generation(self, count: int, rows: int, prompts: float, new: float) -> float:
        """Seconds to read so many tokens of `prompts`, and to generate `new` tokens for each of `count` rows.

        `rows`: those that are generated together.
        """
        steps, matrices = math.ceil(count / rows) * new, self.shape.body + self.shape.head
        operations, read = 2 * matrices * count * new, steps * 4.0 * matrices
        generated = self.device.seconds(operations, read, steps * self.shape.layers, self.evaluation.compute)
        return self.forward(prompts, 0.0, self.evaluation.compute) + generated


@dataclass(frozen=True)
class Benchmarking(Asking):
    """Standard benchmarks on one model."""

    asked: Benchmarks

    def phases(self) -> Phases:
        phases = {"scoring": {"weights": self.weights, **self.scoring(self.evaluation.max_tokens_per_batch)}}
        if self.asked.lm_eval:  # some of its tasks let the model answer
            _, _, prompt, new = OTHER_BENCHMARK
            phases["generating"] = self.generating(None, prompt, new, drawn=False)
        return phases

    def seconds(self) -> float:
        return self.loading + sum(map(self._seconds_of, (*self.asked.tasks, *self.asked.lm_eval)))

    def _seconds_of(self, name: str) -> float:
        questions, choices, prompt, choice = BENCHMARKS.get(name, OTHER_BENCHMARK)
        count = questions if self.asked.limit is None else min(questions, self.asked.limit)
        prompt *= self.asked.mmlu_shots + 1 if name == "mmlu" else 1
        scored = choices * choice
        return self.forward(count * (prompt + scored) * PADDING, count * scored)


@dataclass(frozen=True)
class Continuing(Asking):
    """Toxicity prompts continued by one model, several times each. `prompt`: tokens of one."""

    asked: Toxicity
    prompts: int
    prompt: float

    @property
    def drawn(self) -> int:
        return self.prompts * self.asked.samples

    def phases(self) -> Phases:
        generating = self.generating(self.drawn, self.prompt, self.asked.max_new_tokens, True)
        return {"generating": {**generating, "classifier": 4.0 * CLASSIFIER}}

    def seconds(self) -> float:
        new, reads = self.asked.max_new_tokens, self.prompts * self.prompt
        judged = 2 * CLASSIFIER * self.drawn * (self.prompt + new) * PADDING
        classified = self.device.seconds(judged, 0.0, self.drawn / 32 * 12, "fp32")
        generated = self.generation(self.drawn, self.fitting(self.prompt, new), reads, new)
        return self.loading + classified + generated


@dataclass(frozen=True)
class Evaluating(Asking):
    """One evaluation of a task. `answered`: the splits with generated answers; `others`: likelihoods only.

    `mixed`: the model is compared at equal retention too.
    """

    answered: dict[str, Lengths]
    others: dict[str, Lengths]
    mixed: bool

    @property
    def _splits(self) -> tuple[Lengths, ...]:
        return (*self.answered.values(), *self.others.values())

    def _samples(self, split: str) -> int:
        """Sampled answers to each record of a split."""
        samples = self.evaluation.samples
        return samples.n if samples is not None and split in samples.splits else 0

    def phases(self) -> Phases:
        scoring = {"weights": self.weights, **self.packed(), **self.scoring(self._scored_at_once())}
        answering = self._answering()
        if self.answered and self.evaluation.compute == "fp32":  # answers begin with what was scored
            scoring["keys and values"] = answering["keys and values"]
        phases = {"scoring": scoring, "generating": answering}
        if self.evaluation.grad_norm:
            longest = max((lengths.longest for lengths in self.others.values()), default=0)
            saved = 10 * self.shape.hidden + 4 * self.shape.intermediate  # of a layer and token
            phases["gradient norms"] = {
                "weights": self.weights,
                "gradients": self.weights,
                "activations": 4.0 * longest * self.shape.layers * saved,
            }
        if self.mixed:
            phases["equal retention"] = scoring | {"second model": self.weights}
        embedder = {} if self.evaluation.embedder is None else {"embedder": 4.0 * CLASSIFIER}
        return {name: parts | embedder for name, parts in phases.items()}

    def _scored_at_once(self) -> float:
        """Tokens of the largest batch that is scored: the budget, what a CPU takes, or all of a split."""
        records = [lengths.prompt + lengths.texts * lengths.answer for lengths in self._splits]
        found = [lengths.records * tokens for lengths, tokens in zip(self._splits, records, strict=True)]
        most = float(self.evaluation.max_tokens_per_batch)
        if self.device.kind == "cpu":
            most = min(most, CPU_SCORED_AT_ONCE + max(records, default=0.0))
        return min(most, max(found, default=1.0))

    def _answering(self) -> dict[str, float]:
        """What the largest batch of generated answers holds."""
        new = self.evaluation.max_new_tokens
        drawn = self.evaluation.samples is not None
        batches = [
            self.generating(
                lengths.records * max(1, self._samples(name)),
                lengths.prompt,
                new,
                drawn,
            )
            for name, lengths in self.answered.items()
        ]
        return max(
            batches, key=lambda parts: sum(parts.values()), default=self.generating(1, 1.0, new, drawn)
        )

    def seconds(self) -> float:
        total = self.loading
        asked = 2 if self.evaluation.as_released else 1  # the paraphrased question as well
        for lengths in self._splits:
            answers = lengths.texts * lengths.answer
            tokens = lengths.records * (lengths.prompt + answers) * asked * PADDING
            total += self.forward(tokens, lengths.records * answers * asked)
        limit = self.evaluation.max_new_tokens
        for name, lengths in self.answered.items():
            new = min(float(limit), ANSWER_SLACK * lengths.answer)
            count = lengths.records * (asked + self._samples(name))
            prompts = lengths.records * asked * lengths.prompt
            total += self.generation(count, self.fitting(lengths.prompt, limit), prompts, new)
        if self.evaluation.grad_norm:
            forget = [self.answered["forget"]] if "forget" in self.answered else []
            for lengths in (*forget, *self.others.values()):
                total += 3 * self.forward(lengths.records * lengths.whole, lengths.records * lengths.answer)
        retain = self.answered.get("retain_eval") or self.answered.get("retain")
        if self.mixed and retain is not None:
            scored = self.forward(retain.records * retain.whole * PADDING, retain.records * retain.answer)
            total += MIXTURES * (scored + self.weights / DISK_BANDWIDTH)
        return total
