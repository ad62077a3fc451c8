"""Log-likelihoods of the answer, paraphrase and wrong answers of every record.

The texts that follow one prompt are scored in one pass. Prompt and answers are merged into a prefix tree:
each token that two answers share from the start is computed once, sees its own ancestors only (a block
attention mask) and sits at its depth (position ids), so every answer is scored exactly as if it were alone.
For TOFU's seven answers a question this is 2.4 times fewer tokens than one sequence an answer. Models for
which a quick check shows a difference (attention that ignores a given mask) are scored the plain way.

Weights run in the model's own dtype, the log-softmax always in fp32.

Shapes: B trees or sequences, T tokens, N positions that predict an answer token, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

import torch

from pipeline_lib.data.batching import Example, collate, encode, token_budget_batches
from pipeline_lib.data.records import Record
from pipeline_lib.errors import UserError
from pipeline_lib.models.forward import answer_logits

if TYPE_CHECKING:
    from pipeline_lib.models.prompt import PromptFormat

# Rows of the vocabulary projection at once: 512 x 50k x 4 bytes = 100 MB, whatever the batch holds.
LOGIT_ROWS = 512
TREE_TOLERANCE = 1e-3  # nats a token; rounding is below 1e-5, a mask that is ignored far above

Item = TypeVar("Item")


@dataclass(frozen=True)
class TextScore:
    """One text after its prompt: NLL in nats and whether the token is the argmax, for each of its tokens."""

    token_nll: list[float]
    argmax_correct: list[int]

    @property
    def nll(self) -> float:
        return math.fsum(self.token_nll)

    @property
    def tokens(self) -> int:
        return len(self.token_nll)


@dataclass
class PrefixTree:
    """The sequences of one record merged at their common beginnings; node 0 is the first prompt token."""

    tokens: list[int] = field(default_factory=list)  # (T,)
    parents: list[int] = field(default_factory=list)  # (T,) node before, -1 for the first
    depths: list[int] = field(default_factory=list)  # (T,) position in the sequence
    # for each sequence the nodes that predict its answer tokens, and those tokens
    paths: list[tuple[list[int], list[int]]] = field(default_factory=list)


def build_tree(sequences: Sequence[Example]) -> PrefixTree:
    """Merge sequences that share their prompt. The last token of each predicts nothing and is left out."""
    tree = PrefixTree()
    children: dict[tuple[int, int], int] = {}
    for sequence in sequences:
        if sequence.prompt_length < 1:
            raise ValueError("the first answer token needs a prompt token that predicts it")
        node = -1
        predictors = []
        for depth, token in enumerate(sequence.tokens):
            if depth >= sequence.prompt_length:
                predictors.append(node)
            if depth == len(sequence.tokens) - 1:
                break
            if (node, token) not in children:
                children[node, token] = len(tree.tokens)
                tree.tokens.append(token)
                tree.parents.append(node)
                tree.depths.append(depth)
            node = children[node, token]
        tree.paths.append((predictors, list(sequence.tokens[sequence.prompt_length :])))
    return tree


def score_records(
    model,
    tokenizer,
    prompt_format: PromptFormat,
    records: Sequence[Record],
    *,
    split: str,
    max_length: int,
    max_tokens_per_batch: int,
    pad_id: int,
    on_progress: Callable[[int], object] = lambda records: None,
) -> list[list[TextScore]]:
    """Scores of each record's texts: answer, paraphrase (if it has one), then its distractors.

    `max_tokens_per_batch` limits B * T of a batch; results do not depend on it beyond rounding.
    """
    sequences: list[list[Example]] = []
    for record in records:
        texts = record_texts(record)
        try:
            encoded = encode([record.prompt] * len(texts), texts, tokenizer, prompt_format, max_length)
        except UserError as error:
            raise UserError(f"split {split!r}, record {record.id!r}: {error}") from None
        sequences.append(encoded)
    trees = [build_tree(group) for group in sequences]
    exact = _tree_is_exact(model, min(sequences, key=lambda group: len(group[0].tokens)), pad_id)
    # a tree above the budget would need a large attention mask: its texts are scored apart
    merged = {i: tree for i, tree in enumerate(trees) if exact and len(tree.tokens) <= max_tokens_per_batch}
    apart = {i: group for i, group in enumerate(sequences) if i not in merged}
    by_record = {
        **_score_trees(model, merged, max_tokens_per_batch, pad_id, on_progress),
        **_score_plain(model, apart, max_tokens_per_batch, pad_id, on_progress),
    }
    scores = [by_record[i] for i in range(len(records))]
    for record, texts_scores in zip(records, scores, strict=True):
        if not all(math.isfinite(score.nll) for score in texts_scores):
            raise UserError(
                f"split {split!r}, record {record.id!r}: the model gives a log-probability that is not "
                "a finite number. Its weights are broken (a diverged run, or an overflow in half precision): "
                "train it again with a lower learning rate or in fp32."
            )
    return scores


def record_texts(record: Record) -> list[str]:
    """The texts scored after the record's prompt, in the order of their scores."""
    paraphrase = [] if record.paraphrased_answer is None else [record.paraphrased_answer]
    return [record.answer, *paraphrase, *record.distractors]


