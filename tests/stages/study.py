"""Small finished models, and stages applied to them as the workflow does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline_lib.core.files import read_jsonl
from pipeline_lib.core.runs import RunKey
from pipeline_lib.models.folder import load_model_folder
from pipeline_lib.steps import stage
from pipeline_lib.steps.job import Job


class Small:
    """`original`, `unlearned`, `diverged`: model folders of one base model; `data`: their task's folder."""

    def __init__(self, root: Path, data: Path, original: Path, unlearned: Path, diverged: Path) -> None:
        self.root, self.data = root, data
        self.original, self.unlearned, self.diverged = original, unlearned, diverged
        self._made = 0

    def stage(
        self,
        settings: dict[str, Any],
        parents: list[Path],
        seed: int = 0,
        judged: dict[str, Any] | None = None,
        name: str = "",
    ) -> Path:
        """The model folder that a stage makes of these; of the same `name` a job goes on from its checkpoint.

        `judged`: the setting `trajectory`.
        """
        self._made += 1
        key = RunKey("authors", "tiny", "GradDiff", "adamw", seed, 0, name or f"stage{self._made}")
        manifest = self.data / "manifest.json"
        made = self.root / "models" / key.folder
        stage.run(
            Job(
                {"stage": settings, "max_length": 160, **({"trajectory": judged} if judged else {})},
                {"manifest": manifest, "parents": parents, **({"own": manifest} if judged else {})},
                {"model": made, "run": self.training(made) / "run.json"},
                self.root / "checkpoints" / key.folder,
                {"suite": "small", **key._asdict()},
                code="code",
                device="cpu",
            )
        )
        return made

    def training(self, made: Path) -> Path:
        return self.root / "training" / made.relative_to(self.root / "models")

    def log(self, made: Path) -> list[dict[str, Any]]:
        return read_jsonl(self.training(made) / "steps.jsonl")


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in load_model_folder(folder)[0].named_parameters()}
