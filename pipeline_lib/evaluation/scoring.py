"""Log-likelihoods of the answer, paraphrase and wrong answers of every record.

The texts that follow one prompt are scored in one pass, as a tree (see trees.py): for TOFU's seven answers a
question this is 2.4 times fewer tokens than one sequence an answer. Models for which a quick check shows a
difference (attention that ignores a given mask) are scored the plain way, one sequence a text.

Weights run in the model's own dtype, the log-softmax in fp32 (of fp64 weights in fp64). One pass gives all
that is read from the next-token distribution: the likelihood, the argmax and, where asked for, mean and
spread.

Shapes: B trees or sequences, T tokens, N positions that predict an answer token, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

import torch

from pipeline_lib.data.batching import Example, token_budget_batches
from pipeline_lib.data.encoding import encode_records
from pipeline_lib.data.records import Record
from pipeline_lib.errors import UserError
from pipeline_lib.evaluation.trees import PrefixTree, build_tree, tree_inputs
from pipeline_lib.memory import halve_on_out_of_memory

if TYPE_CHECKING:
    from pipeline_lib.models.prompt import PromptFormat

# Rows of the vocabulary projection at once, whatever the batch holds: 128 x 50k x 4 bytes = 25 MB, which a
# CPU's caches hold. A GPU wants more work at a time.
LOGIT_ROWS = 128
LOGIT_ROWS_GPU = 512
TREE_TOLERANCE = 1e-3  # nats a token; rounding is below 1e-5, a mask that is ignored far above

# More in a batch is hardly faster, and padding costs as much as text.
ENOUGH_TOKENS = 256
ENOUGH_TOKENS_GPU = 1024
LOWEST = -1e4  # nats; a forbidden token has -inf, which times its probability 0 would be no number


@dataclass(frozen=True)
class TextScore:
    """One text after its prompt, a number for each of its tokens.

    `token_nll`: nats. `argmax_correct`: 1 where the token is the most likely one; `argmax` is that one.
    `token_mean` and `token_std`: mean and standard deviation of log p(v) for v drawn from the next-token
    distribution p there, in nats; None where they were not asked for.
    """

    token_nll: list[float]
    argmax_correct: list[int]
    argmax: list[int] = field(default_factory=list)
    token_mean: list[float] | None = None
    token_std: list[float] | None = None

    @property
    def nll(self) -> float:
        return math.fsum(self.token_nll)

    @property
    def tokens(self) -> int:
        return len(self.token_nll)


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
    sequences = [
        encode_texts(tokenizer, prompt_format, split, record, record_texts(record), max_length)
        for record in records
    ]
    scores = score_groups(
        model, sequences, max_tokens_per_batch=max_tokens_per_batch, pad_id=pad_id, on_progress=on_progress
    )
    for record, texts_scores in zip(records, scores, strict=True):
        check_finite(f"split {split!r}, record {record.id!r}", texts_scores)
    return scores


def encode_texts(
    tokenizer,
    prompt_format: PromptFormat,
    split: str,
    record: Record,
    texts: Sequence[str],
    max_length: int,
) -> list[Example]:
    """The texts after the record's prompt, as tokens. `UserError` for one that is too long."""
    asked = [replace(record, answer=text) for text in texts]
    try:
        return encode_records(asked, tokenizer, prompt_format, max_length, learn=False)
    except UserError as error:
        raise UserError(f"split {split!r}, {error}") from None


def score_groups(
    model,
    groups: Sequence[Sequence[Example]],
    *,
    max_tokens_per_batch: int,
    pad_id: int,
    distribution: bool = False,
    on_progress: Callable[[int], object] = lambda groups: None,
) -> list[list[TextScore]]:
    """Scores of the sequences of each group; the sequences of one group begin alike.

    With `distribution` the first sequence of each group gets `token_mean` and `token_std`.
    """
    trees = [build_tree(group, distribution) for group in groups]
    exact = _trees_are_exact(
        model, [g for g, tree in zip(groups, trees, strict=True) if not tree.is_chain], pad_id
    )
    # Chains take the model's own attention, which is faster. A tree above the budget would need a large
    # attention mask: its texts are scored apart.
    parts: dict[bool, dict[tuple[int, int], PrefixTree]] = {True: {}, False: {}}  # is it a chain?
    for number, (group, tree) in enumerate(zip(groups, trees, strict=True)):
        if tree.is_chain or (exact and len(tree.tokens) <= max_tokens_per_batch):
            parts[tree.is_chain][number, 0] = tree
        else:
            for place, sequence in enumerate(group):
                parts[True][number, place] = build_tree([sequence], distribution and place == 0)
    by_place: dict[tuple[int, int], list[TextScore]] = {}
    for part in (parts[False], parts[True]):
        by_place |= _score_trees(model, part, max_tokens_per_batch, pad_id, on_progress)
    results: list[list[TextScore]] = [[] for _ in groups]
    for number, place in sorted(by_place):
        results[number] += by_place[number, place]
    return results


