"""The small language of marks: rows of a table, one number of them, arithmetic, comparisons.

    main[task=book, quantity=retain.probability]       rows; `row=a|b`: either, `row=a*`: beginning so
    retain[row=original]                               rows of rows; as a number: `value` of the one row
    retain[row=original].low, speed[way=ours].'s a question'       another column
    min(x) max(x) mean(x) median(x) sum(x) count(x)    one number of several rows
    round(x, -2) abs(x) + - * / ( )                    arithmetic
    x < y and y <= z                                   what a sentence claims

Conditions: = and != compare text (numbers as numbers); < <= > >= compare numbers, and their right side is
an expression. A comparison of numbers allows for rounding of 1e-9. Nothing is executed: the reader
below knows these words and no others.
"""

from __future__ import annotations

import operator
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.texts.tables import Library, Table, TextError

TOKEN = re.compile(
    r"\s*(?:(?P<number>\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<op><=|>=|==|[-+*/()<>,.])|'(?P<text>[^']*)'|\[(?P<conditions>[^\]]*)\])"
)
CONDITION = re.compile(r"\s*(?P<column>[\w ]+?)\s*(?P<op>!=|<=|>=|=|<|>)\s*(?P<right>.*?)\s*$", re.DOTALL)
FILE = re.compile(r"[\w./-]+\.(?:csv|yaml)")
PLAIN = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
SLACK = 1e-9

ORDER: dict[str, Callable[[float, float], bool]] = {
    "<": lambda left, right: left < right - SLACK,
    "<=": lambda left, right: left <= right + SLACK,
    ">": lambda left, right: left > right + SLACK,
    ">=": lambda left, right: left >= right - SLACK,
    "==": lambda left, right: abs(left - right) <= SLACK,
}
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
OVER_ROWS: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "mean": statistics.fmean,
    "median": statistics.median,
    "sum": sum,
}


@dataclass(frozen=True)
class Rows:
    """Some rows of a table, and the column that is meant where a number is wanted."""

    table: Table
    indices: tuple[int, ...]
    column: str = "value"


Value = Rows | float | bool


class Scope:
    """The names that one page defines, and the files they come from."""

    def __init__(self, library: Library, folder: Path, definitions: dict[str, str]) -> None:
        self.library = library
        self.folder = folder
        self.definitions = definitions

    def number(self, expression: str) -> float:
        return self.as_number(self.value(expression))

    def truth(self, expression: str) -> bool:
        value = self.value(expression)
        if not isinstance(value, bool):
            raise TextError(f"{expression!r} compares nothing")
        return value

    def rows(self, expression: str) -> Rows:
        value = self.value(expression)
        if not isinstance(value, Rows):
            raise TextError(f"{expression!r} is a number, not rows of a table")
        return value

    def value(self, expression: str) -> Value:
        reader = _Reader(self, expression)
        value = reader.claim()
        reader.end()
        return value

    def name(self, name: str) -> Value:
        if name not in self.definitions:
            raise TextError(f"{name!r} is not defined on this page (known: {', '.join(self.definitions)})")
        right = self.definitions[name]
        if FILE.fullmatch(right):
            table = self.library.table(self.folder / right)
            return Rows(table, tuple(range(len(table.rows))))
        return self.value(right)

    def as_number(self, value: Value) -> float:
        if isinstance(value, Rows):
            if len(value.indices) != 1:
                raise TextError(f"{len(value.indices)} rows of {value.table.path.name} where one is wanted")
            return self.library.number(value.table, value.indices[0], value.column)
        if isinstance(value, bool):
            raise TextError("a comparison stands where a number is wanted")
        return value

    def numbers(self, rows: Rows) -> list[float]:
        if not rows.indices:
            raise TextError(f"no row of {rows.table.path.name} is meant")
        return [self.library.number(rows.table, index, rows.column) for index in rows.indices]

    def narrowed(self, rows: Rows, conditions: str) -> Rows:
        indices = rows.indices
        for text in conditions.split(","):
            match = CONDITION.match(text)
            if match is None:
                raise TextError(f"{text.strip()!r} is no condition: column=text or column<number is meant")
            column, op, right = match["column"], match["op"], match["right"]
            if column not in rows.table.columns:
                raise TextError(f"{rows.table.path.name} has no column {column!r}")
            if op in ORDER:
                bound = self.number(right)
                meets = ORDER[op]
                indices = tuple(
                    i for i in indices if meets(self.library.number(rows.table, i, column), bound)
                )
            else:
                meant = _meant(right)
                cells = rows.table.rows
                indices = tuple(i for i in indices if meant(cells[i][column]) == (op == "="))
        return Rows(rows.table, indices, rows.column)


