"""The studies whose figures are kept (`drawn.py`): together they reach every branch of a figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline_lib.reporting.catalog import ALL_FIGURES, PAPER_FIGURES
from pipeline_lib.reporting.inputs import Inputs
from tests.reporting.staged import write_relearned, write_staged
from tests.reporting.study import QUESTIONS, Study, without_lines, write_json, write_jsonl
from tests.reporting.tasks import Answers, Texts, write_all

TWO = ("adamw", "sophia")
Numbers = dict[tuple[str, str, int, str, str], float]


def _seeds(root: Path) -> Study:
    """Three seeds, one of them lost in one row and all alike in another; also at equal retention."""
    numbers: Numbers = {("GradDiff", "adamw", seed, "forget", "ks_statistic"): 0.4 for seed in (1, 2, 3)}
    return Study(root, untrained=("InContext",), numbers=numbers, equal_retain=True).write()


def _single(root: Path) -> Study:
    """One seed and one trained method; two rows diverged, one before its first step was done."""
    lost = {("NPO", "sophia", 1): 1, ("NPO", "signum", 1): 23}
    methods: dict[str, Any] = {"methods": {"NPO": 0.8}, "untrained": ("InContext",)}
    return Study(root, seeds=(1,), diverged=lost, **methods).write()


def _tasks(root: Path) -> Study:
    """Questions, a text and unsafe answers without `retrained`; `retrained` has no distance to itself."""
    few: dict[str, Any] = {"root": root, "seeds": (1, 2), "optimizers": TWO, "diverged": {}}
    authors = Study(**few, methods={"GradDiff": 1.0, "NPO": 0.8, "DPO": 0.5})
    answers = Answers(**few, methods={"PO": 0.7}, untrained=("InContext",))
    study = write_all([authors, Texts(**few, methods={"GradDiff": 1.0}), answers])
    without_lines(root / "metrics.csv", *(f",retrained,none,{seed},forget,ks_statistic" for seed in (1, 2)))
    return study


class _Silent(Answers):
    """Nothing but the losses is logged."""

    def _training(self, method: str, optimizer: str, seed: int) -> None:
        super()._training(method, optimizer, seed)
        path = self.place("training", method, optimizer, seed) / "steps.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        write_jsonl(path, [row | {"clipped_share": None, "update_norm": None} for row in rows])


def _pair(root: Path) -> Study:
    """Two tasks of unlike size, one seed; the first logs little and has first order alone."""
    few: dict[str, Any] = {"root": root, "seeds": (1,), "diverged": {}}
    answers = _Silent(**few, optimizers=("adamw",), methods={"PO": 0.7})
    return write_all([answers, Study(**few, optimizers=TWO, methods={"NPO": 0.8})])


def _axes(root: Path) -> Study:
    """Tasks judged by a score up to 100, by a perplexity, by what has no better side, and by nothing.

    The names of the first and of the third axis across are 20 and 21 letters long.
    """
    few: dict[str, Any] = {"root": root, "seeds": (1, 2), "optimizers": ("signum", "sophia"), "diverged": {}}
    few |= {"methods": {"GradDiff": 1.0}}
    known, perplexity = ("retain", "probability"), ("retain", "token_perplexity")
    score, recall, refusals = (
        ("forget", "bleu_corpus"),
        ("forget", "rouge_1_recall"),
        ("unseen", "refusal_rate"),
    )

    def judged(forgetting: tuple[str, str], utility: tuple[str, str]) -> dict[str, Any]:
        return {"headline": {"forgetting": [forgetting], "utility": [utility]}}

    return write_all(
        [
            Texts(**few, **judged(score, perplexity), more={score: 30.0}),
            Texts(**few, **judged(perplexity, known), task="play"),
            Texts(**few, **judged(recall, known), task="poem", more={recall: 0.3}),
            Answers(**few, **judged(refusals, perplexity)),
            Answers(**few, **judged(refusals, ("utility", "model_utility")), task="rude"),
        ]
    )


def _older(root: Path) -> Study:
    """Neither truth ratios nor a distance: the forget probability judges."""
    study = Study(root, seeds=(1, 2), methods={"NPO": 0.8}, diverged={}).write()
    without_lines(root / "metrics.csv", ",ks_statistic,", ",forget_quality", ",truth_ratio,")
    return study


def _alone(root: Path) -> Study:
    """No `retrained` at all, and one seed."""
    return Answers(root, seeds=(1,), optimizers=TWO, methods={"PO": 0.7}, diverged={}).write()


def _staged(root: Path) -> Study:
    """Rows to which something was done afterwards, and the average of models."""
    return write_staged(root, optimizers=TWO)


def _powerless(root: Path) -> Study:
    """Two seeds that disagree wholly: no difference between the two rows could be found. Many questions."""
    numbers: Numbers = {}
    for seed in (1, 2):
        numbers["NPO", "sophia", seed, "forget", "ks_statistic"] = float(seed == 1)
        numbers["NPO", "adamw", seed, "forget", "ks_statistic"] = float(seed == 2)
    pair = [{"first": "sophia", "second": "adamw", "question": "Does curvature help?"}]
    few: dict[str, Any] = {"seeds": (1, 2), "methods": {"NPO": 1.0}, "optimizers": TWO, "diverged": {}}
    study = Study(root, **few, numbers=numbers, comparisons=pair).write()
    lines = (root / "metrics.csv").read_text().replace(f",{QUESTIONS},", ",800,")
    (root / "metrics.csv").write_text(lines)
    return _of_groups(study, 3)


def _six(root: Path) -> Study:
    """Six seeds, of which some rows lost some; more groups of questions than the curve begins with."""
    few: dict[str, Any] = {"methods": {"NPO": 0.8}, "optimizers": ("adamw", "sophia", "sophia_published")}
    lost = {("NPO", "sophia_published", 3): 9, ("NPO", "sophia_published", 4): 9}
    return _of_groups(Study(root, seeds=(1, 2, 3, 4, 5, 6), diverged=lost, **few).write(), 12)


def _of_groups(study: Study, count: int) -> Study:
    """The study with so many groups of forget questions."""
    manifest = study.manifest()
    manifest["splits"] |= {"forget": {**manifest["splits"]["forget"], "groups": count}}
    write_json(study.root / "data" / study.task / "manifest.json", manifest)
    return study


class _SecondOrder(Study):
    """Every optimiser but AdamW is of second order: the fourth of them has a hollow mark."""

    def runs(self) -> list[dict[str, Any]]:
        second = {"signum": "SO"}
        return [run | {"order": second.get(run["optimizer"], run["order"])} for run in super().runs()]


def _many(root: Path) -> Study:
    """Four methods and a fourth optimiser of one order; one method keeps more utility than `original`."""
    methods = {"GradDiff": 1.0, "NPO": 0.8, "DPO": 0.5, "RMU": 0.4}
    numbers: Numbers = {("RMU", "adamw", 1, "utility", "model_utility"): 0.85}
    return _SecondOrder(root, seeds=(1,), methods=methods, diverged={}, numbers=numbers).write()


def _models(root: Path) -> Study:
    """Two models: one also by the paper's own protocol, one without forget quality and of hardly any use."""
    few: dict[str, Any] = {"root": root, "seeds": (1, 2), "optimizers": TWO, "diverged": {}}
    rows = [*((m, o) for m in ("GradDiff", "NPO") for o in TWO), ("original", "none"), ("retrained", "none")]
    useless: Numbers = {(*row, seed, "utility", "model_utility"): 0.02 for row in rows for seed in (1, 2)}
    small = Study(**few, more={("forget", "forget_quality_as_released"): 0.375})
    study = write_all([small, Study(**few, model="large", numbers=useless)])
    without_lines(root / "collected" / study.task / "metrics.csv", *_lines_of("large", "forget_quality"))
    return study


