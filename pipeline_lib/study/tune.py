"""The block `tune`: ranges, budget and selection rule, and the trials that follow from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from pipeline_lib.core.blocks import (
    Block,
    Count,
    CountOrZero,
    Fault,
    Faults,
    Name,
    NonNegative,
    Positive,
    Share,
    suggestion,
)
from pipeline_lib.core.blocks.messages import describe, show
from pipeline_lib.objectives import Objective
from pipeline_lib.optimizers import Optimizer
from pipeline_lib.study.rounds import Places, later_places, limits_of
from pipeline_lib.study.runs import B, Run, RunBlock, changed
from pipeline_lib.study.sampling import grid_size, sample
from pipeline_lib.training.settings import Unlearn

PARTS = {"optimizer": "optimizers", "objective": "objectives"}  # part of a run -> family of the suite
Families = Mapping[str, Mapping[str, Block]]


class Range(Block):
    """Numbers between two ends, both of which the setting must accept."""

    low: NonNegative
    high: Positive
    scale: Literal["log", "linear"]

    @model_validator(mode="after")
    def _ends_fit(self) -> Range:
        if self.low >= self.high:
            raise Faults([("low", f"found {self.low:.15g}; must be smaller than `high` ({self.high:.15g})")])
        if self.scale == "log" and self.low <= 0:
            raise Faults([("low", "found 0; must be greater than 0 for `scale: log`")])
        return self


def _tried(value: Any) -> Any:
    """A range or a list of values, as plain values."""
    if isinstance(value, dict):
        try:
            return Range.model_validate(value).model_dump()
        except ValidationError as error:
            raise Faults(describe(error, Range)) from None
    if not isinstance(value, list):
        raise PydanticCustomError(
            "tried", "expected a range, such as {low: 1e-5, high: 1e-3, scale: log}, or a list of values"
        )
    if not value:
        raise PydanticKnownError("too_short", {"field_type": "List", "min_length": 1, "actual_length": 0})
    values = [_number_in_text(item) for item in value]
    if any(item in values[:i] for i, item in enumerate(values)):
        raise PydanticCustomError("tried", "a value appears twice, and would be tried twice")
    return values


def _number_in_text(value: Any) -> Any:
    """YAML reads 5e-6, without a point, as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Tried = Annotated[
    Any,
    BeforeValidator(_tried),
    WithJsonSchema({"anyOf": [Range.model_json_schema(), {"type": "array", "minItems": 1}]}),
]
Settings = Annotated[dict[str, Tried], Field(min_length=1)]


class Select(Block):
    """The trial that is chosen, by the quantities that judge: forgetting, under a bound on utility."""

    forget: Literal["front_gap", "gap", "probability"] | None = Field(
        None,
        description="Lowest least gap to `retrained` on the path of the run at the utility of "
        "`evaluation.trajectory`, gap after its last step, or probability of the forget answers. "
        "Default: what judges: the first for a run that is judged on its way, the second where the task "
        "has a `retrained`, else the third",
    )
    utility_within: Share = Field(
        0.05,
        description="Share of the joint utility of likelihoods that may be lost after the last step; has no "
        "say in `front_gap`",
    )

    def resolved(self, has_retrained: bool, on_its_way: bool) -> Select:
        """The rule of one row; the default filled in. A run without steps on its way has its end alone."""
        by_end: Literal["gap", "probability"] = "gap" if has_retrained else "probability"
        asked = self.forget or ("front_gap" if has_retrained else by_end)
        found = by_end if asked == "front_gap" and not on_its_way else asked
        return self.model_copy(update={"forget": found})


