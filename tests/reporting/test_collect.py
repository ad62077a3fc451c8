"""metrics.csv and costs.csv hold exactly what the files of the runs say, or nothing is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.reporting.collect import collect_costs, collect_metrics, merge_tables
from tests.reporting.study import Study


def _metrics(folder: Path, **changes: Any) -> Path:
    metric = {
        "split": "forget",
        "metric": "probability",
        "value": 0.25,
        "ci_low": 0.2,
        "ci_high": 0.3,
        "n": 40,
    }
    content = {"suite": "s", "task": "t", "model": "m", "method": "NPO", "optimizer": "adamw", "seed": 1}
    content |= {
        "status": "ok",
        "diverged_step": None,
        "metrics": [metric | {"higher_is_better": False}],
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.json"
    path.write_text(json.dumps(content))
    return path


def _rows(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


def test_metrics_rows_and_their_order(tmp_path: Path) -> None:
    paths = [
        _metrics(tmp_path / "a"),
        _metrics(tmp_path / "b", method="retrained", optimizer="none", seed=10),
        _metrics(tmp_path / "c", method="retrained", optimizer="none", seed=9),
        _metrics(tmp_path / "d", method="original", optimizer="none"),
        _metrics(tmp_path / "e", method="GradDiff", status="diverged", diverged_step=17, metrics=[]),
    ]
    collect_metrics(paths, tmp_path / "metrics.csv", {})
    head, *rows = _rows(tmp_path / "metrics.csv")
    assert ",".join(head) == (
        "suite,task,model,method,optimizer,seed,split,metric,value,ci_low,ci_high,n,higher_is_better,"
        "request,after"
    )
    assert [(row[3], row[5]) for row in rows] == [
        ("original", "1"), ("retrained", "9"), ("retrained", "10"), ("GradDiff", "1"), ("NPO", "1"),
    ]  # fmt: skip
    diverged = ["run", "diverged", "17", "", "", "1", "false", "0", ""]
    assert rows[3] == ["s", "t", "m", "GradDiff", "adamw", "1", *diverged]
    assert rows[4][6:] == ["forget", "probability", "0.25", "0.2", "0.3", "40", "false", "0", ""]
    first = (tmp_path / "metrics.csv").read_bytes()
    collect_metrics(reversed(paths), tmp_path / "metrics.csv", {})
    assert (tmp_path / "metrics.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": []}, "no metrics, though the run is `ok`"),
        ({"status": "fine"}, "status must be ok or diverged or unmatched or blind, found 'fine'"),
        ({"status": "diverged", "metrics": []}, "must name its diverged_step"),
        ({"suite": None}, "`suite` is missing"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = _metrics(tmp_path / "a", **change)
    with pytest.raises(UserError, match=message):
        collect_metrics([path], tmp_path / "metrics.csv", {})
    assert not (tmp_path / "metrics.csv").exists()


def test_a_metric_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = _metrics(tmp_path / "a")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"metrics": content["metrics"] * 2}))
    with pytest.raises(UserError, match="probability of split forget is there twice"):
        collect_metrics([path], tmp_path / "metrics.csv", {})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("value", float("nan"), "value must be a finite number, found nan"),
        ("value", None, "value must be a finite number, found None"),
        ("ci_low", float("inf"), "ci_low must be a finite number"),
        ("ci_high", None, "an interval needs both ends"),
        ("n", 0, "n must be a whole number"),
        ("n", True, "n must be a whole number"),
        ("value", 0.31, "value 0.31 lies outside its own interval, 0.2 to 0.3"),
        ("value", 0.19, r"a/metrics.json, metric 1, probability of split forget: value 0.19 lies outside"),
        ("ci_high", 1.23, "ci_high must be from 0 to 1, the metric's range, found 1.23"),
        ("ci_low", -0.055, "ci_low must be from 0 to 1"),
        ("metric", "probabilty", "there is no metric of this name"),
        ("higher_is_better", "yes", "higher_is_better must be true, false or null"),
    ],
)
def test_a_bad_number_is_refused(tmp_path: Path, field: str, value: Any, message: str) -> None:
    path = _metrics(tmp_path / "a")
    content = json.loads(path.read_text())
    content["metrics"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        collect_metrics([path], tmp_path / "metrics.csv", {})


def test_a_value_outside_the_range_without_an_interval_is_refused(tmp_path: Path) -> None:
    path = _metrics(tmp_path / "a")
    content = json.loads(path.read_text())
    content["metrics"][0] |= {"value": 1.5, "ci_low": None, "ci_high": None}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="value must be from 0 to 1"):
        collect_metrics([path], tmp_path / "metrics.csv", {})
    content["metrics"][0] |= {"value": 1 + 1e-12}  # rounding
    path.write_text(json.dumps(content))
    collect_metrics([path], tmp_path / "metrics.csv", {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.25,0.2,0.3", "0.35,0.2,0.3", "line 2, probability of split forget: value 0.35 lies outside"),
        ("0.25,0.2,0.3", "nan,0.2,0.3", "value must be a finite number, found nan"),
        ("0.25,0.2,0.3", "x,0.2,0.3", "value must be a finite number, found 'x'"),
        ("0.25,0.2,0.3", "1.5,,", "value must be from 0 to 1"),
        ("0.25,0.2,0.3", ",0.2,0.3", "needs a value, n of at least 1"),
        ("0.3,40", "0.3,0", "n '0'"),
        ("0.2,0.3", "0.2,", "both ends of an interval or none"),
    ],
)
def test_a_table_that_was_edited_is_not_merged(tmp_path: Path, old: str, new: str, message: str) -> None:
    collect_metrics([_metrics(tmp_path / "a")], tmp_path / "part.csv", {})
    text = (tmp_path / "part.csv").read_text()
    assert old in text
    (tmp_path / "part.csv").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        merge_tables([tmp_path / "part.csv"], tmp_path / "merged.csv")
    assert not (tmp_path / "merged.csv").exists()


def test_a_line_that_stands_twice_is_not_merged(tmp_path: Path) -> None:
    collect_metrics([_metrics(tmp_path / "a")], tmp_path / "part.csv", {})
    lines = (tmp_path / "part.csv").read_text().splitlines(keepends=True)
    (tmp_path / "part.csv").write_text("".join([*lines, lines[1]]))
    with pytest.raises(UserError, match="line 3, probability of split forget: stands in line 2 too"):
        merge_tables([tmp_path / "part.csv"], tmp_path / "merged.csv")


def test_missing_and_double_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        collect_metrics([tmp_path / "metrics.json"], tmp_path / "metrics.csv", {})
    with pytest.raises(UserError, match="nothing to collect"):
        collect_metrics([], tmp_path / "metrics.csv", {})
    with pytest.raises(UserError, match="both about the run"):
        collect_metrics([_metrics(tmp_path / "a"), _metrics(tmp_path / "b")], tmp_path / "metrics.csv", {})


def test_costs(study: Study) -> None:
    head, *rows = _rows(study.root / "costs.csv")
    assert ",".join(head) == (
        "task,model,method,optimizer,seed,steps,train_time_s,time_per_step_s,peak_memory_mb,clipped_share,status,"
        "request,after"
    )
    by_run = {(row[2], row[3], row[4]): row[5:-2] for row in rows}
    assert len(by_run) == len(rows) == 12 * 3
    steps, seconds, per_step, memory, clipped, status = by_run["GradDiff", "sophia", "1"]
    assert (steps, memory, status) == ("50", "918.0", "ok")
    assert float(seconds) == pytest.approx(50 * 0.052 * 1.02)
    assert float(per_step) == pytest.approx(0.052 * 1.02)
    # Shares are 0.71 + 0.1 (0.5 - t/50)^2, t = 1..50; the mean of the square is 1/12 + 1/(6 * 50^2).
    assert float(clipped) == pytest.approx(0.71 + 0.1 * (1 / 12 + 1 / (6 * 50**2)))
    assert by_run["GradDiff", "adamw", "1"][4] == ""
    assert by_run["GradDiff", "signum", "2"][0] == "22" and by_run["GradDiff", "signum", "2"][5] == "diverged"


def test_a_run_that_diverged_at_once_has_no_time_per_step(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={("NPO", "sophia", 1): 1}).write()
    row = next(r for r in _rows(root / "costs.csv") if r[2:4] == ["NPO", "sophia"])
    assert row[5:] == ["0", "0.0", "", "918.0", "", "diverged", "0", ""]
    assert study.paths("costs.csv")


def test_steps_without_a_clipped_share_are_refused(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    folder = study.place("training", "NPO", "sophia", 1)
    (folder / "steps.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match=r"steps.jsonl, line 1: `clipped_share` is missing"):
        collect_costs([folder], root / "costs.csv")
    (folder / "steps.jsonl").write_text('{"step": 1, "clipped_share": NaN}\n')
    with pytest.raises(UserError, match="clipped_share must be a finite number"):
        collect_costs([folder], root / "costs.csv")


def test_tables_of_single_tasks_merge_to_that_of_the_suite(tmp_path: Path) -> None:
    """The same bytes as all runs collected at once: tasks by name, whatever the order of the files."""
    names = ("zebra", "apple", "Mango")
    paths = {task: _metrics(tmp_path / task, task=task) for task in names}
    for task, path in paths.items():
        collect_metrics([path], tmp_path / f"{task}.csv", {})
    merge_tables([tmp_path / f"{task}.csv" for task in names], tmp_path / "merged.csv")
    collect_metrics(paths.values(), tmp_path / "whole.csv", {})
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert [row[1] for row in _rows(tmp_path / "merged.csv")[1:]] == ["Mango", "apple", "zebra"]


def test_costs_merge_as_well(study: Study, tmp_path: Path) -> None:
    merge_tables([study.root / "collected" / study.task / "costs.csv"], tmp_path / "costs.csv")
    assert (tmp_path / "costs.csv").read_bytes() == (study.root / "costs.csv").read_bytes()


def test_tables_that_do_not_fit_are_not_merged(study: Study, tmp_path: Path) -> None:
    part = study.root / "collected" / study.task
    with pytest.raises(UserError, match=r"expected the columns suite,task,.* found task,model"):
        merge_tables([part / "metrics.csv", part / "costs.csv"], tmp_path / "merged.csv")
    with pytest.raises(UserError, match="are both about the task fictitious"):
        merge_tables([part / "metrics.csv", study.root / "metrics.csv"], tmp_path / "merged.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match=r"empty.csv: is empty"):
        merge_tables([tmp_path / "empty.csv"], tmp_path / "merged.csv")
    with pytest.raises(UserError, match="nothing to merge"):
        merge_tables([], tmp_path / "merged.csv")
    assert not (tmp_path / "merged.csv").exists()
