"""One mutant after the other meets its tests; what became of each is kept at once, and never done twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_json, write_text
from tests.mutation.copies import Copy
from tests.mutation.reach import Reach
from tests.mutation.sites import Mutant, chosen

BATCHES = (8, 40)  # tests that are collected together: a mutant that dies early waits for few imports
SURVIVED = ("survived", "untested")


@dataclass(frozen=True)
class Limits:
    """What a mutant may cost: at most `tests`, which take `seconds` together where all is well."""

    tests: int = 200
    seconds: float = 40.0


@dataclass
class Kept:
    """The results so far, in the file `path`, which names the code and the seed that they are of."""

    path: Path
    head: dict[str, Any]
    rooms: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.is_file():
            found = read_json(self.path)
            if any(found[name] != self.head[name] for name in ("seed", "code")):
                raise UserError(
                    f"{self.path} has results of seed {found['seed']} and commit {found['commit'][:12]}:"
                    " another seed or other code. Give --out another name, or move the file away"
                )
            self.rooms = found["rooms"]

    def room(self, name: str, sites: int) -> dict[str, Any]:
        return self.rooms.setdefault(name, {"sites": sites, "mutants": {}})

    def write(self) -> None:
        write_text(
            self.path, json.dumps(self.head | {"rooms": self.rooms}, indent=1, ensure_ascii=False) + "\n"
        )


@dataclass
class Trial:
    """What the trials of all rooms share."""

    reach: Reach
    limits: Limits = Limits()
    sound: set[str] = field(default_factory=set)  # tests that failed on a mutant, and then passed without it
    unsound: dict[str, str] = field(default_factory=dict)  # and those that did not: they do not count

    def meet(self, copy: Copy, mutant: Mutant, room: str) -> dict[str, Any]:
        """What became of the mutant. A test that fails without it too is left out, and all starts anew."""
        site, started = mutant.site, time.monotonic()
        tests = self.reach.tests_for(site, room, self.limits.tests, self.limits.seconds)
        found: dict[str, Any] = {"outcome": "untested", "test": "", "how": "", "tried": 0}
        while tests := [name for name in tests if name not in self.unsound]:
            batches = in_batches(tests)
            with copy.changed(mutant):
                found = copy.run(batches, self.reach.seconds)
            if found["outcome"] == "passed":
                found["outcome"] = "survived"
            if not found["test"] or (found["test"] in self.sound and found["outcome"] == "failed"):
                break
            without = copy.run(up_to(batches, found["test"]), self.reach.seconds)
            if without["outcome"] == "passed":
                self.sound.add(found["test"])
                break
            slow = found["outcome"] == without["outcome"] == "timeout"  # as its neighbours will be
            alike = (found["test"].partition("::")[0] + "::") if slow else without["test"] or found["test"]
            self.unsound |= {name: without["how"] for name in tests if name.startswith(alike)}
        return {
            **{"file": site.file, "line": mutant.line, "kind": site.change.kind},
            **{"before": mutant.before, "after": mutant.after, **found},
            **{"at_import": site.at_import, "reached_by": self.reach.reaching(site)},
            "seconds": round(time.monotonic() - started, 2),
        }


def in_batches(tests: list[str]) -> list[list[str]]:
    """The tests in their order, but those of a file together, because they may share an expensive fixture."""
    cuts = [*accumulate((0, *BATCHES)), len(tests)]
    found = []
    for start, end in pairwise(cuts):
        files: dict[str, list[str]] = {}
        for name in tests[start:end]:
            files.setdefault(name.partition("::")[0], []).append(name)
        if files:
            found.append([*chain(*files.values())])
    return found


def up_to(batches: list[list[str]], name: str) -> list[list[str]]:
    """The batches as far as the test `name`, which is the last one."""
    place = next((place for place, batch in enumerate(batches) if name in batch), None)
    if place is None:
        return batches
    return [*batches[:place], batches[place][: batches[place].index(name) + 1]]


def tried_room(
    room: str, count: int, copies: list[Copy], trial: Trial, kept: Kept, say: Callable[[str], None]
) -> None:
    """Try `count` mutants of a room that `kept` does not have yet, as many at a time as there are copies."""
    mutants, sites = chosen(copies[0].folder, room, count, kept.head["seed"])
    results = kept.room(room, sites)["mutants"]
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(mutant: Mutant) -> tuple[str, dict[str, Any]]:
        copy = free.get()
        try:
            return mutant.key, trial.meet(copy, mutant, room)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        waiting = [pool.submit(one, mutant) for mutant in mutants if mutant.key not in results]
        for done in as_completed(waiting):
            key, result = done.result()
            results[key] = result
            kept.write()
            spent = f"{result['outcome']:9} {result['seconds']:6.1f} s  {result['tried']:3} tests"
            place = f"{result['file']}:{result['line']}"
            say(f"{room} {len(results)}/{len(mutants)}  {spent}  {place}  {result['after'][:70]}")
