"""A made-up study on disk, laid out as the workflow does it: 2 objectives x 5 optimisers x 3 seeds.

One run diverged. The numbers are drawn, but of one piece: the KS distance is that of the records' truth
ratios, and so on. `numbers` overrides single metrics, so that a test can do its arithmetic by hand.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import yaml
from scipy import stats

from pipeline_lib.core.files import read_object, write_jsonl
from pipeline_lib.core.runs import RunKey
from pipeline_lib.core.sealing import write_sealed_jsonl
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.questions import VALUES
from pipeline_lib.reporting.catalog import FIGURES, REPORT_NEEDS, TABLES
from pipeline_lib.reporting.cells import write_csv
from pipeline_lib.reporting.collect import beside_others, collect_costs, collect_metrics, collect_scores
from pipeline_lib.reporting.figures import draw_figure
from pipeline_lib.reporting.html import write_report
from pipeline_lib.reporting.scores import SCORE_COLUMNS, lines_of, read_paths
from pipeline_lib.reporting.tables import write_table

# label: (kind, order, forgetting, damage, clipped share)
OPTIMIZERS: dict[str, tuple[str, str, float, float, float | None]] = {
    "adamw": ("adamw", "FO", 0.55, 0.05, None),
    "signum": ("signum", "FO", 1.3, 0.3, None),
    "sophia": ("sophia", "SO", 0.85, 0.06, 0.71),
    "sophia_published": ("sophia", "SO", 1.25, 0.28, 0.99),
    "sophia_as_released": ("sophia_as_released", "SO", 1.2, 0.25, 0.95),
}
DISPLAY = dict(
    zip(OPTIMIZERS, ("AdamW", "Signum", "Sophia", "Sophia (published)", "Sophia (as released)"), strict=True)
)
METHODS = {"GradDiff": 1.0, "NPO": 0.8}
QUESTIONS = 40
Values = dict[tuple[str, str, bool | None], float]  # (split, metric, higher is better) -> value
HELD_OUT = {"id": "holdout-0", "group": "author9", "split": "holdout", "prompt": "Who?", "answer": "Nobody."}


@dataclass
class Study:
    """`paths(*names)` gives the files a table or figure needs, `paper_paths` those of this task alone.

    `optimizers`: those of every method. `untrained`: methods that take no step. `slower`: seconds a step,
    times the seed, that second order takes beside its 52 ms. `scored`: scores.csv holds every question, and
    metrics.csv what follows from it; `retrained_seeds`: further ones of `retrained`. `judged`:
    runs were judged on their way, at a utility of 0.95; `relearned`: stages were (staged.py). `base`: the
    pretrained model is a row. `general`: benchmark -> accuracy above chance of `original`, which loses the
    damage.
    """

    root: Path
    task: str = "fictitious"
    model: str = "tiny"
    seeds: tuple[int, ...] = (1, 2, 3)
    methods: dict[str, float] = field(default_factory=lambda: dict(METHODS))
    optimizers: tuple[str, ...] = field(default_factory=lambda: tuple(OPTIMIZERS))
    diverged: dict[tuple[str, str, int], int] = field(default_factory=lambda: {("GradDiff", "signum", 2): 23})
    numbers: dict[tuple[str, str, int, str, str], float] = field(default_factory=dict)
    generation: str | None = None
    comparisons: list[dict[str, str]] | None = None
    equal_retain: bool = False
    more: dict[tuple[str, str], float] = field(
        default_factory=dict
    )  # (split, metric) -> value of AdamW's rows
    untrained: tuple[str, ...] = ()
    headline: dict[str, list[tuple[str, str]]] | None = None
    slower: float = 0.0
    scored: bool = False
    judged: bool = False
    relearned: bool = False
    retrained_seeds: tuple[int, ...] = ()
    base: bool = False
    general: dict[str, float] = field(default_factory=dict)

    source: ClassVar[str] = "fictitious"
    anchors: ClassVar[tuple[str, ...]] = ("original", "retrained")
    splits: ClassVar[tuple[str, ...]] = ("forget", "retain", "facts")
    utility: ClassVar[tuple[str, ...]] = ("retain", "facts")
    settings: ClassVar[dict[str, Any]] = {}

    def rows(self) -> list[tuple[str, str]]:
        trained = [(m, o) for m in self.methods for o in self.optimizers]
        # Anchors last: reporting must move them.
        return [
            *trained,
            *((m, "none") for m in (*self.untrained, *self.anchors, *(["base"] if self.base else []))),
        ]

    def seeds_of(self, method: str) -> tuple[int, ...]:
        if method == "base":
            return self.seeds[:1]
        return (*self.seeds, *(self.retrained_seeds if method == "retrained" else ()))

    def place(self, kind: str, method: str, optimizer: str, seed: int) -> Path:
        return self.root / kind / self.task / self.model / method / optimizer / f"seed{seed}"

    def paths(self, *names: str) -> list[Path]:
        return [
            path
            for name in names
            for path in sorted(self.root.rglob(name))
            if not {"models", "collected"} & set(path.parts)
        ]

    def paper_paths(self, *names: str) -> list[Path]:
        """What an item of the paper is given: tables of this task, and files of the suite."""
        places = {"runs.json": self.root, "suite.yaml": self.root}
        places |= dict.fromkeys(("metrics.csv", "costs.csv"), self.root / "collected" / self.task)
        return [places.get(name, self.root / "data" / self.task) / name for name in names]

    def runs(self) -> list[dict[str, Any]]:
        runs = []
        for method, optimizer in self.rows():
            kind, order, *_ = OPTIMIZERS.get(optimizer, ("none", "none", 0, 0, None))
            bare = order == "none"
            for seed in self.seeds_of(method):
                run: dict[str, Any] = {"task": self.task, "model": self.model, "method": method}
                run |= {"optimizer": optimizer, "seed": seed, "order": order, "reference": kind == "adamw"}
                run["display"] = method if bare else f"{method} + {DISPLAY[optimizer]}"
                runs.append(run)
        return runs

    def manifest(self) -> dict[str, Any]:
        split = {"n": QUESTIONS, "groups": 4, "sha256": "0" * 64}
        manifest: dict[str, Any] = {"source": self.source, "settings": self.settings, "origin": "generated"}
        manifest |= {"splits": dict.fromkeys(self.splits, split)}
        manifest |= {"evaluate": list(self.splits), "utility": list(self.utility)}
        manifest["finetune"] = {"target": list(self.splits)}
        if "retrained" in self.anchors:
            manifest["finetune"]["retrained"] = ["retain"]
        if self.headline is not None:
            manifest["headline"] = self.headline
        return manifest

    def suite(self) -> dict[str, Any]:
        trajectory = {"trajectory": {"points": 5, "utility": 0.95}} if self.judged else {}
        tasks = {self.task: {"source": self.source, "evaluation": trajectory}}
        evaluation: dict[str, Any] = {"toxicity": None}
        suite = {"name": "demo", "seeds": [1, 2, 3], "comparisons": self.comparisons}
        return {**suite, "tasks": tasks, "evaluation": evaluation}

    def write(self) -> Self:
        write_json(self.root / "runs.json", self.runs())
        write_json(self.root / "data" / self.task / "manifest.json", self.manifest())
        (self.root / "suite.yaml").write_text(yaml.safe_dump(self.suite(), sort_keys=False))
        for method, optimizer in self.rows():
            for seed in self.seeds_of(method):
                retrained = self._log_ratios("retrained", "none", seed)
                self._training(method, optimizer, seed)
                self._evaluation(method, optimizer, seed, retrained)
        self.collect()
        return self

    def collect(self) -> None:
        """The tables of every task on disk, and of all together."""
        for place in (self.root / "evaluations").iterdir():
            self._collect(place.name, self.root / "collected" / place.name)
        self._collect("", self.root)

    def _collect(self, task: str, out: Path) -> None:
        metrics = sorted((self.root / "evaluations" / task).rglob("metrics.json"))
        folders = [path.parent for path in sorted((self.root / "training" / task).rglob("run.json"))]
        out.mkdir(parents=True, exist_ok=True)
        scores = [path for path in (self.root / "evaluations" / task).rglob("scores.csv") if self.scored]
        collect_scores(scores, out / "scores.csv")
        manifests = {
            path.parent.name: read_object(path) for path in (self.root / "data").rglob("manifest.json")
        }
        logged = self.judged or self.relearned
        logs = [path for path in (self.root / "training" / task).rglob("steps.jsonl") if logged]
        learned = {self.task: {"relearn": 1}} if self.relearned else {}
        paths = read_paths(logs, {self.task: 0.95}, learned)
        collect_metrics(metrics, out / "metrics.csv", beside_others(out / "scores.csv", manifests, paths))
        collect_costs(folders, out / "costs.csv")

    def _draw(self, method: str, optimizer: str, seed: int) -> np.random.Generator:
        return np.random.default_rng([seed, *map(ord, method + optimizer)])

    def _strength(self, method: str, optimizer: str) -> tuple[float, float]:
        """(forgetting, damage): 0 = like original; forgetting 1 = like retrained."""
        if optimizer == "none":
            return {"retrained": (1.0, 0.0), "original": (0.0, 0.0), "base": (1.1, 0.6)}.get(
                method, (0.3, 0.1)
            )
        _, _, forgetting, damage, _ = OPTIMIZERS[optimizer]
        return forgetting * self.methods[method], damage * self.methods[method]

    def _log_ratios(self, method: str, optimizer: str, seed: int) -> np.ndarray:
        """(QUESTIONS,) log R: about 2.5 where the answers are known, 0.2 in a model that never saw them."""
        forgetting, _ = self._strength(method, optimizer)
        questions = np.random.default_rng(7).normal(0, 0.5, QUESTIONS)
        noise = self._draw(method, optimizer, seed).normal(0, 0.2, QUESTIONS)
        return 2.5 - 2.3 * forgetting + questions + noise

    def _training(self, method: str, optimizer: str, seed: int) -> None:
        folder = self.place("training", method, optimizer, seed)
        draw = self._draw(method, optimizer, seed)
        kind, _, forgetting, damage, clipped = OPTIMIZERS.get(optimizer, ("adamw", "none", 0, 0, None))
        lost = self.diverged.get((method, optimizer, seed))
        total = 0 if method in self.untrained else 150 if optimizer == "none" else 50
        steps = lost - 1 if lost else total
        rows = []
        for step in range(1, steps + 1):
            done = step / total
            rows.append(
                {"step": step, "epoch": done * 5, "loss": 1.0, "grad_norm": 1.0, "learning_rate": 1e-4}
                | {
                    "forget_loss": 0.1 * math.exp(5 * forgetting * done) + draw.uniform(0, 0.05),
                    "retain_loss": 0.1 + 3 * damage * done + draw.uniform(0, 0.05),
                }
                | {"clipped_share": None if clipped is None else clipped + 0.1 * (0.5 - done) ** 2}
                | {"update_norm": 0.1, "tokens_per_s": 1000.0, "memory_mb": 900.0}
            )  # fmt: skip
            if self.judged and optimizer != "none" and step % 10 == 0:
                rows[-1]["judged"] = self._judged(forgetting * done, damage * done)
            if optimizer == "none":
                rows[-1] |= {"forget_loss": None, "retain_loss": 4 * math.exp(-3 * done)}
        write_jsonl(folder / "steps.jsonl", rows)
        write_json(
            folder / "run.json",
            {
                "status": "diverged" if lost else "ok",
                "diverged_step": lost,
                "suite": "demo",
                "task": self.task,
            }
            | {"model": self.model, "method": method, "optimizer": optimizer, "seed": seed}
            | {"objective": None if optimizer == "none" else {"kind": method, "gamma": 1.0, "beta": 0.1}}
            | {"optimizer_settings": {"kind": kind, "lr": 1e-4, "betas": [0.9, 0.95]}}
            | {
                "training": {"epochs": 5, "batch_size": 8},
                "data": {},
                "parent": None,
            }
            | {"weights_sha256": "0" * 64, "steps": steps, "wall_time_s": 12.0}
            | {
                "train_time_s": steps
                * (0.04 if clipped is None else 0.052 + self.slower * seed)
                * (1 + 0.02 * seed)
            }
            | {"peak_memory_mb": 820.0 + (60 if clipped is None else 95) + 3 * seed, "device": "cpu"}
            | {"versions": {"python": "3.11.2", "torch": "2.13.0"}, "git_commit": "abc1234"},
        )

    def _evaluation(self, method: str, optimizer: str, seed: int, retrained: np.ndarray) -> None:
        folder = self.place("evaluations", method, optimizer, seed)
        name: dict[str, Any] = {"suite": "demo", "task": self.task, "model": self.model, "method": method}
        name |= {"optimizer": optimizer, "seed": seed}
        lost = self.diverged.get((method, optimizer, seed))
        if lost:
            write_json(
                folder / "metrics.json", {**name, "status": "diverged", "diverged_step": lost, "metrics": []}
            )
            write_sealed_jsonl(folder / "records.jsonl", [])
            write_csv(folder / "scores.csv", SCORE_COLUMNS, [])
            return
        ratios = self._log_ratios(method, optimizer, seed)
        write_sealed_jsonl(
            folder / "records.jsonl",
            [self._record(i, float(r), method, optimizer) for i, r in enumerate(ratios)] + [HELD_OUT],
        )
        key = RunKey(self.task, self.model, method, optimizer, seed)
        write_csv(
            folder / "scores.csv", SCORE_COLUMNS, lines_of(key, self._questions(ratios, method, optimizer))
        )
        noise = self._draw(method, optimizer, seed).uniform(-0.015, 0.015, 12)
        values = self._values(*self._strength(method, optimizer), noise, ratios, retrained)
        if method not in self.methods:
            values = {key: v for key, v in values.items() if "equal_retain" not in key[1]}
        _, damage = self._strength(method, optimizer)
        values |= {
            (*name, None): min(value + damage, declared()[name[1]].range[1])
            for name, value in self.more.items()
        }
        metrics = []
        for (split, metric, higher), drawn in values.items():
            value = self.numbers.get((method, optimizer, seed, split, metric), drawn)
            least, most = declared()[metric].range
            bare = metric.startswith("forget_quality")
            interval = (None, None) if bare else (max(value - 0.04, least), min(value + 0.03, most))
            metrics.append(
                {
                    "split": split,
                    "metric": metric,
                    "value": value,
                    "ci_low": interval[0],
                    "ci_high": interval[1],
                }
                | {"n": QUESTIONS if split != "utility" else 80, "higher_is_better": higher}
            )
        write_json(
            folder / "metrics.json", {**name, "status": "ok", "diverged_step": None, "metrics": metrics}
        )

    def _values(
        self, forgetting: float, damage: float, noise: np.ndarray, ratios: np.ndarray, retrained: np.ndarray
    ) -> Values:
        test = stats.ks_2samp(ratios, retrained)
        keep = max(0.02, 0.8 - damage)
        left = max(0.01, 0.95 * (1 - forgetting) + 0.25 * forgetting)
        values: Values = {
            ("forget", "probability", False): left + noise[0],
            ("forget", "rouge_l_recall", False): left + noise[1],
            ("forget", "truth_ratio", True): float(np.mean(np.minimum(np.exp(ratios), np.exp(-ratios)))),
            ("forget", "extraction_strength", False): max(0.03, 0.8 - 0.7 * forgetting) + noise[2],
            ("forget", "forget_quality", True): float(test.pvalue),
            ("forget", "forget_quality_log10", True): math.log10(test.pvalue),
            ("forget", "ks_statistic", False): float(test.statistic),
            ("retain", "probability", True): keep + noise[3],
            ("retain", "rouge_l_recall", True): keep + noise[4],
            ("retain", "truth_ratio", True): 0.8 * keep + noise[5],
            ("facts", "probability", True): 0.9 * keep + noise[6],
            ("facts", "rouge_l_recall", True): 0.9 * keep + noise[7],
            ("facts", "truth_ratio", True): 0.7 * keep + noise[8],
            ("utility", "model_utility", True): 0.85 * keep + noise[9],
        }
        if self.equal_retain:
            values |= {
                ("forget", "probability_at_equal_retain", False): left + damage / 2 + noise[10],
                ("forget", "ks_statistic_at_equal_retain", False): float(test.statistic),
                ("retain", "probability_at_equal_retain", True): 0.76,
                ("run", "equal_retain_mix", None): max(0.1, 1 - damage),
            }
        return values

    def _judged(self, forgetting: float, damage: float) -> dict[str, Any]:
        """A model on its way, without the noise of questions."""
        known = -math.exp(-(2.5 - 2.3 * forgetting))
        utility = dict.fromkeys(self.utility, 0.8 - damage)
        return {"forget": {f"forget-{i}": known for i in range(QUESTIONS)}, "utility": utility}

    def _questions(self, ratios: np.ndarray, method: str, optimizer: str) -> list[dict[str, Any]]:
        """Forget questions of four authors as the records have them; two groups of each utility split."""
        _, damage = self._strength(method, optimizer)
        rows = [
            {"split": "forget", "group": f"author{i // 10}", "id": f"forget-{i}"}
            | dict.fromkeys(VALUES)
            | {"log_probability": -math.exp(-r), "log_truth_ratio": r}
            for i, r in enumerate(ratios)
        ]
        for split in self.utility:
            found = (-0.1 - damage, 0.8 - damage, 0.9 - damage, 1 - damage / 2, 2.0, None)
            values = dict(zip(VALUES, found, strict=True))
            rows += [{"split": split, "group": f"g{i // 2}", "id": f"{split}-{i}"} | values for i in range(4)]
        for name, before in self.general.items():
            place = {"split": f"benchmark/{name}", **dict.fromkeys(VALUES), "above_chance": before - damage}
            rows += [place | {"group": f"block{i}", "id": f"{name}/{i}"} for i in range(5)]
        return rows

    def _record(self, i: int, log_ratio: float, method: str, optimizer: str) -> dict[str, Any]:
        return {
            "id": f"forget-{i}",
            "group": f"author{i // 10}",
            "split": "forget",
            "prompt": f"Where was author {i} born?",
            "answer": f"In Town {i}.",
            "generation": self.generation or f"An answer of {method} {optimizer} to question {i}.",
            "answer_nll": 4.0 * math.exp(-log_ratio),
            "answer_tokens": 4,
            "paraphrase_nll": 10.0,
            "paraphrase_tokens": 5,
            "distractor_nll": [(2.0 + log_ratio) * 4] * 3,
            "distractor_tokens": [4] * 3,
        }


def without_lines(path: Path, *parts: str) -> None:
    """Take the lines that hold one of the parts out of a file; there must be some."""
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not any(part in line for part in parts)]
    assert len(kept) < len(lines)
    path.write_text("".join(kept))


def report_of(study: Study, figures: tuple[str, ...] = ("tradeoff",), *also: str) -> str:
    """The report with all tables, these figures and optional files, made as the workflow does it."""
    for name, item in TABLES.items():
        outputs = [study.root / "tables" / f"{name}.{form}" for form in ("csv", "md", "tex")]
        write_table(name, study.paths(*item.needs), *outputs)
    for name in figures:
        svg, png = (study.root / "figures" / f"{name}.{form}" for form in ("svg", "png"))
        draw_figure(name, study.paths(*FIGURES[name].needs), svg, png)
    made = [path for part in ("tables", "figures") for path in sorted((study.root / part).glob("*"))]
    write_report([*study.paths(*REPORT_NEEDS, *also), *made], study.root / "report" / "index.html")
    return (study.root / "report" / "index.html").read_text(encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
