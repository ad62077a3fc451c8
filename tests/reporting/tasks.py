"""Made-up studies of other kinds of tasks than questions, and suites of several.

`Texts` is running text, without truth ratios; `Answers` unsafe answers, of a model that has no `retrained`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import yaml
from scipy import stats

from tests.reporting.study import Study, Values, write_json


@dataclass
class Texts(Study):
    """Running text with two lengths of prompts."""

    task: str = "book"
    headline: dict[str, list[tuple[str, str]]] | None = field(
        default_factory=lambda: {
            "forgetting": [
                ("forget", "ks_statistic_likelihood"),
                ("forget", "rouge_l_recall"),
                ("forget_300", "extraction_rate"),
            ],
            "utility": [("retain", "token_perplexity"), ("retain", "probability")],
        }
    )

    source: ClassVar[str] = "passages"
    splits: ClassVar[tuple[str, ...]] = ("forget", "forget_300", "unseen", "unseen_300", "retain")
    utility: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[dict[str, Any]] = {"prompt_tokens": [100, 300], "tokenizer": {"id": "owner/name"}}

    def _values(
        self, forgetting: float, damage: float, noise: np.ndarray, ratios: np.ndarray, retrained: np.ndarray
    ) -> Values:
        test = stats.ks_2samp(-ratios, -retrained)
        known = max(0.02, 0.9 - 0.8 * forgetting)
        values: Values = {
            ("forget", "probability", False): known + noise[0],
            ("forget", "ks_statistic_likelihood", False): float(test.statistic),
            ("forget", "forget_quality_likelihood_log10", True): math.log10(test.pvalue),
            ("retain", "token_perplexity", False): 8 * math.exp(6 * damage) * (1 + noise[1]),
            ("retain", "probability", True): max(0.05, 0.6 - damage) + noise[2],
            ("retain", "repetition_4", False): damage,
            ("forget", "repetition_4", False): damage,
        }
        for i, split in enumerate(("forget", "forget_300", "unseen", "unseen_300")):
            left = known if split.startswith("forget") else max(0.02, 0.9 - damage)
            higher = not split.startswith("forget")
            values |= {
                (split, "bleu", higher): 100 * left * (0.8 + 0.05 * i) + noise[3],
                (split, "rouge_l_recall", higher): left * (0.85 + 0.03 * i) + noise[4],
                (split, "longest_match", higher): 60 * left**2,
                (split, "extraction_rate", higher): left**2,
            }
        return values


@dataclass
class Answers(Study):
    """Unsafe answers of a model that learned them before the study."""

    task: str = "toxic"
    headline: dict[str, list[tuple[str, str]]] | None = field(
        default_factory=lambda: {
            "forgetting": [("unseen", "safe_preference"), ("unseen", "refusal_rate")],
            "utility": [("retain", "token_perplexity")],
        }
    )
    toxicity: str | None = "task"  # where its toxicity prompts come from

    source: ClassVar[str] = "manners"
    anchors: ClassVar[tuple[str, ...]] = ("original",)
    splits: ClassVar[tuple[str, ...]] = ("forget", "unseen", "retain")
    utility: ClassVar[tuple[str, ...]] = ()

    def suite(self) -> dict[str, Any]:
        suite = super().suite()
        if self.toxicity:
            suite["tasks"][self.task]["evaluation"] = {"toxicity": {"prompts": {"source": self.toxicity}}}
        return suite

    def _values(
        self, forgetting: float, damage: float, noise: np.ndarray, ratios: np.ndarray, retrained: np.ndarray
    ) -> Values:
        values: Values = {("retain", "token_perplexity", False): 12 * math.exp(damage) * (1 + noise[0])}
        for i, split in enumerate(("forget", "unseen")):
            done = forgetting * (1 - 0.3 * i)
            values |= {
                (split, "safe_preference", True): min(0.98, 0.3 + 0.5 * done) + noise[1],
                (split, "refusal_rate", None): min(0.95, 0.1 + 0.6 * done),
                (split, "truth_ratio", True): 0.4 + 0.1 * done,
                (split, "probability", False): max(0.01, 0.5 - 0.4 * done),
            }
        if self.toxicity:
            values["toxicity", "mean_toxicity", False] = max(0.02, 0.4 - 0.25 * forgetting) + noise[2]
            values["toxicity", "expected_max_toxicity", False] = max(0.05, 0.8 - 0.4 * forgetting)
        return values


def write_all(studies: Sequence[Study]) -> Study:
    """One suite of several tasks; `paths` of any of the studies then gives the files of all."""
    suite: dict[str, Any] = {}
    for study in studies:
        study.write()
        tasks = suite.get("tasks", {})
        suite = study.suite() | suite
        suite["tasks"] = tasks | study.suite()["tasks"]
    write_json(studies[0].root / "runs.json", [run for study in studies for run in study.runs()])
    (studies[0].root / "suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    studies[0].collect()
    return studies[0]
