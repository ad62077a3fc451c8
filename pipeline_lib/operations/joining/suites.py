"""The suite of a joined study: what its pieces' suites may differ in is united, all else must be the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipeline_lib.core.blocks.messages import show
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.runs import RowKey
from pipeline_lib.operations.joining.piece import SHOWN, Piece
from pipeline_lib.operations.plan.other_study import differences
from pipeline_lib.stages.base import SELECTED
from pipeline_lib.study import Suite, parse_suite
from pipeline_lib.study.runs import Run

UNITED = ("suite", "seeds", "retrained_seeds", "runs", "comparisons", "resources")
FAMILIES = ("models", "tasks", "objectives", "optimizers", "stages")  # blocks by label, united by label
Values = dict[str, Any]


def joined_suite(name: str, pieces: Sequence[Piece]) -> Suite:
    """The suite whose pieces these are; a `UserError` names the settings in which two of them differ."""
    first, *others = pieces
    for number, other in enumerate(others, start=1):
        for before in pieces[:number]:
            _check_settings(before, other)
    all_values = [_values(piece.suite) for piece in pieces]
    seeds = _united(piece.suite.seeds for piece in pieces)
    further = _united(piece.suite.retrained_seeds for piece in pieces)
    found = {
        **all_values[0],
        **{family: _by_label(values[family] for values in all_values) for family in FAMILIES},
        "stages": _stages(values["stages"] for values in all_values),
        "suite": name,
        "seeds": seeds,
        "retrained_seeds": [seed for seed in further if seed not in seeds],
        "comparisons": _united(values["comparisons"] or [] for values in all_values) or None,
    }
    if first.suite.tune is not None:
        found["tune"] = {
            **all_values[0]["tune"],
            **{
                family: _by_label(values["tune"][family] for values in all_values)
                for family in ("objectives", "optimizers")
            },
        }
    for blocks in _blocks(found, pieces):
        found["runs"] = blocks
        suite = _parsed(found)
        if isinstance(suite, Suite) and row_settings([suite]) == row_settings(
            piece.suite for piece in pieces
        ):
            return suite
    names = " and ".join(str(piece.root) for piece in pieces)
    raise UserError(f"{names} together are no suite: {suite}")


def _check_settings(one: Piece, other: Piece) -> None:
    """Refuse other settings of what both have. Rows are compared too: a block of `runs` may change them."""
    here, there = _values(one.suite), _values(other.suite)
    found = [
        f"  {path}: {show(old)} and {show(new)}"
        for path, old, new in differences(_comparable(here, there), _comparable(there, here))
    ]
    if not found:
        mine, others = row_settings([one.suite]), row_settings([other.suite])
        for row in (row for row in mine if row in others):
            found += [
                f"  {row.folder}, {path}: {show(old)} and {show(new)}"
                for path, old, new in differences(mine[row], others[row])
            ]
    if found:
        more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise UserError(
            f"{one.root} and {other.root} have other settings of the same:\n"
            + "\n".join([*found[:SHOWN], *more])
            + f"\nPieces may differ in {', '.join(UNITED)} and the rows of a stage, and each may "
            "have rows of its own. Run one of the two again with the other's settings, or give what shall "
            "differ a label of its own."
        )


def _values(suite: Suite) -> Values:
    return {"stages": {}, **suite.resolved()}


def _comparable(values: Values, other: Values) -> Values:
    """The settings that must be the same, of the labels that the other suite has too."""
    kept = {name: value for name, value in values.items() if name not in UNITED}
    for family in FAMILIES:
        kept[family] = _shared(values[family], other[family])
    kept["stages"] = {
        label: {
            name: value
            for name, value in stage.items()
            if name not in SELECTED or None in (value, other["stages"][label].get(name))
        }
        for label, stage in kept["stages"].items()
    }
    if values["tune"] is not None and other["tune"] is not None:
        tuned = {
            family: _shared(values["tune"][family], other["tune"][family])
            for family in ("objectives", "optimizers")
        }
        kept["tune"] = {**values["tune"], **tuned}
    return kept


def _shared(values: Values, other: Values) -> Values:
    return {label: settings for label, settings in values.items() if label in other}


def row_settings(suites: Iterable[Suite]) -> dict[RowKey, Values]:
    """The settings of every row that is unlearned."""
    return {run.row: _settings(run) for suite in suites for run in suite.run_table()}


def _settings(run: Run) -> Values:
    optimizer = run.optimizer_settings
    return {
        "objective": run.objective.model_dump(mode="json"),
        "optimizer": None if optimizer is None else optimizer.model_dump(mode="json"),
        "unlearn": run.unlearn.model_dump(mode="json"),
    }


def _united(lists: Iterable[Iterable[Any]]) -> list[Any]:
    """Every item once, in the order in which the pieces have them."""
    found: list[Any] = []
    for item in (item for items in lists for item in items):
        if item not in found:
            found.append(item)
    return found


def _by_label(families: Iterable[Mapping[str, Any]]) -> Values:
    found: Values = {}
    for family in families:
        found |= {label: settings for label, settings in family.items() if label not in found}
    return found


def _stages(families: Iterable[Values]) -> Values:
    """Each stage for all that some piece made it of."""
    found: Values = {}
    for family in families:
        for label, stage in family.items():
            before = found.setdefault(label, dict(stage))
            for name in SELECTED:  # lists, which are united where both give one
                if before.get(name) is not None and stage.get(name) is not None:
                    before[name] = _united((before[name], stage[name]))
    return found


def _parsed(values: Values) -> Suite | UserError:
    try:
        return parse_suite(values)
    except UserError as error:
        return error


# --- runs --------------------------------------------------------------------------------------------


def _blocks(joined: Values, pieces: Sequence[Piece]) -> Iterator[list[Values] | None]:
    """What `runs` may be, the plainest first: that of every piece, the grid, all blocks, a block a row."""
    of_pieces = [_values(piece.suite)["runs"] for piece in pieces]
    if all(blocks == of_pieces[0] for blocks in of_pieces):
        yield of_pieces[0]
    yield None
    yield _united(_explicit(joined, piece.suite) for piece in pieces)
    runs = {run.row: run for piece in pieces for run in piece.suite.run_table()}
    yield [_block_of(run, joined) for run in runs.values()]


def _explicit(joined: Values, suite: Suite) -> list[Values]:
    """The blocks of a piece; they name their tasks and models where the joined suite has further ones."""
    values = _values(suite)
    grid = {"methods": list(suite.objectives), "optimizers": list(suite.optimizers)}
    every = {name: list(values[name]) for name in ("tasks", "models") if set(values[name]) != {*joined[name]}}
    named = [{k: v for k, v in block.items() if v is not None} for block in values["runs"] or [grid]]
    return [{**every, **block} for block in named]


def _block_of(run: Run, joined: Values) -> Values:
    """One row as a block, with what is set for it alone."""
    settings = _settings(run)
    block: Values = {"tasks": [run.task], "models": [run.model], "methods": [run.method]}
    block["objective"] = _changes(joined["objectives"][run.method], settings["objective"])
    if run.optimizer_settings is not None:
        block["optimizers"] = [run.optimizer]
        block["optimizer"] = _changes(joined["optimizers"][run.optimizer], settings["optimizer"])
    return {**block, "unlearn": _changes(joined["unlearn"], settings["unlearn"])}


def _changes(usual: Values, settings: Values) -> Values:
    return {name: value for name, value in settings.items() if usual.get(name) != value}