def _lines_of(model: str, metric: str) -> list[str]:
    """Parts of the lines of metrics.csv that have this metric of this model."""
    rows = [f"{m},{o}" for m in ("GradDiff", "NPO") for o in TWO] + ["original,none", "retrained,none"]
    return [f",{model},{row},{seed},forget,{metric}" for row in rows for seed in (1, 2)]


class _Logged(Study):
    """What optimisers log, with gaps; NPO has no retain loss and takes 150 steps; hours and gibibytes."""

    def _training(self, method: str, optimizer: str, seed: int) -> None:
        super()._training(method, optimizer, seed)
        folder = self.place("training", method, optimizer, seed)
        run = json.loads((folder / "run.json").read_text())
        run |= {"train_time_s": 1000 * run["train_time_s"], "peak_memory_mb": 10 * run["peak_memory_mb"]}
        write_json(folder / "run.json", run)
        npo, every = method == "NPO", 3 if method == "NPO" else 1
        rows = []
        for line in (folder / "steps.jsonl").read_text().splitlines():
            row = json.loads(line)
            for step in range(every * (row["step"] - 1) + 1, every * row["step"] + 1):
                rows.append({**row, "step": step, **self._logged(npo, optimizer, step, row["step"])})
                rows[-1]["forget_loss"] = row["forget_loss"] and row["forget_loss"] * (step > 1)
                if npo:
                    rows[-1] |= {"retain_loss": None, "clipped_share": None}
        write_jsonl(folder / "steps.jsonl", rows)

    @staticmethod
    def _logged(npo: bool, optimizer: str, step: int, time: int) -> dict[str, float | None]:
        """NPO's mean curvature begins below 0, that of GradDiff at 0; one optimiser estimates it once."""
        curvature = (0.2 if npo else 1e-3) * (time - 1) ** 2 - 0.01 * npo
        if optimizer == "sophia_published":
            curvature = 0.002
        estimated = {"sophia": time % 10 == 1, "sophia_published": step == 1}.get(optimizer, False)
        norm = 0.01 * step if optimizer == "adamw" else None
        return {"update_norm": norm, "curvature_mean": curvature if estimated else None}


