"""Data and the model before unlearning, made once for all tests of the steps."""

from __future__ import annotations

import pytest

from pipeline_lib.steps.prepare_data import prepare_task
from tests.steps.study import TASK, run_finetune


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Folder of the prepared task."""
    folder = tmp_path_factory.mktemp("data")
    prepare_task(TASK, folder / "authors")
    return folder / "authors"


@pytest.fixture(scope="session")
def original(tmp_path_factory, data):
    """Model folder of the fine-tuned model."""
    return run_finetune(tmp_path_factory.mktemp("original"), data)
