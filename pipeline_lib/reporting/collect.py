"""Gather the small files of runs into metrics.csv and costs.csv, for each task and then for the suite."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, read_jsonl, run_again
from pipeline_lib.core.runs import LOST, RunKey, key_from_path, key_of
from pipeline_lib.metrics import declared, measures
from pipeline_lib.reporting.cells import csv_text, write_csv
from pipeline_lib.reporting.inputs import COST_COLUMNS, METRIC_COLUMNS, anchor_rank, finite
from pipeline_lib.reporting.made_of import Facts, Made, check_alike, made_of
from pipeline_lib.reporting.scores import NO_PATHS, SCORE_COLUMNS, Paths, as_now, read_scores, studied

ROUNDING = 1e-9  # tolerance for numbers that were written to a file and read back
_CURE = "The study computes no such thing: make the file again (snakemake --forcerun score collect)."
_IDENTITY = ("task", "model", "method", "optimizer", "seed")


def collect_metrics(
    paths: Iterable[Path | str], out_csv: Path | str, beside: Mapping[RunKey, list[dict[str, Any]]]
) -> None:
    """Write metrics.csv from the metrics.json of every run, after what its study adds to each (`beside`).

    Runs are sorted by task, model, method (`original`, `retrained`, then by name), optimiser and seed; the
    metrics of a run keep the order of its file. A run without a model has the one row split=run, metric=its
    status, value=its step.
    """
    contents = {str(path): read_json(path) for path in paths}
    _check_runs(contents, "metrics.json")
    check_alike(
        Made(key_of(content), content.get("made_of") or Facts(), _training_of(Path(path)), Path(path))
        for path, content in contents.items()
    )
    rows: list[list[Any]] = []
    for path in sorted(contents, key=lambda path: _place(contents[path])):
        content = contents[path]
        run = [_required(content, "suite", path), *(content[name] for name in _IDENTITY)]
        what = [key_of(content).request, key_of(content).after]
        if content["status"] in LOST:
            if not isinstance(step := content.get("diverged_step"), int):
                raise UserError(f"{path}: a run without a model must name its diverged_step, found {step!r}")
            rows.append([*run, "run", content["status"], step, None, None, 1, False, *what])
            continue
        metrics = content.get("metrics")
        if not isinstance(metrics, list) or not metrics:
            raise UserError(f"{path}: no metrics, though the run is `ok`. {run_again(path)}")
        metrics = [*beside.get(key_of(content), []), *metrics]
        rows += [[*run, *cells_of(metric, path, i), *what] for i, metric in enumerate(metrics, start=1)]
        (name, times), *_ = Counter((metric["split"], metric["metric"]) for metric in metrics).most_common(1)
        if times > 1:
            raise UserError(f"{path}: {name[1]} of split {name[0]} is there twice")
    write_csv(out_csv, METRIC_COLUMNS, rows)


def collect_scores(paths: Iterable[Path | str], out_csv: Path | str) -> None:
    """Write scores.csv from the scores.csv of every run, sorted as metrics.csv is."""
    found: dict[RunKey, list[list[str]]] = {}
    for path in map(Path, paths):
        head, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        head, rows = as_now(head, rows)
        if head != SCORE_COLUMNS:
            raise UserError(f"{path}: expected the columns {','.join(SCORE_COLUMNS)}. {run_again(path)}")
        found[key_from_path(path)] = rows
    write_csv(out_csv, SCORE_COLUMNS, (row for key in sorted(found, key=place_of) for row in found[key]))


def beside_others(
    scores: Path, manifests: Mapping[str, Mapping[str, Any]], paths: Paths = NO_PATHS
) -> dict[RunKey, list[dict[str, Any]]]:
    """The metrics of every model that need the others of its study, from scores.csv and the runs' paths."""
    of_study = [metric for metric in measures() if metric.on == "study"]
    return {
        key: [row for metric in of_study for row in study.measure(metric) if "value" in row]
        for key, study in studied(read_scores(scores), manifests, paths).items()
    }


