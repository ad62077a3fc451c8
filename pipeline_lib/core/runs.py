"""The identity of a model: the names that rows, folders and files of a study use for it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pipeline_lib.core.errors import UserError

FINE_TUNED = ("original", "retrained")  # the models that give meaning to the numbers of an unlearned one
BASE = "base"  # the pretrained model before any fine-tuning, where there is one
ANCHORS = (*FINE_TUNED, BASE)
NO_OPTIMIZER = "none"  # the label of models made without an optimiser of the suite
Order = Literal["ZO", "FO", "SO"]  # of the derivatives that an optimiser uses: zeroth, first, second
ORDERS = (*get_args(Order), NO_OPTIMIZER)  # and of a row that took no step
MATCHED = "matched"  # after a run's row: the run again, up to the least gap of its path (metrics/path.py)
LOST = {  # status of a run without a model, in words
    "diverged": "diverged",
    "unmatched": "no model nearer than `original`",
    "blind": "no part of utility to match by",
}

_PLACE = re.compile(r"seed(?P<seed>\d+)(?:\.request(?P<request>\d+))?(?P<after>(?:\.[A-Za-z0-9_-]+)*)")


def split_stages(after: str) -> tuple[str, str]:
    """`after` as what it was before any stage ("" or MATCHED, which is no stage), and the stages' labels."""
    first, _, rest = after.partition("/")
    return (MATCHED, rest) if first == MATCHED else ("", after)


class RowKey(NamedTuple):
    """A model without its seed: one row of a table.

    `request`: the number of the removal request, 0 where there is only one. `after`: the labels of the stages
    applied to the model afterwards, joined by "/"; empty for none.
    """

    task: str
    model: str
    method: str
    optimizer: str
    request: int = 0
    after: str = ""

    def seeded(self, seed: int) -> RunKey:
        """The model of this row with this seed."""
        return RunKey(self.task, self.model, self.method, self.optimizer, seed, self.request, self.after)

    @property
    def anchor(self) -> bool:
        """Whether this is one of ANCHORS without further stages: a model to compare with."""
        return self.method in ANCHORS and not self.after

    def __str__(self) -> str:
        return f"{self.folder}/{self.after}" if self.after else self.folder

    @property
    def folder(self) -> str:
        """The row's place below models/, training/ and evaluations/, which its seeds share."""
        return f"{self.task}/{self.model}/{self.method}/{self.optimizer}"


class RunKey(NamedTuple):
    """One model of a study."""

    task: str
    model: str
    method: str
    optimizer: str
    seed: int
    request: int = 0
    after: str = ""

    @property
    def row(self) -> RowKey:
        return RowKey(self.task, self.model, self.method, self.optimizer, self.request, self.after)

    @property
    def folder(self) -> str:
        """The place below models/, training/ and evaluations/: five parts, whatever was done to the model."""
        request = f".request{self.request}" if self.request else ""
        stages = "".join(f".{stage}" for stage in self.after.split("/") if stage)
        return f"{self.row.folder}/seed{self.seed}{request}{stages}"

    def __str__(self) -> str:
        return self.folder


def lost_words(statuses: Collection[str]) -> str:
    """Why these runs have no model: the words of each status among them once."""
    return " or ".join(words for status, words in LOST.items() if status in statuses)


def key_of(values: Mapping[str, Any]) -> RunKey:
    """From the fields of run.json or runs.json; older files have no `request` and no `after`."""
    return RunKey(**{name: values[name] for name in RunKey._fields if name in values})


def key_from_path(path: Path | str) -> RunKey:
    """The model to which a file belongs, read from the names of its folders."""
    parts = Path(path).absolute().parts[:-1]
    match = _PLACE.fullmatch(parts[-1]) if len(parts) >= 5 else None
    if match is None:
        raise UserError(f"{path}: expected a place like <task>/<model>/<method>/<optimizer>/seed<N>/<file>")
    after = match["after"].removeprefix(".").replace(".", "/")
    task, model, method, optimizer = parts[-5:-1]
    return RunKey(task, model, method, optimizer, int(match["seed"]), int(match["request"] or 0), after)
