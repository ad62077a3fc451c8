"""What differs between two studies beside what is compared, and what of it is not known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import RowKey, split_stages
from pipeline_lib.metrics.questions import BENCHMARK
from pipeline_lib.operations.comparing.differences import Difference
from pipeline_lib.operations.comparing.paired import OTHER_QUESTIONS, other_data
from pipeline_lib.operations.comparing.side import Side, row_name
from pipeline_lib.operations.joining.suites import row_settings
from pipeline_lib.operations.plan.other_study import differences as settings_that_differ
from pipeline_lib.stages.base import SELECTED

SHOWN = 12  # settings that are named
ROWS = 4  # rows that are named
Found = tuple[str, Any, Any]  # what, in A, in B


def notes(a: Side, b: Side, rows: Sequence[RowKey], found: Sequence[Difference]) -> list[str]:
    """One line each; rows are those that both have."""
    return [
        *_seeds(a, b, rows),
        *_settings(a, b, rows),
        *_data(a, b, rows, found),
        *_utility(a, b, rows),
        *_made_with(a, b, rows),
    ]


def _seeds(a: Side, b: Side, rows: Sequence[RowKey]) -> Iterator[str]:
    by_seeds = grouped(((a.seeds(row), b.seeds(row)), row) for row in rows)
    for (here, there), of in by_seeds.items():
        if here != there:
            one, other = (", ".join(map(str, seeds)) for seeds in (here, there))
            yield f"Seeds: A has {one}, B has {other} ({_rows(of, rows)})."
        elif len(here) == 1:
            yield f"One seed in both ({_rows(of, rows)}): another one may rank the studies the other way."
    for side in (a, b):
        if lost := [row for row in rows if side.lost.get(row)]:
            yield f"{side.name} lacks models of runs that diverged or have none ({_rows(lost, rows)})."


def _settings(a: Side, b: Side, rows: Sequence[RowKey]) -> Iterator[str]:
    if unread := [side.name for side in (a, b) if side.suite is None]:
        yield f"Settings are not compared: this version reads no suite.yaml of {' and '.join(unread)}."
        return
    assert a.suite is not None and b.suite is not None
    here, there = a.suite.resolved(), b.suite.resolved()
    blocks = [("tasks", row.task) for row in rows] + [("models", row.model) for row in rows]
    blocks += [("stages", label) for row in rows for label in split_stages(row.after)[1].split("/") if label]
    found: list[Found] = []
    for family, label in dict.fromkeys(blocks):
        one, other = ((values.get(family) or {}).get(label) for values in (here, there))
        old, new = ({k: v for k, v in (block or {}).items() if k not in SELECTED} for block in (one, other))
        found += settings_that_differ(old, new, f"{family}.{label}")
    lines = [f"  {path}: {show(old)} in A, {show(new)} in B" for path, old, new in found]
    mine, others = row_settings([a.suite]), row_settings([b.suite])
    of_rows = grouped(
        ((path, show(old), show(new)), row)
        for row in rows
        if (key := row._replace(after="")) in mine and key in others
        for path, old, new in settings_that_differ(mine[key], others[key])
    )
    lines += [
        f"  {path}: {old} in A, {new} in B ({_rows(of, rows)})" for (path, old, new), of in of_rows.items()
    ]
    if lines:
        more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        yield "\n".join(["Settings differ:", *lines[:SHOWN], *more])
    if tuned := [side.name for side in (a, b) if side.suite and side.suite.tune is not None]:
        yield f"Settings of {' and '.join(tuned)} were chosen by trials: see its table of tuning."


def _data(a: Side, b: Side, rows: Sequence[RowKey], found: Sequence[Difference]) -> Iterator[str]:
    for task in dict.fromkeys(row.task for row in rows):
        kept = [side.name for side in (a, b) if task in side.manifests]
        if len(kept) < 2:
            lacking = " and ".join(side.name for side in (a, b) if side.name not in kept)
            yield f"Hashes of the data of {task} are not kept in {lacking}: questions are told by their ids."
        elif other := other_data(a, b, task):
            yield f"Data of {task} differ in {', '.join(other)}: the numbers are about other questions."
    others = dict.fromkeys(f"{d.row.task}, {d.measure.split}" for d in found if d.why == OTHER_QUESTIONS)
    if others:
        yield (f"Other questions were asked ({'; '.join(others)}): no interval covers that some are easier.")


def _utility(a: Side, b: Side, rows: Sequence[RowKey]) -> Iterator[str]:
    """Joint utilities of studies with other benchmarks are not the same quantity."""
    for task, model in dict.fromkeys((row.task, row.model) for row in rows):
        here, there = ({*_benchmarks(side, task, model)} for side in (a, b))
        if here != there and a.scores and b.scores:
            one, other = (", ".join(sorted(names)) or "none" for names in (here, there))
            yield (
                f"Joint utility of {task}, {model} counts other benchmarks ({one} in A, {other} in B): it is "
                "not the same quantity."
            )


def _benchmarks(side: Side, task: str, model: str) -> Iterator[str]:
    for key, scores in side.scores.items():
        if (key.task, key.model) == (task, model):
            yield from (split.removeprefix(BENCHMARK) for split in scores if split.startswith(BENCHMARK))


def _made_with(a: Side, b: Side, rows: Sequence[RowKey]) -> Iterator[str]:
    """Versions, commits and devices, from the run.json of the models."""
    here, there = (_facts(side, rows) for side in (a, b))
    if missing := [side.name for side, facts in ((a, here), (b, there)) if not facts]:
        yield f"Versions, commit and device are not kept in {' and '.join(missing)} (training/**/run.json)."
        return
    for name in dict.fromkeys((*here, *there)):
        one, other = (" and ".join(facts.get(name) or ["not noted"]) for facts in (here, there))
        if one != other:
            yield f"Made with another {name}: {one} in A, {other} in B."


def _facts(side: Side, rows: Sequence[RowKey]) -> Mapping[str, list[str]]:
    wanted = set(rows)
    runs = [run for key, run in side.run_files.items() if key.row in wanted]
    pairs = [
        *((str(name), str(found)) for run in runs for name, found in (run.get("versions") or {}).items()),
        *((name, str(run[key])[:12]) for run in runs for name, key in _RUN.items() if run.get(key)),
    ]
    return {name: list(dict.fromkeys(found)) for name, found in grouped(pairs).items()}


_RUN = {"commit": "git_commit", "device": "device"}


def _rows(rows: Sequence[RowKey], every: Sequence[RowKey]) -> str:
    """Rows within a note."""
    if len(rows) == len(every):
        return "all rows"
    several = len({row[:2] for row in every}) > 1
    names = [f"{row.task}, {row.model}: {row_name(row)}" if several else row_name(row) for row in rows]
    return _listed(names)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return "; ".join(names[:ROWS]) + (f" and {len(names) - ROWS} more rows" if len(names) > ROWS else "")
