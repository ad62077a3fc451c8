"""Memory and time of what is measured on a finished model: the task itself, benchmarks, toxicity.

Models are read as fp32 for all of these, whatever they were trained in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline_lib.operations.plan.device import DISK_BANDWIDTH, START_SECONDS, Device
from pipeline_lib.operations.plan.shape import Shape
from pipeline_lib.operations.plan.sizes import PADDING, Lengths
from pipeline_lib.operations.plan.training_memory import Memory, largest

CPU_SCORED_AT_ONCE = 1024.0  # tokens, after which a batch of engine/likelihoods.py ends
LOGIT_ROWS = {"cpu": 128, "cuda": 512}  # positions whose logits are computed at once, engine/likelihoods.py
PACKED_BYTES = 1 << 30  # of weights kept in another order, models/products.py
SCORED_TOKENS = 1024  # of a batch: more are taken only where lengths are alike
ANSWER_SLACK = 1.5  # a model's answer against the true one, in tokens
MIXTURES = 9  # models that the comparison at equal retention scores
CLASSIFIER = 125e6  # parameters of a classifier or sentence encoder of the usual size

# name -> questions, choices, tokens of the prompt, tokens of a choice; the shipped files, rounded. MMLU's
# prompt has so many tokens for itself and for every example before it.
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
OTHER_BENCHMARK = (1500, 4, 200, 20)  # a guess, of further tasks of lm-eval


@dataclass(frozen=True)
class Evaluating:
    """One evaluation of a task. `answered`: the splits with generated answers; `others`: likelihoods only."""

    shape: Shape
    device: Device
    answered: dict[str, Lengths]
    others: dict[str, Lengths]
    max_new_tokens: int
    max_tokens_per_batch: int
    compute: str
    sampled: dict[str, int]  # split -> samples a record
    as_released: bool
    grad_norm: bool
    equal_retain: bool
    embedder: bool


@dataclass(frozen=True)
class Benchmarking:
    """Standard benchmarks on one model; `limit`: at most so many questions of each."""

    shape: Shape
    device: Device
    tasks: tuple[str, ...]
    limit: int | None
    mmlu_shots: int
    max_tokens_per_batch: int


@dataclass(frozen=True)
class Continuing:
    """Toxicity prompts continued by one model, `samples` times each."""

    shape: Shape
    device: Device
    prompts: int
    prompt_tokens: float
    samples: int
    max_new_tokens: int
    max_tokens_per_batch: int
    compute: str


@dataclass(frozen=True)
class Combining:
    """A new model computed from the weights of so many others, one of them after another."""

    shape: Shape
    device: Device
    models: int


Measuring = Evaluating | Benchmarking | Continuing | Combining


def measuring_memory(job: Measuring) -> Memory:
    """The largest phase: scoring known texts, or generating new ones."""
    shape, phases = job.shape, {}
    weights = 4.0 * shape.parameters
    packed = {} if isinstance(job, Combining) else _packed(job)
    if isinstance(job, Combining):
        phases["combining"] = {"weights": weights, "weights of the next": weights}
    if isinstance(job, Evaluating):
        phases["scoring"] = {"weights": weights, **packed, **_scoring(job, _scored_at_once(job))}
        phases["generating"] = _generating(job, *_answering(job), bool(job.sampled))
        if job.grad_norm:
            longest = max((lengths.longest for lengths in job.others.values()), default=0)
            saved = 4.0 * longest * shape.layers * (10 * shape.hidden + 4 * shape.intermediate)
            phases["gradient norms"] = {"weights": weights, "gradients": weights, "activations": saved}
        if job.equal_retain:
            mixed = phases["scoring"] | {"second model": weights}
            phases["equal retention"] = mixed
        if job.embedder:
            for parts in phases.values():
                parts["embedder"] = 4.0 * CLASSIFIER
    if isinstance(job, Benchmarking):
        phases["scoring"] = {"weights": weights, **_scoring(job, job.max_tokens_per_batch)}
    if isinstance(job, Continuing):
        width = job.prompt_tokens + job.max_new_tokens
        rows = max(1, min(int(job.max_tokens_per_batch / width), job.prompts * job.samples))
        generating = _generating(job, rows, job.prompt_tokens, True)
        phases["generating"] = {**generating, "classifier": 4.0 * CLASSIFIER}
    return largest(job.device, phases)


def _scored_at_once(job: Evaluating) -> float:
    """Tokens of the largest batch that is scored: the budget, what a CPU takes, or all of a split."""
    splits = (*job.answered.values(), *job.others.values())
    records = [lengths.prompt + lengths.texts * lengths.answer for lengths in splits]
    found = [lengths.records * tokens for lengths, tokens in zip(splits, records, strict=True)]
    most = float(job.max_tokens_per_batch)
    if job.device.kind == "cpu":
        most = min(most, CPU_SCORED_AT_ONCE + max(records, default=0.0))
    return min(most, max(found, default=1.0))


def _packed(job: Measuring) -> dict[str, float]:
    """Weights in a second order, on CPUs for which oneDNN is faster; counted for others too."""
    if job.device.kind != "cpu":
        return {}
    return {"packed weights": min(4.0 * (job.shape.body + job.shape.head), float(PACKED_BYTES))}


def _scoring(job: Measuring, tokens: float) -> dict[str, float]:
    """What one forward pass has at a time: a layer's tensors, and logits of a few hundred positions."""
    shape, rows = job.shape, LOGIT_ROWS[job.device.kind]
    inner = (3 if shape.gated else 2) * shape.intermediate
    return {
        "activations": 4.0 * tokens * (inner + 4 * shape.hidden),
        "logits": 2 * 4.0 * min(rows, tokens) * shape.vocab,
    }


