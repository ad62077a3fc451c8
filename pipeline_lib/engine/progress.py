"""How much an evaluation has to do, how long that will take, and how far it is."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass

from pipeline_lib.core.durations import duration
from pipeline_lib.core.meter import Meter


@dataclass(frozen=True)
class Work:
    """What is to be done for one split: items of each kind, and the tokens they hold (answers: at most)."""

    items: dict[str, int]
    tokens: dict[str, int]


class Progress(Meter):
    """Counts all items. After the first batch of each kind of work it prints how long that kind takes."""

    def __init__(self, works: list[Work], show: bool):
        self.left, self.tokens = Counter[str](), Counter[str]()
        for work in works:
            self.left.update(work.items)
            self.tokens.update(work.tokens)
        super().__init__(self.left.total(), "step", show=show)
        self.timed: set[str] = set()
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

    def begin(self, kind: str, split: str) -> None:
        self.kind, self.what, self.started = kind, f"{kind} {split}", time.perf_counter()

    def did(self, items: int) -> None:
        """`items` of the kind begun last are ready."""
        self.update(items)
        self.left[self.kind] -= items
        if items and self.kind not in self.timed and self.left[self.kind]:
            self.timed.add(self.kind)
            seconds = time.perf_counter() - self.started
            rest = duration(seconds / items * self.left[self.kind])
            self.say(
                f"{self.kind}: first {items} in {duration(seconds)}, the other {self.left[self.kind]} in "
                f"about {rest} or less (the longest come first)"
            )

    def kept(self, work: Work) -> None:
        """The rows of a split are there already."""
        self.left.subtract(work.items)
        self.skip(sum(work.items.values()))

    def say(self, line: str) -> None:
        if self.show:
            print(line, file=sys.stderr)