def _tree_is_exact(model, sequences: Sequence[Example], pad_id: int) -> bool:
    """Does this model score sequences with one prompt alike as a tree and apart?

    Tried on the first tokens of at most three of them, since all that can differ is seen there.
    """
    config = model.config.get_text_config()
    if config._attn_implementation not in ("sdpa", "eager"):
        return False  # flash kernels take no block mask
    if getattr(config, "sliding_window", None) is not None:
        return False  # a given mask replaces the window's own
    short = [
        replace(sequence, tokens=sequence.tokens[: sequence.prompt_length + 8]) for sequence in sequences[:3]
    ]
    as_tree = tree_scores(model, [build_tree(short)], pad_id)[0]
    apart = plain_scores(model, short, pad_id)
    return all(
        abs(a - b) <= TREE_TOLERANCE * max(1.0, abs(b)) or (math.isnan(a) and math.isnan(b))
        for one, other in zip(as_tree, apart, strict=True)
        for a, b in zip(one.token_nll, other.token_nll, strict=True)
    )


def _score_trees(
    model, trees: dict[int, PrefixTree], max_tokens: int, pad_id: int, on_progress: Callable[[int], object]
) -> dict[int, list[TextScore]]:
    """Scores of the texts of each record, by the record's number."""
    lengths = [Example(tuple(tree.tokens), 0, number) for number, tree in trees.items()]
    results: dict[int, list[TextScore]] = {}
    for batch in token_budget_batches(lengths, max_tokens):
        numbers = [example.index for example in batch]
        scores = halve_on_out_of_memory(
            [trees[number] for number in numbers], lambda part: tree_scores(model, part, pad_id)
        )
        results.update(zip(numbers, scores, strict=True))
        on_progress(len(numbers))
    return results


def _score_plain(
    model,
    sequences: dict[int, list[Example]],
    max_tokens: int,
    pad_id: int,
    on_progress: Callable[[int], object],
) -> dict[int, list[TextScore]]:
    """Scores of the texts of each record, by the record's number; one sequence a text."""
    flat = [sequence for group in sequences.values() for sequence in group]
    numbered = [Example(sequence.tokens, sequence.prompt_length, i) for i, sequence in enumerate(flat)]
    scores: dict[int, TextScore] = {}
    for batch in token_budget_batches(numbered, max_tokens):
        part_scores = halve_on_out_of_memory(batch, lambda part: plain_scores(model, part, pad_id))
        scores.update(zip((example.index for example in batch), part_scores, strict=True))
    on_progress(len(sequences))
    in_order = iter(range(len(flat)))
    return {number: [scores[next(in_order)] for _ in group] for number, group in sequences.items()}