def _logged(root: Path) -> Study:
    """Two seeds with what `_Logged` has; one run diverged."""
    lost = {("GradDiff", "sophia", 2): 23}
    return _Logged(root, seeds=(1, 2), optimizers=(*TWO, "sophia_published"), diverged=lost).write()


class _Directions(Study):
    """With `diagnostics`, but for one of the two optimisers of second order."""

    def _training(self, method: str, optimizer: str, seed: int) -> None:
        super()._training(method, optimizer, seed)
        path = self.place("training", method, optimizer, seed) / "steps.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            done = row["step"] / len(rows)
            if "sophia" in optimizer:
                row["clipped_norm_share"] = 0.9 + 0.1 * done**2
            if optimizer == "sophia":
                row |= {"cosine_signum": 0.8 + 0.1 * done, "cosine_adamw": 0.7 - 0.2 * done}
        write_jsonl(path, rows)


def _directions(root: Path) -> Study:
    """One method with a line of directions; one of its optimisers has no cosines."""
    few: dict[str, Any] = {"seeds": (1,), "methods": {"NPO": 0.8}, "diverged": {}}
    return _Directions(root, **few, optimizers=("sophia", "sophia_published")).write()


def _judged(root: Path) -> Study:
    """Every question is kept, `retrained` has further seeds; runs of one of two tasks were judged."""
    few: dict[str, Any] = {"root": root, "seeds": (1, 2), "optimizers": TWO, "diverged": {}, "scored": True}
    few |= {"methods": {"NPO": 1.0}, "retrained_seeds": (3, 4)}
    return write_all([Study(**few, judged=True), Study(**few, task="unjudged")])


def _relearned(root: Path) -> Study:
    """A stage that was judged on its way, of both rows and of what they are held against."""
    return write_relearned(root)


STUDIES: dict[str, Callable[[Path], Study]] = {
    function.__name__.removeprefix("_"): function
    for function in (
        *(_seeds, _single, _tasks, _pair, _axes, _older, _alone),
        *(_staged, _powerless, _six, _many, _models, _logged, _directions, _judged, _relearned),
    )
}
SHOWN = {
    "tradeoff": ("seeds", "single", "tasks", "axes", "older", "staged", "judged"),
    "forest": ("seeds", "powerless", "alone", "judged"),
    "fronts": ("judged",),
    "recovery": ("relearned", "judged"),
    "distance": ("seeds", "single", "tasks", "older", "alone", "staged"),
    "truth_ratio": ("seeds", "single", "tasks", "older", "alone"),
    "trajectory": ("logged", "single", "pair", "staged", "directions"),
    "cost": ("seeds", "single", "pair", "logged", "many", "staged"),
    "power": ("seeds", "single", "tasks", "older", "alone", "staged", "powerless", "six"),
    "figure_highlight": ("seeds", "single", "models", "staged", "many"),
}


@dataclass(frozen=True)
class Variant:
    """One figure of one study."""

    figure: str
    study: str

    def inputs(self, folder: Path) -> Inputs:
        """Of the study, which is written into `folder` at its first use."""
        root = folder / self.study / "demo"
        study = _written(self.study, root)
        needs = ALL_FIGURES[self.figure].needs
        if self.figure in PAPER_FIGURES:
            return Inputs(study.paper_paths(*needs), tasks=[study.task])
        return Inputs(study.paths(*needs))


@cache
def _written(name: str, root: Path) -> Study:
    return STUDIES[name](root)


VARIANTS = {
    f"{figure}-{study}": Variant(figure, study) for figure, studies in SHOWN.items() for study in studies
}
