"""Whether pieces fit together: the same data, the same code, the same numbers for the same run, no holes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.runs import RowKey, RunKey
from pipeline_lib.metrics import declared
from pipeline_lib.operations.joining.piece import SHOWN, Lines, Piece
from pipeline_lib.operations.plan.other_study import differences as settings_of_data
from pipeline_lib.reporting import made_of
from pipeline_lib.reporting.inputs import COST_COLUMNS, METRIC_COLUMNS
from pipeline_lib.study import Suite
from pipeline_lib.study.table import models_of

TOLD = ("origin", "notes", "warnings")  # of a manifest: words for people
SAME_COSTS = ("steps", "status")  # of costs.csv: times and memory are a machine's


def check_fit(suite: Suite, pieces: Sequence[Piece]) -> None:
    """Raise one `UserError` that names two pieces, what differs between them, and the cure."""
    for one, other in combinations(pieces, 2):
        _check_data(one, other)
    _check_made(pieces)
    for one, other in combinations(pieces, 2):
        _check_same_runs(one, other)
    _check_whole(suite, pieces)


def metric_lines(lines: Lines, without_retrained: bool = False) -> list[list[str]]:
    """The lines of metrics.csv that were measured on the run, without its suite's name.

    Those that come from all models of a study are left out; `without_retrained`: also those that come from
    another `retrained` model.
    """
    column = METRIC_COLUMNS.index("metric")
    return [
        cells[1:]
        for cells in lines
        if (metric := declared().get(cells[column])) is None
        or not (metric.on == "study" or (without_retrained and metric.beside_retrained))
    ]


def _check_data(one: Piece, other: Piece) -> None:
    found = []
    for task in (task for task in one.manifests if task in other.manifests):
        here, there = (
            {name: value for name, value in piece.manifests[task].items() if name not in TOLD}
            for piece in (one, other)
        )
        found += [
            f"  data of {task}, {path}: {show(old)} and {show(new)}"
            for path, old, new in settings_of_data(here, there)
        ]
    if found:
        raise UserError(
            f"{one.root} and {other.root} are about other data:\n{_listed(found)}\n"
            "Run one of the two again on the other's data (the same files, the same version of the hub's)."
        )


def _check_made(pieces: Sequence[Piece]) -> None:
    # Where neither run.json nor metrics.json is left, nothing is known that could differ.
    piece_of = {run.training: piece for piece in pieces for run in piece.made.values() if run.facts}
    known = [run for piece in pieces for run in piece.made.values() if run.training in piece_of]
    if not (found := made_of.differences(known)):
        return
    run, other = found[0].run, found[0].other
    older, newer = piece_of[run.training], piece_of[other.training]
    raise UserError(
        f"{older.root} and {newer.root} were not made of the same:\n{made_of.listed(found)}\n"
        "Bring both to one version of the project and of the data, and make the older ones again where they "
        f"ran, with the suite's own --configfile:\n  {made_of.made_alike(found)}\nOr leave a piece out."
    )


# --- runs that two pieces have -----------------------------------------------------------------------


def _check_same_runs(one: Piece, other: Piece) -> None:
    """A run that both have is accepted once, where both have the same numbers for it."""
    for key in (key for key in one.runs if key in other.metrics):
        if found := list(_run_differences(key, one, other)):
            raise UserError(
                f"{one.root} and {other.root} both have the run {key}, and not the same:\n{_listed(found)}\n"
                "A run is one model. Make it again in one of the two with the machine, versions and data of "
                "the other; or split the study by seed, so that no model is made twice."
            )


def _run_differences(key: RunKey, one: Piece, other: Piece) -> Iterator[str]:
    first, second = one.made[key].facts.get("weights"), other.made[key].facts.get("weights")
    if first and second and first != second:
        yield f"  weights: {first[:12]} and {second[:12]}"
    apart = one.measured.reference(key) != other.measured.reference(key)
    a, b = (metric_lines(piece.metrics[key], without_retrained=apart) for piece in (one, other))
    split, metric, value = (METRIC_COLUMNS.index(name) - 1 for name in ("split", "metric", "value"))
    mine, others = ({(cells[split], cells[metric]): cells for cells in lines} for lines in (a, b))
    for name in {**mine, **others}:
        if (x := mine.get(name)) != (y := others.get(name)):
            shown = " and ".join("nothing" if cells is None else cells[value] for cells in (x, y))
            again = " (another interval or n)" if x and y and x[value] == y[value] else ""
            yield f"  {name[1]} of split {name[0]}: {shown}{again}"
    if one.scores.get(key, []) != other.scores.get(key, []):
        yield "  scores of single questions (scores.csv)"
    for column in SAME_COSTS:
        here, there = ([line[COST_COLUMNS.index(column)] for line in of.costs[key]] for of in (one, other))
        if here != there:
            yield f"  {column}: {', '.join(here)} and {', '.join(there)}"


# --- holes -------------------------------------------------------------------------------------------


def _check_whole(suite: Suite, pieces: Sequence[Piece]) -> None:
    """Every row of the joined suite has every seed, and every seed its `original`."""
    there = {key: piece for piece in reversed(pieces) for key in piece.runs}
    wanted = models_of(suite)
    if extra := [key for key in there if key not in wanted]:
        raise UserError(
            f"{there[extra[0]].root}: runs.json has the run {extra[0]}, which its suite.yaml does not imply: "
            "the files are of two states of the study. Fetch or make them again together."
        )
    missing = [key for key in wanted if key not in there]
    for key in missing:
        if key.method == "original" and key.row.anchor:
            raise UserError(_without_original(key, pieces))
    if missing:
        rows = grouped((key.row, key.seed) for key in missing)
        lines = [f"  {_named(row)}: seed {', '.join(map(str, seeds))}" for row, seeds in rows.items()]
        row, seed = missing[0].row, missing[0].seed
        with_row = [piece for piece in pieces if any(key.row == row for key in piece.runs)]
        with_seed = [piece for piece in pieces if any(key.seed == seed for key in piece.runs)]
        who = _pieces((*with_row[:1], *with_seed[:1])) or _pieces(pieces[:2])
        raise UserError(
            f"{who} leave holes: every row of a study has every seed. Missing in all pieces:\n"
            f"{_listed(lines)}\nRun these as one more piece and join it too, or leave out the piece that has "
            "more seeds or rows than the others."
        )


def _without_original(key: RunKey, pieces: Sequence[Piece]) -> str:
    with_rows = [piece for piece in pieces if any(_beside(key, run) for run in piece.runs)]
    others = [piece for piece in pieces if piece not in with_rows]
    nor = f" nor {_pieces(others)}" if others else ""
    return (
        f"no `original` of seed {key.seed} of task {key.task}, model {key.model}: neither "
        f"{_pieces(with_rows)}, which has rows of that seed,{nor} has it, and nothing says what these "
        "models must keep. Run `original` of that seed (a study makes it by itself) and join again."
    )


def _beside(original: RunKey, run: RunKey) -> bool:
    return (run.task, run.model, run.seed) == (original.task, original.model, original.seed)


def _named(row: RowKey) -> str:
    return str(row).removesuffix("/none")


def _pieces(pieces: Collection[Piece]) -> str:
    return " and ".join(dict.fromkeys(str(piece.root) for piece in pieces))


def _listed(lines: Sequence[str]) -> str:
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join([*lines[:SHOWN], *more])
