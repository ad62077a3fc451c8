"""results/index.html: the studies of a results folder, from their small files."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from urllib.parse import quote

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_text
from pipeline_lib.core.redaction import visible
from pipeline_lib.operations.status.states import (
    FAILED,
    OVER,
    RUNNING,
    STOPPED,
    WAITING,
    State,
    main_process,
    states_of,
)
from pipeline_lib.reporting.index import UNKNOWN, Listed, first_finding, index_page, moment
from pipeline_lib.study import Suite, load_suite
from pipeline_lib.study.graph import Graph
from pipeline_lib.study.table import models_of

INDEX = "index.html"
PAGES = ("report/index.html", "README.md")  # what is opened: the report, or else what was written about it


def write_index(folder: Path, ended: Path | None = None) -> Path:
    """Write the page of the studies in `folder`; returns its place.

    `ended`: the study whose main process this is; none of its jobs runs any more. A `UserError` where there
    is no study, or where the page cannot be written.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder with results folders of studies, such as results")
    if (folder / "suite.yaml").is_file():
        raise UserError(
            f"{folder} is the results folder of one study; name the folder that it lies in: {folder.parent}"
        )
    places = sorted(
        path.parent for path in folder.glob("*/suite.yaml") if not path.parent.name.startswith(".")
    )
    if not places:
        raise UserError(f"{folder}: holds no study (a folder with suite.yaml); run one first: unlearning run")
    studies = [_listed(place, ended is not None and place == ended) for place in places]
    path = folder / INDEX
    write_text(path, index_page(folder.resolve().name, studies))
    return path


def refreshed(out: Path) -> str:
    """Write the page anew as the study in `out` ends; returns a line about it. Nothing is raised."""
    path = out.parent / INDEX
    try:
        return f"All studies of this folder: {write_index(out.parent, ended=out)}"
    except Exception as error:  # the study is done, whatever is wrong with a page about it
        return (
            f"{path} was not written: {error}. The study is whole;"
            f" write it by `unlearning index {out.parent}`."
        )


def _listed(out: Path, ended: bool) -> Listed:
    page = next((name for name in PAGES if (out / name).is_file()), None)
    link = quote(f"{out.name}/{page}") if page else ""
    try:
        with redirect_stderr(io.StringIO()):  # what is said of settings of an earlier version
            suite = load_suite(out / "suite.yaml", kept=True)
        states = list(states_of(Graph(suite).study(), out, None if ended else main_process(out)))
        state = _state(out, states)
    except (UserError, OSError, csv.Error) as error:
        said = str(error).splitlines()[0]
        return Listed(out.name, f"not readable by this version: {said}", link)
    report = out / PAGES[0]
    return Listed(
        out.name if suite.suite == out.name else f"{out.name} (suite {suite.suite})",
        state,
        link,
        written=moment(report.stat().st_mtime) if report.is_file() else UNKNOWN,
        tasks=", ".join(suite.tasks),
        models=", ".join(suite.models),
        rows=str(len({key.row for key in models_of(suite)})),
        seeds=_seeds(suite),
        finding=first_finding(report) if report.is_file() else "",
    )


def _seeds(suite: Suite) -> str:
    further = ", ".join(map(str, suite.retrained_seeds))
    return ", ".join(map(str, suite.seeds)) + (f"; retrained also {further}" if further else "")


def _state(out: Path, states: Sequence[State]) -> str:
    """In words: complete, only kept in small files, or what of it is done, failed and missing."""
    counts = Counter(state.state for state in states)
    over = sum(counts[state] for state in OVER)
    if over == len(states):
        return f"complete: {over} jobs"
    metrics = [name for name in ("metrics.csv", "metrics.csv.gz") if (out / name).is_file()]
    if metrics and not (out / "logs").is_dir():
        return f"complete, small files only{_models(out / 'costs.csv')}"
    missing = counts[WAITING] + counts[STOPPED]
    parts = [(counts[FAILED], "failed"), (counts[RUNNING], "running"), (missing, "missing")]
    rest = "".join(f", {count} {word}" for count, word in parts if count)
    return f"unfinished: {over} of {len(states)} jobs done{rest}"


def _models(costs: Path) -> str:
    """How many models costs.csv has, and of how many the run did not end well."""
    if not costs.is_file():
        return ""
    with open(costs, encoding="utf-8", errors="replace", newline="") as handle:
        statuses = Counter(line.get("status") for line in csv.DictReader(handle))
    others = "".join(
        f", {count} {visible(status)}" for status, count in statuses.items() if status not in (None, "ok")
    )
    return f": {sum(statuses.values())} models{others}"
