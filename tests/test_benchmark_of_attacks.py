"""The cost of attacks from the kept times of jobs, by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.attacks import COLUMNS, Study, main
from pipeline_lib.core.files import write_jsonl
from pipeline_lib.study import dump_suite, parse_suite
from pipeline_lib.study.graph import Graph
from tests.study.suites import small

# rule -> seconds of its jobs, of a model as it is and of one after a stage
SECONDS = {"unlearn": 10.0, "stage": 4.0, "ask": 1.0, "evaluate": 8.0, "score": 2.0}
EVALUATED = 2.5  # of 8: each of two phrasings, so that starting and loading took 3


@pytest.fixture
def study(tmp_path: Path) -> Path:
    stages = {
        "relearn": {"kind": "finetune", "split": "forget", "groups": 0.5, "points": 3},
        "round": {"kind": "quantise"},
        "asked": {"kind": "ask", "questions": ["{prompt}", "Now! {prompt}"]},
    }
    named = {label: {**of, "of": ["GradDiff+adamw", "retrained"]} for label, of in stages.items()}
    suite = parse_suite(small(stages=named, seeds=[0, 1], retrained_seeds=[7]))
    (tmp_path / "suite.yaml").write_text(dump_suite(suite), encoding="utf-8")
    for job in Graph(suite).study():
        if job.rule in SECONDS:
            place = tmp_path / "benchmarks" / job.rule / f"{job.name}.tsv"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"s\th:m:s\n{SECONDS[job.rule]}\t0:00:00\n")
        if job.rule == "stage":
            steps = [
                {"step": n, "elapsed_s": n / 2, **({"judged": {}} if n != 3 else {})} for n in (1, 2, 3, 4)
            ]
            (tmp_path / "training" / job.name).mkdir(parents=True)
            write_jsonl(
                tmp_path / "training" / job.name / "steps.jsonl", steps if "relearn" in job.name else []
            )
        if job.rule == "evaluate" and job.name.endswith(".asked"):
            log = tmp_path / "logs" / "evaluate" / f"{job.name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(f"evaluated in {EVALUATED} s, peak memory 9 MiB\n" * 2)
    return tmp_path


def lines(study: Path) -> dict[str, dict[str, str]]:
    return {str(line[0]): dict(zip(COLUMNS, map(str, line), strict=True)) for line in Study(study).lines()}


def test_each_attack_beside_the_unlearning_by_hand(study: Path) -> None:
    found = lines(study)
    assert list(found) == ["no attack", "relearn", "round", "asked", "all attacks", "original and retrained"]
    assert float(found["no attack"]["times unlearning"]) == (8 + 2) / 10
    # Judged at 0.5, 1 and 2 s: two further runs of 0.5 and 1 s, each asked and scored.
    assert float(found["relearn"]["times unlearning"]) == (4 + 8 + 2) / 10
    assert float(found["relearn"]["alone"]) == (14 + 0.5 + 1 + 2 * (8 + 2)) / 10
    assert float(found["round"]["times unlearning"]) == float(found["round"]["alone"]) == (4 + 8 + 2) / 10
    # One further phrasing: a job that starts and loads for 3 s, and its metrics.
    assert float(found["asked"]["times unlearning"]) == (1 + 8 + 2) / 10
    assert float(found["asked"]["alone"]) == (11 + 3 + 2) / 10
    assert float(found["all attacks"]["times unlearning"]) == (14 + 14 + 11) / 10
    assert [found["round"][name] for name in ("kind", "models", "unlearn s", "make s")] == [
        *("quantise", "2", "10.0", "4.0")
    ]


def test_what_is_shared_is_that_of_all_retrained_over_the_unlearned_models(study: Path) -> None:
    """Three `retrained` seeds went through all attacks, and two models were unlearned."""
    assert float(lines(study)["original and retrained"]["times unlearning"]) == 3 * 3.9 / 2


def test_an_unfinished_study_is_told(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    next((study / "benchmarks" / "score").rglob("seed1.round.tsv")).unlink()
    monkeypatch.setattr(sys, "argv", ["attacks", str(study)])
    with pytest.raises(SystemExit):
        main()
    assert "times of 1 jobs are missing" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["attacks", str(study), "--so-far"])
    main()
    printed = capsys.readouterr().out.splitlines()
    assert next(line for line in printed if line.startswith("round")).startswith("round,quantise,1,")
    assert next(line for line in printed if line.startswith("all attacks")).split(",")[2] == "1"