def _meant(right: str) -> Callable[[str], bool]:
    """Whether a cell is one of the texts, patterns or numbers that a condition names."""
    choices = [choice.strip() for choice in right.split("|")]
    patterns = [choice for choice in choices if "*" in choice]
    numbers = {float(choice) for choice in choices if PLAIN.fullmatch(choice)}

    def meant(cell: str) -> bool:
        if cell in choices or any(fnmatchcase(cell, pattern) for pattern in patterns):
            return True
        return bool(numbers) and PLAIN.fullmatch(cell) is not None and float(cell) in numbers

    return meant


class _Reader:
    """Reads one expression from left to right."""

    def __init__(self, scope: Scope, text: str) -> None:
        self.scope = scope
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        place, text = 0, text.rstrip()
        while place < len(text):
            match = TOKEN.match(text, place)
            if match is None:
                raise TextError(f"{text[place:]!r} in {text!r} cannot be read")
            kind = match.lastgroup or ""
            self.tokens.append((kind, match[kind]))
            place = match.end()

    def next_is(self, *wanted: str) -> str | None:
        """Takes the next token where it is one of `wanted`."""
        if self.tokens and self.tokens[0][0] in {"op", "name"} and self.tokens[0][1] in wanted:
            return self.tokens.pop(0)[1]
        return None

    def need(self, wanted: str) -> None:
        if self.next_is(wanted) is None:
            raise TextError(f"{self.text!r}: {wanted!r} is missing")

    def end(self) -> None:
        if self.tokens:
            raise TextError(f"{self.text!r}: {self.tokens[0][1]!r} is too much")

    def claim(self) -> Value:
        value = self.comparison()
        while self.next_is("and"):
            other = self.comparison()
            if not (isinstance(value, bool) and isinstance(other, bool)):
                raise TextError(f"{self.text!r}: 'and' stands between comparisons")
            value = value and other
        return value

    def comparison(self) -> Value:
        left = self.arithmetic()
        if not (op := self.next_is(*ORDER)):
            return left
        truth, number = True, self.scope.as_number(left)
        while op:
            right = self.scope.as_number(self.arithmetic())
            truth = truth and ORDER[op](number, right)
            number, op = right, self.next_is(*ORDER)
        return truth

    def arithmetic(self) -> Value:
        return self.chain(("+", "-"), lambda: self.chain(("*", "/"), self.signed))

    def chain(self, ops: tuple[str, str], inner: Callable[[], Value]) -> Value:
        left = inner()
        while op := self.next_is(*ops):
            left = ARITHMETIC[op](self.scope.as_number(left), self.scope.as_number(inner()))
        return left

    def signed(self) -> Value:
        if self.next_is("-"):
            return -self.scope.as_number(self.signed())
        return self.primary()

    def primary(self) -> Value:
        if self.next_is("("):
            value = self.claim()
            self.need(")")
            return value
        if not self.tokens or self.tokens[0][0] not in {"number", "name"}:
            raise TextError(f"{self.text!r}: a number or a name is missing")
        kind, word = self.tokens.pop(0)
        if kind == "number":
            return float(word)
        if self.next_is("("):
            value = self.call(word)
            self.need(")")
            return value
        return self.suffixes(word, self.scope.name(word))

    def suffixes(self, name: str, value: Value) -> Value:
        while self.tokens:
            if self.tokens[0][0] == "conditions":
                conditions = self.tokens.pop(0)[1]
                if not isinstance(value, Rows):
                    raise TextError(f"{name} is a number and has no rows to choose from")
                value = self.scope.narrowed(value, conditions)
            elif self.next_is("."):
                if not isinstance(value, Rows) or not self.tokens:
                    raise TextError(f"{name} has no columns")
                kind, column = self.tokens.pop(0)
                if kind not in {"name", "text"}:
                    raise TextError(f"{self.text!r}: {column!r} is no column")
                value = Rows(value.table, value.indices, column)
            else:
                break
        return value

    def call(self, function: str) -> float:
        value = self.claim()
        if function == "round":
            self.need(",")
            return round(self.scope.as_number(value), int(self.scope.as_number(self.signed())))
        if function == "abs":
            return abs(self.scope.as_number(value))
        if not isinstance(value, Rows):
            raise TextError(f"{function}() wants rows of a table")
        if function == "count":
            return float(len(value.indices))
        if function not in OVER_ROWS:
            raise TextError(f"there is no function {function!r}")
        return float(OVER_ROWS[function](self.scope.numbers(value)))