def _generating(job: Evaluating | Continuing, rows: int, prompt: float, drawn: bool) -> dict[str, float]:
    """Keys and values of every token of a batch, prompt and answer; logits of each row's next token.

    The prompts pass through the layers together. Drawing a token takes the distribution, its sums in fp64 and
    a mask beside the logits.
    """
    shape = job.shape
    cache = 2 * 4.0 * rows * (prompt + job.max_new_tokens) * shape.kv_heads * shape.head_size * shape.layers
    casts = 2.0 * (shape.body + shape.head) if job.compute == "bf16" else 0.0
    return {
        "weights": 4.0 * shape.parameters,
        **_packed(job),
        "bf16 copies": casts,
        "keys and values": cache / (2 if job.compute == "bf16" else 1),
        "activations": 4.0 * rows * prompt * (3 * shape.intermediate + 4 * shape.hidden),
        "logits": (32.0 if drawn else 8.0) * rows * shape.vocab,
    }


def _answering(job: Evaluating) -> tuple[int, float]:
    """Rows of the largest batch of generated answers, and tokens of its prompts.

    Prompt and limit of all rows together stay within the budget.
    """
    found = []
    for name, lengths in job.answered.items():
        fits = int(job.max_tokens_per_batch / (lengths.prompt + job.max_new_tokens))
        asked = lengths.records * max(1, job.sampled.get(name, 0))
        found.append((max(1, min(fits, asked)), lengths.prompt))
    return max(found, default=(1, 1.0))


def measuring_seconds(job: Measuring) -> float:
    """Time of one job: 2 operations a parameter and token; generation reads all weights for every token."""
    loading = START_SECONDS + 4.0 * job.shape.parameters / DISK_BANDWIDTH
    if isinstance(job, Combining):
        return job.models * loading
    if isinstance(job, Evaluating):
        return loading + _evaluating_seconds(job)
    if isinstance(job, Benchmarking):
        return loading + sum(_benchmark_seconds(job, name) for name in job.tasks)
    rows = max(1, int(job.max_tokens_per_batch / (job.prompt_tokens + job.max_new_tokens)))
    drawn = job.prompts * job.samples
    asked = _forward(job.shape, job.device, job.prompts * job.prompt_tokens, 0.0, job.compute)
    judged = 2 * CLASSIFIER * drawn * (job.prompt_tokens + job.max_new_tokens) * PADDING
    classified = job.device.seconds(judged, 0.0, drawn / 32 * 12, "fp32")
    return loading + asked + classified + _tokens(job, drawn, rows, job.max_new_tokens)


def _evaluating_seconds(job: Evaluating) -> float:
    total = 0.0
    asked = 2 if job.as_released else 1  # the paraphrased question as well
    for lengths in (*job.answered.values(), *job.others.values()):
        answers = lengths.texts * lengths.answer
        tokens = lengths.records * (lengths.prompt + answers) * asked * PADDING
        total += _forward(job.shape, job.device, tokens, lengths.records * answers * asked, "fp32")
    for name, lengths in job.answered.items():
        new = min(float(job.max_new_tokens), ANSWER_SLACK * lengths.answer)
        rows = max(1, int(job.max_tokens_per_batch / (lengths.prompt + job.max_new_tokens)))
        count = lengths.records * (asked + job.sampled.get(name, 0))
        total += _forward(job.shape, job.device, lengths.records * asked * lengths.prompt, 0.0, job.compute)
        total += _tokens(job, count, rows, new)
    if job.grad_norm:
        forget = [job.answered["forget"]] if "forget" in job.answered else []
        for lengths in (*forget, *job.others.values()):
            tokens = lengths.records * lengths.whole
            total += 3 * _forward(job.shape, job.device, tokens, lengths.records * lengths.answer, "fp32")
    if job.equal_retain:
        retain = job.answered.get("retain_eval") or job.answered.get("retain")
        if retain is not None:
            tokens, answers = retain.records * retain.whole * PADDING, retain.records * retain.answer
            total += MIXTURES * (
                _forward(job.shape, job.device, tokens, answers, "fp32")
                + 4.0 * job.shape.parameters / DISK_BANDWIDTH
            )
    return total


def _benchmark_seconds(job: Benchmarking, name: str) -> float:
    questions, choices, prompt, choice = BENCHMARKS.get(name, OTHER_BENCHMARK)
    count = questions if job.limit is None else min(questions, job.limit)
    prompt *= job.mmlu_shots + 1 if name == "mmlu" else 1
    scored = choices * choice
    tokens = count * (prompt + scored) * PADDING
    return _forward(job.shape, job.device, tokens, count * scored, "fp32")


def _forward(shape: Shape, device: Device, tokens: float, answers: float, compute: str) -> float:
    """Seconds to read so many tokens, with logits for `answers` of them."""
    operations = 2 * (shape.body * tokens + shape.head * answers)
    passes = math.ceil(tokens / SCORED_TOKENS)
    return device.seconds(operations, passes * 4.0 * shape.body, passes * shape.layers, compute)


def _tokens(job: Evaluating | Continuing, count: int, rows: int, new: float) -> float:
    """Seconds to generate `new` tokens for each of `count` rows, `rows` of them at a time."""
    shape = job.shape
    steps = math.ceil(count / rows) * new
    matrices = shape.body + shape.head
    operations = 2 * matrices * count * new
    return job.device.seconds(operations, steps * 4.0 * matrices, steps * shape.layers, job.compute)
