"""OpenUnlearning's own TOFU evaluation and GradDiff, run from a checkout of it; nothing is changed or copied.

What stands in its way is put aside from outside: its data come from our records instead of the hub, and
lm-eval, which its package imports but this part does not use, is an empty module.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import json
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline_lib.data.records import Record

METRICS = ("forget_Q_A_Prob", "forget_Q_A_ROUGE", "forget_truth_ratio", "extraction_strength")  # its defaults
# The same text as our prompt; its tokens are cut after "Answer:", so the space is the answer's.
TEMPLATE = {
    "apply_chat_template": False,
    "user_start_tag": "### Question: ",
    "user_end_tag": "\n",
    "asst_start_tag": "### Answer:",
    "asst_end_tag": "",
}


def is_checkout(folder: Path) -> bool:
    return (folder / "src" / "evals" / "tofu.py").is_file()


def _stand_in(*names: str) -> None:
    """Empty modules with the names that its package imports."""
    for name in names:
        module = sys.modules.setdefault(name, types.ModuleType(name))
        for attribute in ("HFLM", "TaskManager", "simple_evaluate"):
            setattr(module, attribute, object)


def prepare(records: list[Record], folder: Path) -> Callable[[Any, Any], dict[str, Any]]:
    """A function (model, tokenizer) -> values, with everything imported."""
    _stand_in("lm_eval", "lm_eval.models", "lm_eval.models.hf_vlms", "lm_eval.tasks")
    sys.path.insert(0, str(folder / "src"))
    import data.qa
    import datasets
    from evals.tofu import TOFUEvaluator
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    rows = [
        {
            "question": record.prompt,
            "answer": f" {record.answer}",
            "paraphrased_answer": f" {record.paraphrased_answer or record.answer}",
            "perturbed_answer": [f" {text}" for text in record.distractors],
        }
        for record in records
    ]
    data.qa.load_hf_dataset = lambda *_, **__: datasets.Dataset.from_list(rows)
    with initialize_config_dir(config_dir=str(folder / "configs"), version_base=None):
        config = compose("eval.yaml", overrides=["task_name=benchmark"])
    output = tempfile.mkdtemp()
    settings = config.eval.tofu
    settings.output_dir, settings.overwrite = output, True
    OmegaConf.set_struct(config, False)
    for name in set(settings.metrics) - set(METRICS):
        del settings.metrics[name]

    def evaluate(model, tokenizer) -> dict[str, Any]:
        TOFUEvaluator(settings).evaluate(model=model, tokenizer=tokenizer, template_args=TEMPLATE)
        logs = json.loads((Path(output) / "TOFU_EVAL.json").read_text())
        index = [str(i) for i in range(len(rows))]
        prob, rouge, ratio, extraction = (logs[name]["value_by_index"] for name in METRICS)
        return {
            "probability": [prob[i]["prob"] for i in index],
            "truth ratio": [ratio[i]["score"] for i in index],
            "ROUGE-L": [rouge[i]["rougeL_recall"] for i in index],
            "extraction": [extraction[i]["score"] for i in index],
            "answers": [rouge[i]["generation"] for i in index],
        }

    return evaluate


def import_trainers(folder: Path) -> Any:
    """Its module of GradDiff. DeepSpeed, which its package imports and this part never uses, can lack."""
    _stand_in("lm_eval", "lm_eval.models", "lm_eval.models.hf_vlms", "lm_eval.tasks")
    if importlib.util.find_spec("deepspeed") is None:
        import transformers.models.llama.modeling_llama  # noqa: F401  # it asks whether DeepSpeed is there

        absent = types.ModuleType("deepspeed")
        absent.__spec__ = importlib.machinery.ModuleSpec("deepspeed", None)
        sys.modules["deepspeed"] = absent
    sys.path.insert(0, str(folder / "src"))
    from trainer.unlearn import grad_diff

    return grad_diff


def grad_diff_loss(model, tokenizer, folder: Path) -> Callable[[list[list[Any]]], Any]:
    """Its GradDiff with its default settings: a pair of lists of our examples -> loss.

    Batches are those of its collator. It masks every token that equals the one it pads with, so padding is a
    token that no text holds: with the end token, which some models pad with, its loss would be another.
    """
    import torch

    module = import_trainers(folder)
    from data.collators import DataCollatorForSupervisedDataset

    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(len(tokenizer) - 1)
    collate = DataCollatorForSupervisedDataset(tokenizer)
    trainer = types.SimpleNamespace(gamma=1.0, alpha=1.0, retain_loss_type="NLL")
    trainer.compute_retain_loss = functools.partial(module.GradDiff.compute_retain_loss, trainer)

    def instance(example: Any) -> dict[str, Any]:
        tokens = torch.tensor(example.tokens)
        labels = tokens.clone()
        labels[: example.prompt_length] = -100
        return {"input_ids": tokens, "labels": labels, "attention_mask": torch.ones_like(tokens)}

    def loss(pair: list[list[Any]]) -> Any:
        batches = [collate([instance(example) for example in own]) for own in pair]
        return module.GradDiff.compute_loss(
            trainer, model, dict(zip(("forget", "retain"), batches, strict=True))
        )

    return loss
