"""The smallest study: four fictitious authors, a tiny scratch model, and one call a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.models.scratch import PROMPT_TEMPLATE
from pipeline_lib.steps import evaluate, finetune, unlearn

TASK = {
    "source": "fictitious",
    "n_authors": 4,
    "questions_per_author": 2,
    "forget_authors": 2,
    "holdout_authors": 2,
    "n_facts": 3,
    "seed": 0,
}
MODEL = {
    "source": "scratch",
    "vocab_size": 300,
    "hidden_size": 16,
    "intermediate_size": 24,
    "layers": 2,
    "heads": 2,
    "kv_heads": 1,
    "max_length": 160,
    "prompt": {"kind": "template", "template": PROMPT_TEMPLATE, "answer_prefix": ""},
}
EVALUATION = {
    "max_new_tokens": 6,
    "max_records": {},
    "max_tokens_per_batch": 512,
    "compute": "fp32",
    "grad_norm": False,
    "samples": None,
    "as_released": False,
}
TRAINING = {
    "epochs": 3,
    "batch_size": 4,
    "accumulation": 1,
    "warmup": 0.0,
    "decay": "constant",
    "max_grad_norm": 1.0,
    "compute": "fp32",
    "checkpoint_seconds": 0,
}
FINETUNE = {**TRAINING, "learning_rate": 1e-2, "weight_decay": 0.0}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "GradAscent": {"kind": "GradAscent"},
    "GradDiff": {"kind": "GradDiff", "gamma": 1.0},
    "KL": {"kind": "KL", "gamma": 1.0},
    "PO": {"kind": "PO", "gamma": 1.0},
    "NPO": {"kind": "NPO", "beta": 0.1, "alpha": 1.0},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adamw": {"kind": "adamw", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "sgd": {"kind": "sgd", "momentum": 0.9},
    "signum": {"kind": "signum", "momentum": 0.9},
    "lion": {"kind": "lion", "beta1": 0.9, "beta2": 0.99},
    "muon": {"kind": "muon", "momentum": 0.95, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "sophia": {
        "kind": "sophia",
        "beta1": 0.96,
        "beta2": 0.99,
        "gamma": 0.05,
        "clipped_target": None,
        "eps": 1e-12,
        "estimator": "gauss_newton_bartlett",
        "update_every": 2,
        "drift_target": None,
        "curvature_data": "both",
        "curvature_examples": None,
    },
    "sophia_as_released": {"kind": "sophia_as_released", "beta1": 0.9, "beta2": 0.95, "rho": 0.04},
    "influence": {
        "kind": "influence",
        "solver": "conjugate_gradient",
        "damping": 1.0,
        "max_iterations": 20,
        "tolerance": 0.01,
        "curvature_data": "retain",
        "curvature_examples": 4,
    },
}


def folders(root: Path) -> dict[str, Path]:
    return {
        "model_dir": root / "model",
        "training_dir": root / "training",
        "checkpoint_dir": root / "checkpoint",
    }


def identity(method: str, optimizer: str) -> dict[str, Any]:
    return {
        "suite": "test",
        "task": "authors",
        "model": "tiny",
        "method": method,
        "optimizer": optimizer,
        "seed": 0,
    }


def run_finetune(
    root: Path,
    data: Path,
    method: str = "original",
    model_settings: dict[str, Any] = MODEL,
    **changes: Any,
) -> Path:
    """Fine-tune into `root` and return the model folder."""
    finetune.run(
        identity(method, "none"),
        model_settings=model_settings,
        finetune={**FINETUNE, **changes},
        device="cpu",
        threads=1,
        data_dir=data,
        **folders(root),
    )
    return root / "model"


def run_unlearn(
    root: Path, data: Path, parent: Path, method: str, optimizer: str, rate: float = 1e-3, **changes: Any
) -> Path:
    """Unlearn into `root` and return the model folder."""
    unlearn.run(
        identity(method, optimizer),
        objective=OBJECTIVES[method],
        optimizer={
            **OPTIMIZERS[optimizer],
            "learning_rate": rate,
            **({} if optimizer == "influence" else {"weight_decay": 0.1}),
        },
        unlearn={**TRAINING, "weights": "fp32", "lora": None, **changes},
        max_length=160,
        device="cpu",
        threads=1,
        data_dir=data,
        parent_dir=parent,
        **folders(root),
    )
    return root / "model"


def run_evaluate(
    root: Path, data: Path, model: Path, original: Path | None, bound: float | None, **changes: Any
) -> None:
    """Evaluate into `root`; with `bound` also at equal retention. `changes`: of the settings."""
    evaluate.run(
        evaluation={**EVALUATION, **changes},
        embedder=None,
        equal_retain=bound,
        max_length=160,
        device="cpu",
        threads=1,
        data_dir=data,
        model_dir=model,
        original_dir=original,
        records_path=root / "records.jsonl",
        equal_retain_path=root / "equal_retain.json",
        work_dir=root / "work",
    )
