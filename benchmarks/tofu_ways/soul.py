"""The SOUL paper's own `eval_tofu_forget`, run from a checkout of it; nothing of it is changed or copied.

What stands in its way is put aside from outside: its data come from our records instead of the hub, `.cuda()`
does nothing where there is no GPU, and the sentence embedder (its weights are on the hub; its cost is then
not counted) gives the same vector for every text, so its accuracy means nothing here.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline_lib.data.records import Record


def is_checkout(folder: Path) -> bool:
    return (folder / "src" / "metrics" / "Tofu.py").is_file()


def prepare(records: list[Record], folder: Path) -> Callable[[Any, Any], dict[str, Any]]:
    """A function (model, tokenizer) -> values, with everything imported."""
    import datasets
    import torch

    rows = [
        {
            "question": record.prompt,
            "paraphrased_question": record.paraphrased_prompt or record.prompt,
            "answer": record.answer,
            "paraphrased_answer": record.paraphrased_answer or record.answer,
            "perturbed_answer": list(record.distractors),
        }
        for record in records
    ]

    class Embedder:
        def __init__(self, name: str):
            pass

        def encode(self, text: str, convert_to_tensor: bool):
            return torch.ones(1)

    embedding: Any = types.ModuleType("sentence_transformers")
    embedding.SentenceTransformer = Embedder
    embedding.util = types.SimpleNamespace(pytorch_cos_sim=lambda a, b: a * b)
    sys.modules["sentence_transformers"] = embedding
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_, **__: self
    datasets.load_dataset = lambda *_, **__: datasets.Dataset.from_list(rows)
    os.chdir(folder)
    sys.path.insert(0, str(folder / "src"))
    from metrics.Tofu import eval_tofu_forget

    def evaluate(model, tokenizer) -> dict[str, Any]:
        tokenizer.model_max_length = 512  # it pads its training data to this
        ratios, _, probability, rouge, _, paraphrased, original = eval_tofu_forget(
            model, tokenizer, "forget10"
        )
        return {
            "mean probability": [probability],
            "truth ratio": ratios,
            "mean ROUGE-L": [rouge],
            "answers": [text.rpartition("Answer: ")[2] for text in (*original, *paraphrased)],
        }

    return evaluate
