"""What a rule gives its step: settings as plain values, named files, and a folder to work in."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """One job of a study. A step has one entry point, `run(job)`, and parses `settings` once, at its top.

    `settings`: plain values, as the rule's params hold them. `inputs` and `outputs`: files and folders by
    their names in the rule; an input that this study does not have is None. `work`: the folder of checkpoints
    or of partial results, deleted when the job is done. `identity`: suite, task, model, method, optimizer,
    seed, and whatever else names the model. `code`: the hash of the code that runs, so that a result of other
    code is not taken for this job's. `device`: "auto", "cpu" or "cuda".
    """

    settings: Mapping[str, Any]
    inputs: Mapping[str, Path | list[Path] | None]
    outputs: Mapping[str, Path | list[Path]]
    work: Path | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 1
    code: str = ""

    def input(self, name: str) -> Path:
        """The one file or folder of this name."""
        path = self.inputs[name]
        assert isinstance(path, Path), f"input {name}: expected one path, found {path}"
        return path

    def optional(self, name: str) -> Path | None:
        """The same, or None where this study has none."""
        return None if self.inputs.get(name) is None else self.input(name)

    def several(self, name: str) -> list[Path]:
        """All files of this name."""
        paths = self.inputs[name]
        assert isinstance(paths, list), f"input {name}: expected a list of paths, found {paths}"
        return paths

    def output(self, name: str) -> Path:
        """The one file or folder that is written under this name."""
        path = self.outputs[name]
        assert isinstance(path, Path), f"output {name}: expected one path, found {path}"
        return path

    @property
    def data(self) -> Path:
        """Folder of the prepared task."""
        return self.input("manifest").parent

    @property
    def workplace(self) -> Path:
        """The folder `work`, for a step that keeps something there."""
        assert self.work is not None, "this job was given no folder to work in"
        return self.work


def run_step(step: str, **given: Any) -> None:
    """Run the step, a dotted module, on the job with these fields, which can be sent to other processes."""
    importlib.import_module(step).run(Job(**given))