def check_finite(where: str, scores: Sequence[TextScore]) -> None:
    """Raise a `UserError` that begins with `where` if a log-probability is not a finite number."""
    if not all(math.isfinite(score.nll) for score in scores):
        raise UserError(
            f"{where}: the model gives a log-probability that is not a finite number. Its weights are broken "
            "(a diverged run, or an overflow in half precision): train it again with a lower learning rate "
            "or in fp32."
        )


def record_texts(record: Record) -> list[str]:
    """The texts scored after the record's prompt, in the order of their scores."""
    paraphrase = [] if record.paraphrased_answer is None else [record.paraphrased_answer]
    return [record.answer, *paraphrase, *record.distractors]


def _trees_are_exact(model, groups: Sequence[Sequence[Example]], pad_id: int) -> bool:
    """Does this model score sequences that begin alike the same as a tree and apart?

    Tried on two sequences of the group with the shortest, cut a few tokens after they part, since all that
    can differ is seen there.
    """
    config = model.config.get_text_config()
    if config._attn_implementation not in ("sdpa", "eager"):
        return False  # flash kernels take no block mask
    if getattr(config, "sliding_window", None) is not None:
        return False  # a given mask replaces the window's own
    if not groups:
        return True
    shortest = min(groups, key=lambda group: len(group[0].tokens))
    pair = next(pair for pair in combinations(shortest, 2) if not build_tree(pair).is_chain)
    common = next(t for t, (a, b) in enumerate(zip(pair[0].tokens, pair[1].tokens, strict=False)) if a != b)
    short = [
        replace(
            sequence,
            tokens=sequence.tokens[: common + 8],
            prompt_length=max(1, min(sequence.prompt_length, common)),  # some is scored after they part
        )
        for sequence in pair
    ]
    as_tree = tree_scores(model, [build_tree(short)], pad_id)[0]
    apart = plain_scores(model, short, pad_id)
    return all(
        abs(a - b) <= TREE_TOLERANCE * max(1.0, abs(b)) or (math.isnan(a) and math.isnan(b))
        for one, other in zip(as_tree, apart, strict=True)
        for a, b in zip(one.token_nll, other.token_nll, strict=True)
    )


def _score_trees(
    model,
    trees: dict[tuple[int, int], PrefixTree],
    max_tokens: int,
    pad_id: int,
    on_progress: Callable[[int], object],
) -> dict[tuple[int, int], list[TextScore]]:
    """Scores of the sequences of each tree; progress counts the trees that are first in their group."""
    keys = list(trees)
    lengths = [Example(tuple(trees[key].tokens), 0, i) for i, key in enumerate(keys)]
    results: dict[tuple[int, int], list[TextScore]] = {}
    on_cpu = model.get_input_embeddings().weight.device.type == "cpu"
    enough = ENOUGH_TOKENS if on_cpu else ENOUGH_TOKENS_GPU
    for batch in _little_padding(token_budget_batches(lengths, max_tokens), enough):
        here = [keys[example.index] for example in batch]
        scores = halve_on_out_of_memory(
            [trees[key] for key in here], lambda part: tree_scores(model, part, pad_id)
        )
        results.update(zip(here, scores, strict=True))
        on_progress(sum(place == 0 for _, place in here))
    return results


def _little_padding(batches: list[list[Example]], enough: int) -> list[list[Example]]:
    """Batches cut where lengths, longest first, have fallen by a tenth and what is before is large enough."""
    cut: list[list[Example]] = []
    for batch in batches:
        cut.append([])
        for example in batch:
            longest = len(cut[-1][0].tokens) if cut[-1] else 0
            if len(cut[-1]) * longest >= enough and len(example.tokens) < 0.9 * longest:
                cut.append([])
            cut[-1].append(example)
    return cut