class Tune(Block):
    """Every method with every optimiser gets the same number of trials on the same tuning seeds.

    A setting named here replaces the value in its own block for every run of the suite.
    """

    seeds: Annotated[list[CountOrZero], Field(min_length=1)] = Field(
        [100], description="Tuning seeds; what is reported comes from the other seeds only"
    )
    trials: Annotated[Count, Field(le=1000)] = Field(
        8, description="Settings tried for each method and optimiser of a task and model"
    )
    rounds: Annotated[Count, Field(le=10)] = Field(
        1,
        description="Rounds of so many trials. A choice at the end of its range widens it in the next round, "
        "for every row alike; a round without wider ranges is skipped",
    )
    sampler: Literal["halton", "grid"] = Field(
        "halton", description="halton samples ranges and lists; grid tries every combination of lists"
    )
    optimizers: dict[Name, Settings] = Field(
        min_length=1, description="Label -> setting -> range or list of values; every optimiser in use"
    )
    objectives: dict[Name, Settings] = Field({}, description="The same for objectives; may be left out")
    select: Select = Select()
    forget_draw: CountOrZero | None = Field(
        None,
        description="Tune on the forget groups of this `forget_draw` of every task, which no report shows. "
        "Default: on the groups that are reported",
    )


@dataclass(frozen=True)
class Trial:
    """One point of the search: the resolved settings, and the tuned ones among them by part of a run."""

    objective: Objective
    optimizer: Optimizer
    tuned: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class TunedRow:
    """How the settings of one row are chosen.

    `ranges`: part of a run -> setting -> range or list of values. `trials`: those of the first round,
    numbered from 1. `later`: places of those of the other rounds; `limits`: how often ranges can be widened.
    """

    unlearn: Unlearn
    ranges: dict[str, dict[str, Any]]
    trials: dict[int, Trial]
    later: dict[int, Places]
    limits: dict[str, dict[str, list[int]]]

    @classmethod
    def of(cls, tune: Tune, run: Run) -> TunedRow:
        ranges, trials = ranges_of(tune, run), dict(enumerate(trials_of(tune, run), start=1))
        if tune.rounds == 1:
            return cls(run.unlearn, ranges, trials, {}, {})
        blocks = {"optimizer": trials[1].optimizer, "objective": trials[1].objective}
        later = later_places(ranges, tune.trials, tune.rounds, [run.method, run.optimizer])
        return cls(run.unlearn, ranges, trials, later, limits_of(ranges, blocks, tune.rounds))


def ranges_of(tune: Tune, run: Run) -> dict[str, dict[str, Any]]:
    """What is tuned in this row: part of a run -> setting -> range or list."""
    return {
        "optimizer": dict(tune.optimizers.get(run.optimizer, {})),
        "objective": dict(tune.objectives.get(run.method, {})),
    }


def trials_of(tune: Tune, run: Run) -> list[Trial]:
    """The trials of a row, which are the same for every task and model.

    Raises `Faults` for values that do not go together.
    """
    ranges, trials = ranges_of(tune, run), []
    for point in sample(_flat(ranges), tune.trials, tune.sampler, [run.method, run.optimizer]):
        drawn = {part: {name: point[f"{part}.{name}"] for name in sorted(ranges[part])} for part in PARTS}
        assert run.optimizer_settings is not None
        optimizer = _with(run.optimizer_settings, drawn["optimizer"])
        objective = _with(run.objective, drawn["objective"])
        resolved = {"optimizer": dict(optimizer), "objective": dict(objective)}
        tuned = {part: {name: resolved[part][name] for name in drawn[part]} for part in PARTS}
        trials.append(Trial(objective, optimizer, tuned))
    return trials


