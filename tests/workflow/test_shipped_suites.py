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
    jobs = Counter(rule for rule, _ in Study(tmp_path / "project", suite).planned())
    assert set(suite["objectives"]) == {"GradDiff", "NPO", "PO"}
    blocks = suite.get("runs") or [{"methods": suite["objectives"], "optimizers": suite["optimizers"]}]
    rows = sum(len(block["methods"]) * len(block["optimizers"]) for block in blocks)
    assert rows == {"core": 10 * 2 + 4, "tofu-smollm2": 9 * 3}[name]
    assert len(suite["seeds"]) == 5 and suite["tune"]["trials"] == 8
    assert jobs["trial"] == rows * 8 and jobs["choose"] == rows
    assert jobs["unlearn"] == rows * 5
    anchors = 2 * 5 + len(suite.get("retrained_seeds", []))
    base = 1 if name == "tofu-smollm2" else 0  # the model of `core` is made from scratch
    # original and retrained of the fresh seeds, and the pretrained model
    assert jobs["score"] == jobs["unlearn"] + anchors + base and jobs["base"] == base
    assert jobs["finetune"] == anchors + 2  # `original` and `retrained` of the tuning seed
    assert jobs["prepare_data"] == (2 if "forget_draw" in suite["tune"] else 1)
    assert jobs["html_report"] == 1


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The paper's suite with a book and prompts of this machine, and all of its models on the hub."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "book.txt").write_text("It was a dark night. " * 2000)
    (folder / "prompts.jsonl").write_text('{"prompt": "It was"}\n' * 500)
    suite = yaml.safe_load((REPO / "config/paper.yaml").read_text())
    suite["tasks"]["copyright"]["book"] = str(folder / "book.txt")
    suite["tasks"]["detox"]["evaluation"]["toxicity"]["prompts"]["path"] = str(folder / "prompts.jsonl")
    del suite["models"]["opt_1_3b"]["path"]
    suite["models"]["opt_1_3b"] |= {"source": "hub", "id": "facebook/opt-1.3b", "revision": "0" * 40}
    return suite, Study(folder / "project", suite)


def test_the_papers_studies_are_planned_whole(paper):
    suite, study = paper
    jobs = Counter(rule for rule, _ in study.planned())
    seeds = len(suite["seeds"])
    methods = {
        # FO and SO as released; corrected FO and SO of GradDiff, PO, NPO; baselines
        "tofu": {"llama2_7b_chat": 4 + 6 + 2, "opt_1_3b": 4 + 6 + 4, "smollm2_1_7b": 4 + 6 + 4},
        "copyright": {"llama2_7b_chat": 4 + 6 + 2, "opt_1_3b": 4 + 6 + 4, "smollm2_1_7b": 4 + 6 + 4},
        "detox": {"llama2_7b": 2 + 6 + 1, "opt_1_3b": 2 + 6 + 1, "smollm2_1_7b": 2 + 6 + 1},
    }
    runs = seeds * sum(sum(models.values()) for models in methods.values())
    anchors = seeds * (2 * 3 + 2 * 3 + 3)  # the pretrained models of detox have no `retrained`
    assert (jobs["unlearn"], jobs["finetune"]) == (runs, anchors)
    bases = 3 + 3  # in detox `original` is the pretrained model itself
    assert jobs["base"] == bases
    assert jobs["evaluate"] == jobs["score"] == jobs["standard_benchmarks"] == runs + anchors + bases
    assert jobs["toxicity"] == seeds * (sum(methods["detox"].values()) + 3)


@pytest.mark.parametrize(
    ("target", "tasks", "toxicity"),
    [
        ("paper_table_tofu", {"tofu"}, False),
        ("paper_table_copyright", {"copyright"}, False),
        ("paper_table_detox", {"detox"}, True),
        ("paper_figure_highlight", {"tofu"}, False),
        ("paper_table_time", {"tofu", "copyright", "detox"}, False),
    ],
)
def test_a_table_of_the_paper_needs_its_own_task_only(paper, target, tasks, toxicity):
    planned = paper[1].planned(target)
    assert {log.split("/")[4] for rule, log in planned if rule == "unlearn"} == tasks
    rules = {rule for rule, _ in planned}
    assert ("toxicity" in rules) == toxicity
    assert ("evaluate" in rules) == (target != "paper_table_time"), "times need no evaluation"


def test_the_papers_suite_says_at_once_what_this_machine_lacks(tmp_path):
    study = Study(tmp_path / "project", yaml.safe_load((REPO / "config/paper.yaml").read_text()))
    done = study.snakemake("--dry-run")
    assert done.returncode != 0 and "has 3 faults, so no job is started" in done.stdout
    for name in ("COPYRIGHTED_BOOK", "OPT_1_3B", "REAL_TOXICITY_PROMPTS"):
        assert f"the environment variable {name} is not set" in done.stdout
