"""The text of a module by bytes, so that one place of it can be replaced and all else stays as it is."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from itertools import accumulate

Located = ast.expr | ast.stmt | ast.keyword | ast.excepthandler


@dataclass(frozen=True)
class Source:
    """A module's text in UTF-8. Offsets are bytes from its beginning, as the columns of `ast` are bytes."""

    content: bytes
    starts: list[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        lengths = map(len, self.content.splitlines(keepends=True))
        object.__setattr__(self, "starts", [0, *accumulate(lengths)])

    def start(self, node: Located) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: Located) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def between(self, start: int, end: int) -> str:
        return self.content[start:end].decode()

    def text(self, node: Located) -> str:
        return self.between(self.start(node), self.end(node))

    def replaced(self, start: int, end: int, text: str) -> bytes:
        return self.content[:start] + text.encode() + self.content[end:]

    def line(self, offset: int) -> int:
        """Number of the line that has this byte, from 1 on."""
        return self.content.count(b"\n", 0, offset) + 1

    def lines(self, start: int, end: int, text: str | None = None) -> str:
        """The lines that a span touches, on one; with `text` in place of the span where it is given."""
        first = self.content.rfind(b"\n", 0, start) + 1
        last = self.content.find(b"\n", end)
        last = len(self.content) if last < 0 else last
        inside = self.between(start, end) if text is None else text
        return " ".join((self.between(first, start) + inside + self.between(end, last)).split())
