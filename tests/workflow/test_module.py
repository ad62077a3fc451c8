"""The workflow as a module of another one, with the Snakefile that the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.paths import REPO
from tests.workflow.study import SUITE

ORIGINAL = "results/small/models/authors/tiny/original/none/seed0"


def snakemake(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "1", "--quiet", "rules"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_snakefile_of_the_page_makes_a_study_beside_a_rule_of_its_own(tmp_path: Path) -> None:
    page = (REPO / "docs" / "module.md").read_text(encoding="utf-8")
    (snakefile,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "Snakefile").write_text(snakefile, encoding="utf-8")
    suite = {**SUITE, "evaluation": {"max_new_tokens": 12}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    planned = snakemake(tmp_path, "--dry-run")
    for rule in ("table_of_mine", "unlearning_finetune", "unlearning_unlearn", "unlearning_collect"):
        assert re.search(rf"^{rule} +\d+$", planned, re.MULTILINE), planned
    snakemake(tmp_path, ORIGINAL)
    assert (tmp_path / ORIGINAL / "model.safetensors").is_file()
