"""A study of two methods with rows of models to which something was done afterwards, and of averaged ones."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.reporting.cells import write_csv
from tests.reporting.study import QUESTIONS, Study, write_json, write_jsonl

# (method, optimiser, after) -> display, the row that it is laid out as, mean KS D, mean model utility
STAGED = {
    ("NPO", "adamw", "other"): ("NPO + AdamW, then other", ("NPO", "adamw"), 0.11, 0.61),
    ("NPO", "sophia", "other"): ("NPO + Sophia, then other", ("NPO", "sophia"), 0.22, 0.62),
    ("original", "none", "other"): ("original, then other", ("original", "none"), 0.83, 0.63),
    ("retrained", "none", "other"): ("retrained, then other", ("retrained", "none"), 0.14, 0.64),
    ("soup", "none", ""): ("soup", ("NPO", "adamw"), 0.45, 0.65),
    ("soup", "none", "later"): ("soup, then later", ("NPO", "adamw"), 0.47, 0.66),
    ("halfway", "none", ""): ("halfway", ("retrained", "none"), 0.05, 0.67),
    ("halfway", "none", "other"): ("halfway, then other", ("retrained", "none"), 0.06, 0.68),
}
NOT_UNLEARNED = ("original", "retrained", "halfway")  # `halfway`: the average of the other two
TAUGHT, MORE = 0.5, 0.25  # by a stage, in nats per token of each forget question; to NPO + Sophia beyond
STEPS = 7  # of every stage that trains
SPREAD = {1: -0.01, 2: 0.0, 3: 0.01}  # seed -> what it adds to a mean


def write_staged(root: Path, **settings: Any) -> Study:
    """The study with the rows of `STAGED` beside its own."""
    study = Study(root, diverged={}, **settings).write()
    runs = study.runs()
    for (method, optimizer, after), (display, base, d, utility) in STAGED.items():
        for seed, more in SPREAD.items():
            name = {"method": method, "optimizer": optimizer, "after": after}
            (run,) = [r for r in runs if (r["method"], r["optimizer"], r["seed"]) == (*base, seed)
                      and not r.get("after")]  # fmt: skip
            own = {} if after else {"order": "none", "reference": False}
            own["unlearned"] = method not in NOT_UNLEARNED
            runs.append({**run, **name, **own, "display": display})
            made = f"seed{seed}.{after}" if after else f"seed{seed}"
            training, evaluation = (
                study.place(kind, method, optimizer, seed).with_name(made)
                for kind in ("training", "evaluations")
            )
            shutil.copytree(study.place("training", *base, seed), training)
            shutil.copytree(study.place("evaluations", *base, seed), evaluation)
            _rewrite(training / "run.json", **name, stage=_stage(method, optimizer, after))
            lines = (training / "steps.jsonl").read_text().splitlines(keepends=True)
            (training / "steps.jsonl").write_text("".join(lines[:STEPS] if after else []))
            metrics = json.loads((evaluation / "metrics.json").read_text())["metrics"]
            for metric in metrics:
                mean = {"ks_statistic": d, "model_utility": utility}.get(metric["metric"])
                if mean is not None:
                    metric |= {"value": mean + more, "ci_low": None, "ci_high": None}
            _rewrite(evaluation / "metrics.json", **name, metrics=metrics)
            _rewrite_scores(evaluation / "scores.csv", method, optimizer, after)
    kinds = {"other": "finetune", "later": "finetune", "soup": "average", "halfway": "average"}
    suite = {**study.suite(), "stages": {label: {"kind": kind} for label, kind in kinds.items()}}
    (study.root / "suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    write_json(study.root / "runs.json", runs)
    study.collect()
    return study


def _stage(method: str, optimizer: str, after: str) -> dict[str, Any]:
    """What run.json says of the stage that made the model."""
    if not after:
        parents = {"soup": ["NPO+adamw", "NPO+sophia"], "halfway": ["original", "retrained"]}[method]
        return {"kind": "average", "weights": None, "of": parents}
    of = method if optimizer == "none" else f"{method}+{optimizer}"
    return {"kind": "finetune", "split": "facts", "learning_rate": 1e-5, "epochs": 3, "of": [of]}


def _rewrite_scores(path: Path, method: str, optimizer: str, after: str) -> None:
    """The scores under the model's own name; a stage teaches `TAUGHT`, one model more."""
    head, *lines = list(csv.reader(path.read_text().splitlines()))
    taught = TAUGHT + (MORE if (method, optimizer, after) == ("NPO", "sophia", "other") else 0)
    own = {"method": method, "optimizer": optimizer, "after": after}
    for line in lines:
        row = dict(zip(head, line, strict=True)) | own
        if after and row["split"] == "forget":
            row["log_probability"] = str(float(row["log_probability"]) + taught)
        line[:] = list(row.values())
    write_csv(path, head, lines)


