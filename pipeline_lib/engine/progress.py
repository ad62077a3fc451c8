"""What an evaluation will cost, said before it starts, and how far it is."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from tqdm import tqdm

from pipeline_lib.core.durations import duration


@dataclass(frozen=True)
class Work:
    """What is to be done for one split: items of each kind, and the tokens they hold (answers: at most)."""

    items: dict[str, int]
    tokens: dict[str, int]


class Progress:
    """A bar over all items. After the first batch of each kind of work it prints how long that kind takes."""

    def __init__(self, works: list[Work], show: bool):
        quiet = not sys.stderr.isatty()  # a job's log makes a line of each state of the bar (joblog.py)
        self.show = show
        self.left: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        for work in works:
            for kind, count in work.items.items():
                self.left[kind] = self.left.get(kind, 0) + count
            for kind, count in work.tokens.items():
                self.tokens[kind] = self.tokens.get(kind, 0) + count
        self.bar = tqdm(
            total=sum(self.left.values()), unit="step", disable=not show, mininterval=15 if quiet else 0.5
        )
        self.timed: set[str] = set()
        self.kind, self.started = "", 0.0

    def announce(self, splits: int, records: int) -> None:
        """What is to be done, before it is."""
        scored, answered = self.tokens.get("scoring", 0), self.tokens.get("answering", 0)
        more = [f"at most {self.tokens['sampling']:,} to draw"] if "sampling" in self.tokens else []
        more += [f"{self.left['gradients']:,} gradients"] if "gradients" in self.left else []
        self.say(
            f"evaluating {records:,} records of {splits} splits: {scored:,} tokens to score, "
            + ", ".join([f"at most {answered:,} to generate", *more])
        )

    def begin(self, kind: str, split: str) -> None:
        self.kind, self.started = kind, time.perf_counter()
        self.bar.set_description(f"{kind} {split}")

    def done(self, items: int) -> None:
        """`items` of the kind begun last are ready."""
        self.bar.update(items)
        self.left[self.kind] -= items
        if items and self.kind not in self.timed and self.left[self.kind]:
            self.timed.add(self.kind)
            seconds = time.perf_counter() - self.started
            rest = duration(seconds / items * self.left[self.kind])
            self.say(
                f"{self.kind}: first {items} in {duration(seconds)}, the other {self.left[self.kind]} in "
                f"about {rest} or less (the longest come first)"
            )

    def skip(self, work: Work) -> None:
        """This split's rows are there already."""
        for kind, count in work.items.items():
            self.left[kind] -= count
        self.bar.update(sum(work.items.values()))

    def say(self, line: str) -> None:
        if self.show:
            tqdm.write(line, file=sys.stderr)
