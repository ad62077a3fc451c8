"""A kept study gives its tables, figures and verdicts again from its small files alone."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from tests.paths import REPO

sys.path.insert(0, str(REPO / "benchmarks"))
import kept_study

REFERENCE = REPO / "results" / "reference"
CONTROLS = REFERENCE / "core-controls"


def test_what_is_made_again_is_what_the_run_made(tmp_path: Path) -> None:
    """A table to the byte, and the figure that needs the paths of the runs."""
    assert kept_study.write(CONTROLS, tmp_path, ["comparisons", "fronts"]) == []
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"fronts.svg", "fronts.png"}
    for form in ("csv", "md", "tex"):
        made = tmp_path / "tables" / f"comparisons.{form}"
        assert made.read_bytes() == (CONTROLS / "tables" / made.name).read_bytes()


@pytest.mark.parametrize("name", ["demo", "core"])
def test_verdicts_follow_the_kept_scores(name: str, tmp_path: Path) -> None:
    kept_study.write(REFERENCE / name, tmp_path, [kept_study.VERDICTS])
    kept = REFERENCE / name / "verdicts.csv"
    assert (tmp_path / kept.name).read_text("utf-8") == kept.read_text("utf-8"), (
        f"`python benchmarks/kept_study.py results/reference/{name} results/reference/{name} verdicts` "
        "writes it anew"
    )


def test_what_reads_more_than_is_kept_is_left_out_by_name(tmp_path: Path) -> None:
    said = kept_study.write(CONTROLS, tmp_path, ["trajectory", "truth_ratio", "settings"])
    assert [line.partition(", ")[0] for line in said] == [
        "left out: tables/settings",
        "left out: figures/truth_ratio",
        "left out: figures/trajectory",
    ]
    assert said[2].endswith("steps.jsonl") and not list(tmp_path.rglob("*.svg"))


def test_other_questions_than_those_that_were_asked_are_refused(tmp_path: Path) -> None:
    shutil.copytree(CONTROLS, tmp_path / "kept", ignore=shutil.ignore_patterns("figures", "tables"))
    suite = tmp_path / "kept" / "suite.yaml"
    suite.write_text(suite.read_text("utf-8").replace("n_facts: 60\n    seed: 0", "n_facts: 60\n    seed: 1"))
    with pytest.raises(UserError, match=r"its forget questions are not those of scores\.csv"):
        kept_study.write(tmp_path / "kept", tmp_path / "out", [kept_study.VERDICTS])
