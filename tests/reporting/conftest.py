from __future__ import annotations

from pathlib import Path

import pytest

from tests.reporting.study import Study


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A whole study that no test may change."""
    return Study(tmp_path_factory.mktemp("results") / "demo").write()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where a test writes a study of its own."""
    return tmp_path / "demo"
