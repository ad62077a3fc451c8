from __future__ import annotations

import pytest

from tests.workflow.study import SUITE, Study


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Study:
    """The small study, run to its report. Tests that change it work on a copy."""
    study = Study(tmp_path_factory.mktemp("study") / "project", SUITE)
    done = study.snakemake()
    assert done.returncode == 0, done.stdout[-6000:]
    return study