def collect_costs(training_dirs: Iterable[Path | str], out_csv: Path | str) -> None:
    """Write costs.csv from run.json and steps.jsonl of every training folder, sorted as metrics.csv is.

    `clipped_share` is the mean over the steps that have one; empty for first-order optimisers.
    """
    contents = {str(folder): read_json(Path(folder) / "run.json") for folder in training_dirs}
    _check_runs(contents, "run.json")
    check_alike(
        Made(key_of(content), made_of(content), Path(folder) / "run.json")
        for folder, content in contents.items()
    )
    rows = []
    for folder in sorted(contents, key=lambda folder: _place(contents[folder])):
        content, where = contents[folder], f"{folder}/run.json"
        for name in ("steps", "train_time_s", "peak_memory_mb"):
            _number(_required(content, name, where), name, where)
        steps, seconds = content["steps"], content["train_time_s"]
        shares = []
        for number, step in enumerate(read_jsonl(Path(folder) / "steps.jsonl"), start=1):
            place = f"{folder}/steps.jsonl, line {number}"
            if "clipped_share" not in step:
                raise UserError(f"{place}: `clipped_share` is missing")
            if step["clipped_share"] is not None:
                shares.append(_number(step["clipped_share"], "clipped_share", place))
        rows.append(
            [
                *(content[name] for name in _IDENTITY),
                steps,
                seconds,
                seconds / steps if steps else None,  # a run can diverge in its first step
                content["peak_memory_mb"],
                sum(shares) / len(shares) if shares else None,
                content["status"],
                key_of(content).request,
                key_of(content).after,
            ]
        )
    write_csv(out_csv, COST_COLUMNS, rows)


def merge_tables(paths: Iterable[Path | str], out_csv: Path | str) -> None:
    """Join the tables of single tasks, all of one kind, to that of the suite, by task."""
    parts: dict[str, list[list[str]]] = {}
    columns: list[str] | None = None
    for path in map(Path, paths):
        head, rows = lines_of_table(path)
        if head not in (METRIC_COLUMNS, COST_COLUMNS, SCORE_COLUMNS) or head != (columns or head):
            expected = columns or METRIC_COLUMNS
            raise UserError(f"{path}: expected the columns {','.join(expected)}, found {','.join(head)}")
        columns = head
        for row in rows:
            task = row[head.index("task")]
            parts.setdefault(task, []).append([str(path), *row])
    if columns is None:
        raise UserError("no table given: there is nothing to merge")
    for task, rows in parts.items():
        found = list(dict.fromkeys(row[0] for row in rows))
        if len(found) > 1:
            raise UserError(f"{found[0]} and {found[1]} are both about the task {task}")
    write_csv(out_csv, columns, [row[1:] for task in sorted(parts) for row in parts[task]])


def lines_of_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """The columns and the lines of a table that a study wrote; those of metrics.csv are checked."""
    try:
        head, *rows = csv.reader(csv_text(path).splitlines())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except ValueError:
        raise UserError(f"{path}: is empty. {run_again(path)}") from None
    if head == METRIC_COLUMNS:
        check_lines(path, head, rows)
    return as_now(head, rows)


def _check_runs(contents: dict[str, Any], name: str) -> None:
    """Each file is a dict with the names of its run, and no run is there twice."""
    if not contents:
        raise UserError(f"no {name} given: there is nothing to collect")
    seen: dict[RunKey, str] = {}
    for path, content in contents.items():
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected a JSON object, found {type(content).__name__}")
        for field in _IDENTITY:
            _required(content, field, path)
        if content.get("status") not in ("ok", *LOST):
            allowed = " or ".join(("ok", *LOST))
            raise UserError(f"{path}: status must be {allowed}, found {content.get('status')!r}")
        if (run := key_of(content)) in seen:
            raise UserError(f"{path} and {seen[run]} are both about the run {run}")
        seen[run] = path


def _training_of(path: Path) -> Path:
    """The run.json beside the metrics.json at `path`; `path` itself where it is not in a study's folders."""
    parts = path.parts
    if parts[-7:-6] != ("evaluations",):
        return path
    return Path(*parts[:-7], "training", *parts[-6:-1], "run.json")