@torch.inference_mode()
def tree_scores(model, trees: Sequence[PrefixTree], pad_id: int) -> list[list[TextScore]]:
    """One forward pass over B trees; for each tree the scores of its sequences."""
    device = model.get_input_embeddings().weight.device
    width = max(len(tree.tokens) for tree in trees)
    input_ids = torch.full((len(trees), width), pad_id)  # (B, T)
    positions = torch.zeros((len(trees), width), dtype=torch.int64)
    visible = torch.eye(width, dtype=torch.bool).repeat(len(trees), 1, 1)  # (B, T, T) [b, query, key]
    nodes: dict[int, int] = {}  # flat position in (B, T) -> its row among the N logits
    labels: list[int] = []
    rows: list[int] = []
    for b, tree in enumerate(trees):
        input_ids[b, : len(tree.tokens)] = torch.tensor(tree.tokens)
        positions[b, : len(tree.tokens)] = torch.tensor(tree.depths)
        for node, parent in enumerate(tree.parents):
            if parent >= 0:
                visible[b, node] |= visible[b, parent]
        for predictors, targets in tree.paths:
            labels += targets
            rows += [nodes.setdefault(b * width + node, len(nodes)) for node in predictors]
    dtype = model.get_input_embeddings().weight.dtype
    mask = torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)
    hidden = model.get_decoder()(
        input_ids=input_ids.to(device),
        attention_mask=mask[:, None].to(device),  # (B, 1, T, T)
        position_ids=positions.to(device),
        use_cache=False,
    ).last_hidden_state  # (B, T, D)
    wanted = hidden.flatten(0, 1)[torch.tensor(list(nodes), device=device)]  # (N, D)
    nll, correct = _score_labels(model.get_output_embeddings(), wanted, rows, labels)
    return _cut(nll, correct, trees)


def _score_labels(
    head: torch.nn.Module, hidden: torch.Tensor, rows: list[int], labels: list[int]
) -> tuple[list[float], list[int]]:
    """NLL in nats and argmax-correct of each label, read from hidden state `rows[i]` of `hidden` (N, D)."""
    row = torch.tensor(rows, device=hidden.device)
    label = torch.tensor(labels, device=hidden.device)
    nll = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
    correct = torch.empty(len(labels), dtype=torch.int64, device=hidden.device)
    for start in range(0, len(hidden), LOGIT_ROWS):
        logits = head(hidden[start : start + LOGIT_ROWS]).float()  # (<= LOGIT_ROWS, V)
        here = ((row >= start) & (row < start + LOGIT_ROWS)).nonzero()[:, 0]
        local, target = row[here] - start, label[here]
        # on CPU ten times closer to float64 than fp32 cross_entropy over a large vocabulary
        nll[here] = logits.logsumexp(-1)[local] - logits[local, target]
        correct[here] = (logits.argmax(-1)[local] == target).long()
    return nll.tolist(), correct.tolist()


def _cut(nll: list[float], correct: list[int], trees: Sequence[PrefixTree]) -> list[list[TextScore]]:
    """Give the flat numbers back to the trees and sequences they belong to."""
    results: list[list[TextScore]] = []
    start = 0
    for tree in trees:
        results.append([])
        for _, targets in tree.paths:
            end = start + len(targets)
            results[-1].append(TextScore(nll[start:end], correct[start:end]))
            start = end
    return results


@torch.inference_mode()
def plain_scores(model, examples: Sequence[Example], pad_id: int) -> list[TextScore]:
    """One forward pass over B separate, right-padded sequences."""
    device = model.get_input_embeddings().weight.device
    logits, labels, rows = answer_logits(model, collate(examples, pad_id).to(device))
    logits = logits.float()  # (N, V)
    nll = logits.logsumexp(-1) - logits.gather(1, labels[:, None])[:, 0]  # (N,)
    correct = (logits.argmax(-1) == labels).long()
    return [TextScore(nll[rows == b].tolist(), correct[rows == b].tolist()) for b in range(len(examples))]


def halve_on_out_of_memory(items: Sequence[Item], run: Callable[[Sequence[Item]], list]) -> list:
    """`run(items)`, or in two halves (and so on) where that does not fit in memory; results in order."""
    try:
        return run(items)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not _is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise UserError(
                "a single example does not fit in memory. Use a smaller model, a lower `max_length` or "
                f"`max_new_tokens`, or a machine with more memory ({str(error)[:200]})"
            ) from None
    # Outside the except block, so that the failed attempt's tensors are no longer held by its traceback.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    return [
        *halve_on_out_of_memory(items[:middle], run),
        *halve_on_out_of_memory(items[middle:], run),
    ]


def _is_out_of_memory(error: RuntimeError) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text  # torch's CPU allocator
        or "not enough memory" in text
    )
