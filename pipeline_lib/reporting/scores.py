"""scores.csv: the scores of every question under every model of a study, and the models beside each other."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, run_again
from pipeline_lib.core.grouping import grouped, taught_groups
from pipeline_lib.core.runs import FINE_TUNED, NO_OPTIMIZER, RunKey, key_from_path, split_stages
from pipeline_lib.metrics.definition import FORGET_SPLIT
from pipeline_lib.metrics.questions import NAMES, VALUES, questions_of
from pipeline_lib.metrics.study import Judged, Scores, Staged, Studied
from pipeline_lib.reporting.cells import csv_cell, csv_text

RUN_COLUMNS = ("task", "model", "method", "optimizer", "seed", "request", "after")
SCORE_COLUMNS = [*RUN_COLUMNS, *NAMES, *VALUES]
FORMER_COLUMNS = SCORE_COLUMNS[:-1]  # of an earlier version, which kept no benchmarks


def as_now(head: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Scores of an earlier version in today's columns; any other table as it is."""
    return (SCORE_COLUMNS, [[*row, ""] for row in rows]) if head == FORMER_COLUMNS else (head, rows)


def read_scores(path: Path) -> dict[RunKey, Scores]:
    """Every model's scores by split, also from scores.csv.gz; a `UserError` names a line that is no score."""
    lines: list[tuple[RunKey, dict[str, Any]]] = []
    reader = csv.reader(io.StringIO(csv_text(path), newline=""))
    if (head := next(reader, [])) not in (SCORE_COLUMNS, FORMER_COLUMNS):
        raise UserError(
            f"{path}: expected the columns {','.join(SCORE_COLUMNS)}, found {','.join(head)}. "
            f"{run_again(path)}"
        )
    for cells in reader:
        where = f"{path}, line {reader.line_num}"
        if len(cells) != len(head):
            raise UserError(f"{where}: expected {len(head)} cells, found {len(cells)}")
        row: dict[str, Any] = dict(zip(head, cells, strict=True))
        numbers = {name: _number(row.get(name, ""), where, name) for name in VALUES}
        if numbers["log_probability"] is None and numbers["above_chance"] is None:
            raise UserError(f"{where}: log_probability is missing. {run_again(path)}")
        row |= {"seed": int(row["seed"]), "request": int(row["request"])}
        key = RunKey(**{name: row[name] for name in RUN_COLUMNS})
        lines.append((key, {**row, **numbers}))
    return {key: questions_of(rows) for key, rows in grouped(lines).items()}


def _number(cell: str, where: str, name: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {name} must be a finite number or empty, found {cell!r}")
    return value


class Paths(NamedTuple):
    """How runs and stages were judged on their way, and the utility at which runs are compared."""

    judged: Mapping[RunKey, Judged]
    levels: Mapping[str, float]  # by task
    # by task: label of a stage -> how many forget groups it teaches, or which share of them
    learned: Mapping[str, Mapping[str, float]] = {}


NO_PATHS = Paths({}, {})


def read_paths(
    steps: Iterable[Path],
    levels: Mapping[str, float],
    learned: Mapping[str, Mapping[str, float]] | None = None,
) -> Paths:
    """From the steps.jsonl of the runs and stages."""
    rows = {key_from_path(path): read_jsonl(path) for path in steps}
    return Paths(
        {key: judged_of(found) for key, found in rows.items()},
        levels,
        learned or {},
    )


def judged_of(log: Iterable[Mapping[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """(step, what was judged) of a run's log, the questions under their ids in scores.csv.

    There invisible characters are shown, and what a spreadsheet would compute has an apostrophe (cells.py).
    """
    return [
        (row["step"], {**row["judged"], FORGET_SPLIT: _as_in_cells(row["judged"][FORGET_SPLIT])})
        for row in log
        if "judged" in row
    ]


def _as_in_cells(of_questions: Mapping[str, float]) -> dict[str, float]:
    return {csv_cell(identifier): value for identifier, value in of_questions.items()}


def studied(
    scores: Mapping[RunKey, Scores], manifests: Mapping[str, Mapping[str, Any]], paths: Paths = NO_PATHS
) -> dict[RunKey, Studied]:
    """Every model beside `original` and `retrained` of its task and model."""
    found = {}
    for (task, model), keys in grouped(((key.task, key.model), key) for key in scores).items():
        originals, retrained = (
            {key.seed: scores[key] for key in keys if key.method == method and key.row.anchor}
            for method in FINE_TUNED
        )
        if not originals:
            raise UserError(
                f"scores.csv holds no `original` of task {task}, model {model}: nothing says what a "
                f"model must "
                "keep. Collect the scores of the whole study."
            )
        utility, stages = utility_splits(manifests[task]), dict[RunKey, dict[str, Studied]]()
        total = manifests[task]["splits"][FORGET_SPLIT]["groups"] if task in paths.learned else 0
        taught = {of: taught_groups(n, total) for of, n in paths.learned.get(task, {}).items()}
        for key in sorted(keys, key=lambda key: not split_stages(key.after)[1]):  # after stages first
            others = [
                of_seed
                for seed, of_seed in sorted(retrained.items())
                if (key.method, key.row.anchor, key.seed) != ("retrained", True, seed)
            ]
            own = originals.get(key.seed) or originals[min(originals)]
            judged = paths.judged.get(key, ())
            staged = _staged(key, scores, sorted(originals), sorted(retrained), taught, paths.judged)
            first, labels = split_stages(key.after)
            level = None if labels else paths.levels.get(task)
            before = list(originals.values())
            found[key] = Studied(
                scores[key], others, own, before, utility, judged, level, staged, stages.get(key, {})
            )
            if staged is not None:
                stages.setdefault(key._replace(after=first), {})[labels] = found[key]
    return found


def _staged(
    key: RunKey,
    scores: Mapping[RunKey, Scores],
    of_original: Iterable[int],
    seeds: Iterable[int],
    taught: Mapping[str, int],
    judged: Mapping[RunKey, Judged],
) -> Staged | None:
    """Of a model after stages; the row `matched` is where such a model comes from, and no stage itself."""
    first, labels = split_stages(key.after)
    before = scores.get(key._replace(after=first))
    if not labels or before is None:
        return None
    retrained = key._replace(method="retrained", optimizer=NO_OPTIMIZER, request=0, after=labels)
    others = [other for seed in seeds if (other := retrained._replace(seed=seed)) in scores and other != key]
    original = retrained._replace(method="original")
    known = (scores.get(original._replace(seed=seed)) for seed in (key.seed, *of_original))
    return Staged(
        before,
        [scores[other] for other in others],
        max(taught.get(label, 0) for label in labels.split("/")),
        [other.seed for other in others],
        [judged.get(other, ()) for other in others],
        next((of for of in known if of is not None), None),
    )


def utility_splits(manifest: Mapping[str, Any]) -> Sequence[str]:
    """What must not be lost: the splits of Model Utility, or the retain questions where a task has none."""
    retain = "retain_eval" if "retain_eval" in manifest["evaluate"] else "retain"
    return manifest["utility"] or [name for name in manifest["evaluate"] if name == retain]


def lines_of(key: RunKey, rows: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """The lines of one model in scores.csv, from its `question_rows`."""
    run = [getattr(key, name) for name in RUN_COLUMNS]
    return [[*run, *(row[name] for name in (*NAMES, *VALUES))] for row in rows]
