"""How much an evaluation has to do, how long that will take, and how far it is."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from pipeline_lib.core.durations import duration
from pipeline_lib.core.meter import Meter


@dataclass(frozen=True)
class Work:
    """What is to be done for one split: items of each kind, and the tokens they hold (answers: at most)."""

    items: dict[str, int]
    tokens: dict[str, int]


class Progress(Meter):
    """Counts all items. After the first batch of each kind of work it prints how long that kind takes.

    Kinds may take turns. `begin` says of how many items the first batch is.
    """

    def __init__(self, works: list[Work], show: bool):
        self.left, self.tokens = Counter[str](), Counter[str]()
        for work in works:
            self.left.update(work.items)
            self.tokens.update(work.tokens)
        super().__init__(self.left.total(), "step", show=show)
        self.timed: set[str] = set()
        self.ready, self.first = Counter[str](), dict[str, int]()
        self.spent: dict[str, float] = defaultdict(float)
        self.kind, self.started = "", 0.0

    def announce(self, splits: int, records: int) -> None:
        """What is to be done, before it is."""
        parts = [
            f"{self.tokens['scoring']:,} tokens to score",
            f"at most {self.tokens['answering']:,} to generate",
        ]
        if "sampling" in self.tokens:
            parts.append(f"at most {self.tokens['sampling']:,} to draw")
        if "gradients" in self.left:
            parts.append(f"{self.left['gradients']:,} gradients")
        self.say(f"evaluating {records:,} records of {splits} splits: {', '.join(parts)}")

    def begin(self, kind: str, split: str, first: int = 1) -> None:
        self._stop()
        self.kind, self.what = kind, f"{kind} {split}"
        self.first.setdefault(kind, first)

    def _stop(self) -> None:
        now = time.perf_counter()
        if self.kind:
            self.spent[self.kind] += now - self.started
        self.started = now

    def did(self, items: int) -> None:
        """`items` of the kind begun last are ready."""
        kind = self.kind
        self.update(items)
        self.left[kind] -= items
        self.ready[kind] += items
        if kind not in self.timed and self.ready[kind] >= self.first[kind] and self.left[kind]:
            self.timed.add(kind)
            self._stop()
            ready, left = self.ready[kind], self.left[kind]
            spent, rest = (duration(self.spent[kind] / ready * items) for items in (ready, left))
            self.say(f"{kind}: first {ready} in {spent}, the other {left} in about {rest}")

    def kept(self, work: Work) -> None:
        """The rows of a split are there already."""
        self.left.subtract(work.items)
        self.skip(sum(work.items.values()))

    def say(self, line: str) -> None:
        if self.show:
            print(line, file=sys.stderr)