def _flat(ranges: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{part}.{name}": tried for part, of_part in ranges.items() for name, tried in of_part.items()}


def _with(block: B, drawn: Mapping[str, Any]) -> B:
    faults: list[Fault] = []
    whole = changed(block, drawn, "", faults)
    if whole is None:
        raise Faults((path.removeprefix("."), message) for path, message in faults)
    return whole


# --- faults that involve the rest of the suite -----------------------------------------


def tune_faults(
    tune: Tune, seeds: Sequence[int], blocks: Sequence[RunBlock], runs: Sequence[Run], families: Families
) -> list[Fault]:
    """Faults of `tune` together with the rest of the suite. `runs` is empty where the runs have faults."""
    faults = [
        *seed_faults(tune.seeds, "tune.seeds", seeds),
        *_range_faults(tune, families),
        *_twice_set(tune, blocks, families),
    ]
    rows = {(run.method, run.optimizer): run for run in runs}
    untuned = dict.fromkeys(optimizer for _, optimizer in rows if optimizer not in tune.optimizers)
    message = "has no range; with an equal budget every optimiser of the run table is tuned"
    faults += [(f"tune.optimizers.{label}", message) for label in untuned]
    return faults or [fault for run in rows.values() for fault in _row_faults(tune, run)]


def seed_faults(seeds: Sequence[int], where: str, others: Collection[int] = ()) -> Iterator[Fault]:
    """Seeds that are listed twice, and tuning seeds that are among the reported ones (`others`)."""
    for seed, times in Counter(seeds).items():
        if times > 1:
            yield where, f"the seed {seed} appears {times} times"
        if seed in others:
            yield (
                where,
                f"found {seed}, which is in `seeds` or `retrained_seeds` too; reports are of fresh "
                f"seeds only",
            )


def _range_faults(tune: Tune, families: Families) -> Iterator[Fault]:
    """Labels and settings that do not exist, and values that a setting does not take."""
    for family, blocks in families.items():
        for label, settings in getattr(tune, family).items():
            where = f"tune.{family}.{label}"
            if label not in blocks:
                yield where, f"found {show(label)}; {suggestion(label, blocks)}"
                continue
            allowed = set(type(blocks[label]).model_fields) - {"kind"}
            for name, tried in settings.items():
                if name not in allowed:
                    yield where, f"unknown setting {show(name)}; {suggestion(name, allowed)}"
                elif isinstance(tried, list):
                    for i, value in enumerate(tried):
                        yield from _refused(blocks[label], name, value, f"{where}.{name}.{i}")
                elif tune.sampler == "grid":
                    yield f"{where}.{name}", "is a range; `sampler: grid` takes lists of values"
                else:
                    for end in ("low", "high"):
                        yield from _refused(blocks[label], name, tried[end], f"{where}.{name}.{end}")


def _refused(block: Block, name: str, value: Any, where: str) -> Iterator[Fault]:
    """Why the setting itself does not accept this value.

    Conflicts with other settings show only where all are tried together.
    """
    try:
        type(block).model_validate({**block.model_dump(), name: value})
    except ValidationError as error:
        if any(found["type"] == "value_error" for found in error.errors(include_url=False)):
            return
        for _, message in describe(error, type(block), settled=("kind",)):
            whole = where.endswith(("low", "high")) and "whole number" in message
            yield where, f"{message}{'; a range gives fractions, so list the values' if whole else ''}"


def _twice_set(tune: Tune, blocks: Sequence[RunBlock], families: Families) -> Iterator[Fault]:
    """Overrides of tuned settings, which the tuned value would silently replace."""
    for number, block in enumerate(blocks):
        for part, family in PARTS.items():
            labels = block.optimizers if part == "optimizer" else block.methods
            for label in (label for label in labels if label in families[family]):
                tuned = getattr(tune, family).get(label, {})
                for name in type(families[family][label]).model_fields:
                    if name in tuned and name in getattr(block, part):
                        yield (
                            f"runs.{number}.{part}.{name}",
                            f"is tuned for {label} (tune.{family}.{label}.{name}); set it in one place",
                        )


def _row_faults(tune: Tune, run: Run) -> Iterator[Fault]:
    """A grid of the wrong size, and combinations of values that a block refuses."""
    row = f"{run.method} with {run.optimizer}"
    if tune.sampler == "grid" and tune.rounds > 1:
        yield "tune.rounds", f"found {tune.rounds}; `sampler: grid` has no ranges that could become wider"
        return
    if tune.sampler == "grid" and (size := grid_size(_flat(ranges_of(tune, run)))) != tune.trials:
        yield "tune.trials", f"found {tune.trials}; the grid of {row} has {size} points"
        return
    try:
        trials_of(tune, run)
    except Faults as error:
        yield "tune", f"{row}: tries values that do not go together: {error}"
