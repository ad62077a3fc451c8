"""Finished models, made once for all tests of the stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.steps.prepare_data import prepare_task
from tests.stages.study import Small
from tests.steps.study import TASK, run_finetune, run_unlearn


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    root: Path = tmp_path_factory.mktemp("stages")
    data = root / "data" / "authors"
    prepare_task(TASK, data)
    original = run_finetune(root / "original", data)
    unlearned = run_unlearn(root / "unlearned", data, original, "GradDiff", "adamw", 1e-2)
    diverged = run_unlearn(root / "diverged", data, original, "GradDiff", "adamw", 1e30)
    return Small(root, data, original, unlearned, diverged)
