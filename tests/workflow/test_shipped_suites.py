"""The studies of config/ are planned whole: what would run, without running it."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from tests.paths import REPO
from tests.workflow.study import Study


@pytest.mark.parametrize("name", ["core", "tofu-smollm2"])
def test_the_grid_of_the_core_question_is_planned(name, tmp_path):
    suite = yaml.safe_load((REPO / "config" / f"{name}.yaml").read_text())
    assert len(suite["optimizers"]) == 9 and set(suite["objectives"]) == {"GradDiff", "NPO", "PO"}
    jobs = Counter(rule for rule, _ in Study(tmp_path / "project", suite).planned())
    assert len(suite["seeds"]) == 5 and suite["tune"]["trials"] == 8
    assert jobs["trial"] == 9 * 3 * 8 and jobs["choose"] == 9 * 3
    assert jobs["unlearn"] == 9 * 3 * 5
    assert jobs["score"] == jobs["unlearn"] + 2 * 5  # original and retrained of the fresh seeds
    assert jobs["finetune"] == 2 * 5 + 1  # `original` of the tuning seed
    assert jobs["html_report"] == 1