def _rewrite(path: Path, **changed: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **changed})


RELEARNED = {  # row -> levels of the forget answers at steps 0, 2, 6 and 10, in nats per token
    ("original", "none"): (-0.5, -0.6, -0.7, -0.8),
    ("retrained", "none"): (-4.0, -3.6, -3.2, -3.0),
    ("NPO", "adamw"): (-6.0, -4.0, -3.2, -3.05),  # rises to `retrained` and no further
    ("NPO", "sophia"): (-4.0, -2.5, -1.2, -1.5),
}
JUDGED_AT = (0, 2, 6, 10)
TAUGHT_GROUPS = 1


def write_relearned(root: Path, retrained_seeds: tuple[int, ...] = (4, 5), **settings: Any) -> Study:
    """A study whose stage `relearn` teaches the first author and is judged on its way, by `RELEARNED`.

    A seed moves the levels of its models up by a hundredth of its number where that is even, else down.
    """
    few: dict[str, Any] = {"methods": {"NPO": 1.0}, "optimizers": ("adamw", "sophia"), "diverged": {}}
    study = Study(root, scored=True, relearned=True, retrained_seeds=retrained_seeds, **few, **settings)
    study.write()
    runs = study.runs()
    for (method, optimizer), levels in RELEARNED.items():
        for seed in study.seeds_of(method):
            (run,) = [r for r in runs if (r["method"], r["optimizer"], r["seed"]) == (method, optimizer, seed)
                      and not r.get("after")]  # fmt: skip
            display = f"{run['display']}, then relearn"
            own = {"after": "relearn", "display": display, "unlearned": method == "NPO"}
            runs.append({**run, **own, "learned": {"relearn": TAUGHT_GROUPS}})
            before, evaluated = (
                study.place(kind, method, optimizer, seed) for kind in ("training", "evaluations")
            )
            training, evaluation = (place.with_name(f"seed{seed}.relearn") for place in (before, evaluated))
            shutil.copytree(before, training)
            shutil.copytree(evaluated, evaluation)
            name = {"method": method, "optimizer": optimizer, "after": "relearn"}
            _rewrite(training / "run.json", **name, stage={"kind": "finetune", "of": [method]})
            _rewrite(evaluation / "metrics.json", **name)
            moved = [level + 0.01 * seed * (-1) ** seed for level in levels]
            for folder, level in ((evaluated, moved[0]), (evaluation, moved[-1])):
                _level(folder / "scores.csv", level, "relearn" if folder == evaluation else "")
            utility = dict.fromkeys(study.utility, 0.8)
            rows = [
                {"step": step, "epoch": step / 5, "loss": 1.0, "clipped_share": None}
                | ({"judged": {"forget": _known(moved[JUDGED_AT.index(step)]), "utility": utility}}
                   if step in JUDGED_AT else {})
                for step in range(1, JUDGED_AT[-1] + 1)
            ]  # fmt: skip
            write_jsonl(training / "steps.jsonl", rows)
    write_json(study.root / "runs.json", runs)
    study.collect()
    return study


def _known(level: float) -> dict[str, float]:
    """Of every question; what the stage teaches is known, and counts for nothing."""
    return {f"forget-{i}": 0.0 if i < 10 * TAUGHT_GROUPS else level for i in range(QUESTIONS)}


def _level(path: Path, level: float, after: str) -> None:
    head, *lines = list(csv.reader(path.read_text().splitlines()))
    for line in lines:
        row = dict(zip(head, line, strict=True)) | {"after": after}
        if row["split"] == "forget":
            known = _known(level)[row["id"]]
            row["log_probability"] = str(known if after else level)
        line[:] = list(row.values())
    write_csv(path, head, lines)