def cells_of(metric: Any, path: str, number: int) -> list[Any]:
    """A metric as the cells of metrics.csv from `split` on; `number` is its place in `path`, for messages."""
    if not isinstance(metric, dict):
        raise UserError(f"{path}: a metric must be a JSON object, found {metric!r}")
    split, name = _required(metric, "split", path), _required(metric, "metric", path)
    where = f"{path}, metric {number}, {name} of split {split}"
    value = _number(metric.get("value"), "value", where)
    low, high = metric.get("ci_low"), metric.get("ci_high")
    if (low is None) != (high is None):
        raise UserError(f"{where}: an interval needs both ends, found {low!r} to {high!r}")
    if low is not None:
        _number(low, "ci_low", where)
        _number(high, "ci_high", where)
    n, direction = metric.get("n"), metric.get("higher_is_better")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise UserError(f"{where}: n must be a whole number of at least 1, found {n!r}")
    _check_possible(where, name, value, low, high)
    if direction not in (True, False, None):
        raise UserError(f"{where}: higher_is_better must be true, false or null, found {direction!r}")
    return [split, name, value, low, high, n, direction]


def _check_possible(where: str, name: str, value: float, low: float | None, high: float | None) -> None:
    """Refuse a number outside its own interval or its metric's range: a bug, or somebody edited the file."""
    if name not in declared():
        raise UserError(f"{where}: there is no metric of this name (docs/metrics.md lists them). {_CURE}")
    least, most = declared()[name].range
    for field, number in (("value", value), ("ci_low", low), ("ci_high", high)):
        if number is not None and not _within(number, least, most):
            raise UserError(
                f"{where}: {field} must be from {least:g} to {most:g}, the metric's range, found {number!r}. "
                f"{_CURE}"
            )
    if low is not None and high is not None and not _within(value, low, high):
        raise UserError(
            f"{where}: value {value!r} lies outside its own interval, {low!r} to {high!r}. {_CURE}"
        )


def _within(number: float, low: float, high: float) -> bool:
    slack = ROUNDING * max(1.0, abs(number))
    return low - slack <= number <= high + slack


def check_lines(path: Path, head: list[str], rows: list[list[str]]) -> None:
    """Check the lines of a task's metrics.csv in the same way: somebody may have edited it since."""
    seen: dict[tuple[str, ...], int] = {}
    for line, cells in enumerate(rows, start=2):
        if len(cells) != len(head):
            raise UserError(f"{path}, line {line}: expected {len(head)} cells, found {len(cells)}")
        row = dict(zip(head, cells, strict=True))
        where = f"{path}, line {line}, {row['metric']} of split {row['split']}"
        key = tuple(row[name] for name in (*_IDENTITY, "split", "metric", "request", "after"))
        if key in seen:
            raise UserError(f"{where}: stands in line {seen[key]} too. {_CURE}")
        seen[key] = line
        value, low, high, n = (_read(row[name], name, where) for name in ("value", "ci_low", "ci_high", "n"))
        if value is None or n is None or n < 1 or n != int(n) or (low is None) != (high is None):
            raise UserError(
                f"{where}: needs a value, n of at least 1, and both ends of an interval or none; found value "
                f"{row['value']!r}, n {row['n']!r}, {row['ci_low']!r} to {row['ci_high']!r}. {_CURE}"
            )
        if row["metric"] not in LOST:
            _check_possible(where, row["metric"], value, low, high)


def _read(cell: str, name: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        return _number(float(cell), name, where)
    except ValueError:
        raise UserError(f"{where}: {name} must be a finite number, found {cell!r}. {_CURE}") from None


def _number(value: Any, name: str, where: str) -> float:
    if not finite(value):
        raise UserError(f"{where}: {name} must be a finite number, found {value!r}")
    return value


def _required(content: dict[str, Any], name: str, where: str) -> Any:
    if content.get(name) is None:
        raise UserError(f"{where}: `{name}` is missing. {run_again(where)}")
    return content[name]


def _place(content: dict[str, Any]) -> tuple[Any, ...]:
    return place_of(key_of(content))


def place_of(key: RunKey) -> tuple[Any, ...]:
    """Where the lines of a run stand in the tables of a study."""
    row = (key.task, key.model, anchor_rank(key.row), key.method, key.optimizer)
    return *row, key.request, key.after, key.seed
