"""A run or a stage judged on its way: likelihoods of forget and utility questions after some of its steps.

At a constant learning rate the model after a step is what a run of so many steps with the same warm-up would
leave, so that one run gives a path of trained models. What is judged stands in the step's row of the log,
`judged`: the mean log-probability per token of each forget question, and the mean probability of each utility
split, as metrics/path.py reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.core.files import read_object
from pipeline_lib.data.task_folder import load_splits
from pipeline_lib.engine.likelihoods import LikelihoodReader, NotFiniteError, answers_only
from pipeline_lib.engine.settings import ScoringSettings
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.judged import judged_row, utility_of
from pipeline_lib.models.prompt import PromptFormat
from pipeline_lib.reporting.scores import utility_splits
from pipeline_lib.training.loop import Judge


def judged_steps(total: int, warmup: float, points: int) -> list[int]:
    """So many steps, evenly spread from the end of the warm-up to the last one, both among them."""
    first = max(1, ceil(warmup * total))
    return sorted({round(first + (total - first) * i / (points - 1)) for i in range(points)})


@dataclass(frozen=True)
class Judging:
    """What a run is judged by.

    `settings`: those of the job; of them `trajectory`, with `points` and the evaluation's own on scoring, and
    `max_length`. `data`: the folder of the model's own task, which a stage's own data need not be.
    `matched`: the content of the input of that name, where the run is made again up to its front
    (steps/match.py). It is then judged at every step between the two that it names.
    """

    settings: Mapping[str, Any]
    data: Path
    model: torch.nn.Module
    tokenizer: Any
    prompt_format: PromptFormat
    matched: Mapping[str, Any] | None = None

    def ends(self, row: Mapping[str, Any]) -> bool:
        """Whether a run that is made again is there: at the first step on the other side of the level."""
        if self.matched is None or "judged" not in row:
            return False
        since, until, level = (self.matched[name] for name in ("since", "until", "level"))
        above = utility_of(row["judged"], self.matched["before"]) >= level
        crossed = above != (since["utility"] >= level)
        return row["step"] >= until["step"] or (crossed and row["step"] > since["step"])

    def of(self, total: int, warmup: float) -> Judge:
        """For a run of so many steps."""
        settings = dict(self.settings["trajectory"])
        steps = set(judged_steps(total, warmup, settings.pop("points")))
        if self.matched is not None:
            steps = set(range(max(1, self.matched["since"]["step"]), self.matched["until"]["step"] + 1))
        scoring = ScoringSettings(**settings, max_length=self.settings["max_length"])
        manifest = read_object(self.data / "manifest.json", "evaluate", "utility", "multiple_choice")
        utility = utility_splits(manifest)
        readers = {}
        for split, records in load_splits(self.data, [FORGET_SPLIT, *utility]).items():
            asked = scoring.records_of(split, records)
            read = answers_only(asked, options=split in manifest["multiple_choice"])
            readers[split] = LikelihoodReader(self.tokenizer, self.prompt_format, split, read, scoring)

        def judge(step: int) -> dict[str, Any] | None:
            if step not in steps:
                return None
            self.model.eval()
            try:
                rows = {split: reader.rows(self.model) for split, reader in readers.items()}
            except NotFiniteError:
                return None  # the run diverges in its next step
            finally:
                self.model.train()
            return judged_row(rows, manifest["multiple_choice"])

        return judge
