"""Scoring the answers of one question: one tree of tokens against one sequence an answer.

A model of SmolLM2's width (fewer layers, random weights) scores generated authors with seven
answers each. All ways run in turn in the same process; times are relative to the first row.
"""

from __future__ import annotations

import time

import torch

from pipeline_lib.data.batching import encode
from pipeline_lib.data.fictitious import generate
from pipeline_lib.evaluation.scoring import build_tree, plain_scores, record_texts, tree_scores
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.models.scratch import PROMPT_TEMPLATE, build_scratch

SETTINGS = {
    "vocab_size": 4096,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "layers": 6,
    "heads": 9,
    "kv_heads": 3,
    "max_length": 256,
}
RECORDS = 24
ROUNDS = 3


def main() -> None:
    torch.set_num_threads(1)
    records = generate(n_authors=40)[0][:RECORDS]
    texts = [text for record in records for text in (record.prompt, *record_texts(record))]
    model, tokenizer = build_scratch(SETTINGS, texts, seed=0)
    model.eval()
    prompt = PromptFormat("template", template=PROMPT_TEMPLATE)
    sequences = [
        encode([r.prompt] * len(record_texts(r)), record_texts(r), tokenizer, prompt, SETTINGS["max_length"])
        for r in records
    ]
    flat = [sequence for group in sequences for sequence in group]
    trees = [build_tree(group) for group in sequences]
    pad = tokenizer.pad_token_id
    ways = {
        "one answer at a time": lambda: [plain_scores(model, [sequence], pad)[0] for sequence in flat],
        "batches of 28 answers": lambda: [
            score for i in range(0, len(flat), 28) for score in plain_scores(model, flat[i : i + 28], pad)
        ],
        "trees, 8 questions a batch (ours)": lambda: [
            score
            for i in range(0, len(trees), 8)
            for group in tree_scores(model, trees[i : i + 8], pad)
            for score in group
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    likelihoods = {}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            scores = way()
            seconds[name].append(time.perf_counter() - started)
            likelihoods[name] = [score.nll for score in scores]
    first = min(next(iter(seconds.values())))
    reference = next(iter(likelihoods.values()))
    print(f"{len(records)} questions, {len(flat)} answers, one thread, best of {ROUNDS}")
    print(f"{'way':<36}{'s':>8}{'speed-up':>10}{'largest difference (nats)':>28}")
    for name, times in seconds.items():
        difference = max(abs(a - b) for a, b in zip(likelihoods[name], reference, strict=True))
        print(f"{name:<36}{min(times):>8.2f}{first / min(times):>10.2f}{difference:>28.1e}")


if __name__ == "__main__":
    main()
