"""What is said of a run of the workflow in which no job was started."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.operations import launching
from tests.paths import REPO


@pytest.mark.parametrize("brief", [False, True])
def test_a_run_that_had_nothing_to_do_is_told_unless_it_is_one_of_many(
    brief: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`echo` stands in place of Python: it says its arguments and ends well."""
    monkeypatch.setattr(launching.sys, "executable", "echo")
    assert launching.launch(REPO / "config.yaml", tmp_path, brief=brief) == 0
    assert ("snakemake" in capsys.readouterr().out) is not brief