@torch.inference_mode()
def tree_scores(model, trees: Sequence[PrefixTree], pad_id: int) -> list[list[TextScore]]:
    """One forward pass over B trees; for each tree the scores of its sequences."""
    embedding = model.get_input_embeddings().weight
    device = embedding.device
    input_ids, positions, mask = tree_inputs(trees, pad_id, embedding.dtype)
    hidden = model.get_decoder()(
        input_ids=input_ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        use_cache=False,
    ).last_hidden_state  # (B, T, D)
    nodes: dict[int, int] = {}  # flat position in (B, T) -> its row among the N logits
    labels: list[int] = []
    rows: list[int] = []
    described: list[bool] = []
    for b, tree in enumerate(trees):
        for number, (predictors, targets) in enumerate(tree.paths):
            labels += targets
            rows += [nodes.setdefault(b * hidden.shape[1] + node, len(nodes)) for node in predictors]
            described += [tree.distribution and number == 0] * len(targets)
    wanted = hidden.flatten(0, 1)[torch.tensor(list(nodes), device=device)]  # (N, D)
    columns = _score_labels(model.get_output_embeddings(), wanted, rows, labels, described)
    return _cut(columns, trees)


def _score_labels(
    head: torch.nn.Module,
    hidden: torch.Tensor,
    rows: list[int],
    labels: list[int],
    described: list[bool],
) -> tuple[list[float], list[int], list[float], list[float]]:
    """NLL in nats, argmax, mean and standard deviation at each label, read from `hidden` (N, D) at `rows[i]`.

    Mean and deviation are 0 where a label is not `described`.
    """
    row = torch.tensor(rows, device=hidden.device)
    label = torch.tensor(labels, device=hidden.device)
    wide = torch.tensor(described, device=hidden.device)
    nll, mean, std = torch.zeros(3, len(labels), dtype=_wide(hidden[:0]).dtype, device=hidden.device)
    argmax = torch.empty(len(labels), dtype=torch.int64, device=hidden.device)
    size = LOGIT_ROWS if hidden.device.type == "cpu" else LOGIT_ROWS_GPU
    for start in range(0, len(hidden), size):
        logits = _wide(head(hidden[start : start + size]))  # (<= size, V)
        inside = (row >= start) & (row < start + size)
        here = inside.nonzero()[:, 0]
        local, target = row[here] - start, label[here]
        # on CPU ten times closer to float64 than fp32 cross_entropy over a large vocabulary
        normalizer = logits.logsumexp(-1)  # (<= size,)
        nll[here] = normalizer[local] - logits[local, target]
        argmax[here] = logits.argmax(-1)[local]
        here = (inside & wide).nonzero()[:, 0]
        if len(here):
            local = row[here] - start
            log_p = (logits[local] - normalizer[local, None]).clamp_min_(LOWEST)  # (n, V)
            p = log_p.exp()
            mean[here] = (p * log_p).sum(-1)
            std[here] = (p * (log_p - mean[here, None]).square()).sum(-1).sqrt()
    return nll.tolist(), argmax.tolist(), mean.tolist(), std.tolist()


def _wide(values: torch.Tensor) -> torch.Tensor:
    """In fp32 at least: a model of fp64 weights is scored in fp64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _cut(
    columns: tuple[list[float], list[int], list[float], list[float]],
    trees: Sequence[PrefixTree],
) -> list[list[TextScore]]:
    """Give the flat numbers back to the trees and sequences they belong to."""
    results: list[list[TextScore]] = []
    start = 0
    for tree in trees:
        results.append([])
        for number, (_, targets) in enumerate(tree.paths):
            end = start + len(targets)
            nll, argmax = columns[0][start:end], columns[1][start:end]
            correct = [int(guess == target) for guess, target in zip(argmax, targets, strict=True)]
            spread = (
                [column[start:end] for column in columns[2:]] if tree.distribution and number == 0 else []
            )
            results[-1].append(TextScore(nll, correct, argmax, *spread))
            start = end
    return results


def plain_scores(model, examples: Sequence[Example], pad_id: int) -> list[TextScore]:
    """One forward pass over B separate, right-padded sequences, with the model's own causal attention."""
    return [scores[0] for scores in tree_scores(model, [build_tree([e]) for e in examples], pad_id)]
