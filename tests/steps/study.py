"""The smallest study: four fictitious authors, a tiny scratch model, and one call a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.engine.settings import LIKELIHOOD_ONLY
from pipeline_lib.models.scratch import PROMPT_TEMPLATE
from pipeline_lib.steps import evaluate, finetune, score, unlearn
from pipeline_lib.steps.job import Job

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


def job(
    root: Path,
    inputs: dict[str, Path | list[Path] | None],
    outputs: dict[str, str],
    who: dict[str, Any] | None = None,
    /,
    device: str = "cpu",
    work: str = "work",
    code: str = "",
    **settings: Any,
) -> Job:
    """A job that writes into `root`, by the names of its files there, and works in a folder of it."""
    places = {name: root / place for name, place in outputs.items()}
    return Job(settings, inputs, places, root / work, who or {}, device, 1, code)


TRAINED = {"model": "model", "run": "training/run.json"}


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
    base: Path | None = None,
    **changes: Any,
) -> Path:
    """Fine-tune into `root` and return the model folder; `base`: the folder that it starts from."""
    given = {"model": model_settings, "finetune": {**FINETUNE, **changes}, "inputs": {}}
    inputs: dict[str, Any] = {"manifest": data / "manifest.json", "base": base}
    who = identity(method, "none")
    finetune.run(job(root, inputs, TRAINED, who, work="checkpoint", **given))
    return root / "model"


def run_unlearn(
    root: Path,
    data: Path,
    parent: Path,
    method: str,
    optimizer: str,
    rate: float = 1e-3,
    code: str = "",
    **changes: Any,
) -> Path:
    """Unlearn into `root` and return the model folder."""
    stepper = {**OPTIMIZERS[optimizer], "learning_rate": rate}
    if optimizer != "influence":
        stepper["weight_decay"] = 0.1
    unlearn.run(
        unlearning_job(
            root, data, parent, identity(method, optimizer), OBJECTIVES[method], stepper, code, **changes
        )
    )
    return root / "model"


def unlearning_job(
    root: Path,
    data: Path,
    parent: Path,
    who: dict[str, Any],
    objective: dict[str, Any],
    optimizer: dict[str, Any],
    code: str = "",
    **changes: Any,
) -> Job:
    """The job of an unlearning run; `changes`: of how it is trained."""
    return job(
        root,
        {"manifest": data / "manifest.json", "parent": parent, "chosen": None},
        TRAINED,
        who,
        work="checkpoint",
        code=code,
        objective=objective,
        optimizer=optimizer,
        unlearn={**TRAINING, "weights": "fp32", "lora": None, **changes},
        max_length=160,
    )


def run_evaluate(
    root: Path,
    data: Path,
    model: Path,
    original: Path | None,
    bound: float | None,
    embedder: dict[str, Any] | None = None,
    likelihood_only: bool = False,
    **changes: Any,
) -> None:
    """Evaluate into `root`; with `bound` also at equal retention. `changes`: of the settings."""
    evaluate.run(
        job(
            root,
            {"manifest": data / "manifest.json", "model": model, "original": original},
            {"records": "records.jsonl", "equal_retain": "equal_retain.json"},
            evaluation={**EVALUATION, **changes},
            embedder=embedder,
            equal_retain=bound,
            max_length=160,
            **({LIKELIHOOD_ONLY: True} if likelihood_only else {}),
        )
    )


def run_score(
    root: Path, data: Path, model: Path, reference: Path, who: dict[str, Any], **inputs: Path
) -> None:
    """Score what is in `root`, held against the records in the folder `reference`."""
    places = {"records": root / "records.jsonl", "equal_retain": root / "equal_retain.json"}
    places |= {"run": model / "run.json", "reference": reference / "records.jsonl"}
    places |= {"manifest": data / "manifest.json", **inputs}
    score.run(
        job(root, {**places}, {"metrics": "metrics.json", "scores": "scores.csv"}, who, code="of the test")
    )
