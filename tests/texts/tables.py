"""What a text may cite: the rows of a csv file, or the settings of a yaml file, all as text."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, str]
Cell = tuple[str, int, str]  # file, index of the row, column


class TextError(Exception):
    """Something in a text that is wrong; the message says what, and the page and line are put before it."""


@dataclass
class Table:
    """One file. `rows` may be changed in memory: a test does, to see that every cited cell matters."""

    path: Path
    columns: tuple[str, ...]
    rows: list[Row]


@dataclass
class Library:
    """Files that were opened, and what was looked at since `cited` and `read` were emptied."""

    tables: dict[Path, Table] = field(default_factory=dict)
    cited: set[Cell] = field(default_factory=set)
    read: set[Path] = field(default_factory=set)

    def table(self, path: Path) -> Table:
        path = path.resolve()
        self.read.add(path)
        if path not in self.tables:
            if not path.is_file():
                raise TextError(f"there is no file {path}")
            self.tables[path] = _from_yaml(path) if path.suffix == ".yaml" else _from_csv(path)
        return self.tables[path]

    def number(self, table: Table, row: int, column: str) -> float:
        """One cell as a number; it counts as cited."""
        if column not in table.columns:
            raise TextError(f"{table.path.name} has no column {column!r}, only {', '.join(table.columns)}")
        text = table.rows[row][column]
        self.cited.add((str(table.path), row, column))
        try:
            return float(text)
        except ValueError:
            raise TextError(f"{table.path.name}, row {row + 2}, {column}: {text!r} is no number") from None

    def cell(self, cell: Cell) -> tuple[Row, str]:
        """The row that holds a cell, and the column: to change it in memory and put it back."""
        path, row, column = cell
        return self.tables[Path(path)].rows[row], column


def _from_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        return Table(path, tuple(reader.fieldnames or ()), rows)


def _from_yaml(path: Path) -> Table:
    """Columns `key` (names joined by dots) and `value`."""
    found: list[Row] = []

    def walk(key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(f"{key}.{name}" if key else str(name), inner)
        else:
            found.append({"key": key, "value": value if isinstance(value, str) else json.dumps(value)})

    walk("", yaml.safe_load(path.read_text(encoding="utf-8")))
    return Table(path, ("key", "value"), found)
