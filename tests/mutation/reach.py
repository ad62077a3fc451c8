"""Which test executes which line, recorded once a commit, and the tests that a mutant meets."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from pipeline_lib.core.files import write_text
from tests.mutation.copies import Copy
from tests.mutation.sites import Site

FEW = 15  # with fewer tests that reach a line, others of their files follow, up to twice as many

# Whole files hold what modules declare at import: the suite's schema all defaults, the page every metric.
DECLARED = (
    "tests/study/test_schema.py::test_the_file_is_in_step",
    "tests/metrics/test_page.py::test_the_page_is_what_the_declarations_print",
)


@dataclass
class Reach:
    """What one run of the tests showed; only a test that passed is in it."""

    root: Path  # of the repository
    rooms: tuple[str, ...]  # the lines of others are not kept
    seconds: dict[str, float] = field(default_factory=dict)  # of each test when it runs alone
    setup: dict[str, float] = field(default_factory=dict)  # of them for fixtures that it shares with others
    lines: dict[str, dict[int, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    failed: dict[str, str] = field(default_factory=dict)  # of the unchanged library

    def add(self, tests: dict[str, dict]) -> None:
        for name, test in tests.items():
            if test["outcome"] == "failed":
                self.failed[name] = test["how"]
            if test["outcome"] == "passed":
                self.seconds[name], self.setup[name] = test["seconds"] + test["setup"], test["setup"]
                for file, lines in test["lines"].items():
                    if file.split("/")[1] in self.rooms:
                        for line in lines:
                            self.lines[file][line].add(name)

    def tests_for(self, site: Site, room: str, most: int, seconds: float) -> list[str]:
        """At most `most` tests of `seconds` in all: those that reach the site, then who else may see it."""
        of_file, exact = self.lines.get(site.file, {}), self._exact(site)
        found = self._quickest(exact)
        if site.at_import:
            found = [name for name in DECLARED if name in self.seconds] + self._naming(site, room) + found
        if site.at_import or not exact:
            found += self._quickest(set().union(*of_file.values()))
            found += self._quickest({name for name in self.seconds if name.startswith(f"tests/{room}/")})
        elif len(exact) < FEW:
            files = {name.partition("::")[0] for name in exact}
            beside = {name for name in self.seconds if name.partition("::")[0] in files} - exact
            found += self._quickest(beside)[: 2 * FEW]
        chosen: list[str] = []
        spent, begun = 0.0, set()
        for name in dict.fromkeys(found):
            file = name.partition("::")[0]
            spent += self.seconds[name] - (self.setup[name] if file in begun else 0.0)
            begun.add(file)
            if len(chosen) == most or (chosen and spent > seconds):
                break
            chosen.append(name)
        return chosen

    def _naming(self, site: Site, room: str) -> list[str]:
        """Tests of the room whose file has the name that the site declares."""
        if not site.declares:
            return []
        tests = {name for name in self.seconds if name.startswith(f"tests/{room}/")}
        files = {name.partition("::")[0] for name in tests}
        has = {file for file in files if site.declares in (self.root / file).read_text(encoding="utf-8")}
        return self._quickest({name for name in tests if name.partition("::")[0] in has})

    def reaching(self, site: Site) -> int:
        """Number of tests that execute the site's statement."""
        return len(self._exact(site))

    def _exact(self, site: Site) -> set[str]:
        of_file = self.lines.get(site.file, {})
        return set().union(*(of_file.get(line, set()) for line in range(site.first, site.last + 1)))

    def _quickest(self, names: set[str]) -> list[str]:
        return sorted(names, key=lambda name: (self.seconds[name], name))


def recorded(
    copies: list[Copy], rooms: Sequence[str], files: list[str], store: Path, say: Callable[[str], None]
) -> Reach:
    """What the tests in `files` reach of the rooms. `store` keeps what a file showed: it is run once."""
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def kept(file: str) -> dict[str, dict]:
        place = store / f"{file.replace('/', '.')}.json"
        if not place.is_file():
            copy = free.get()
            try:
                answer = copy.run([[file]], record=True)
            finally:
                free.put(copy)
            if answer["outcome"] not in ("passed", "failed"):
                say(f"{file} ends as {answer['outcome']} without a fault, and is left out {answer['test']}")
                return {}
            write_text(place, json.dumps(answer["tests"]))
            say(f"recorded {file}")
        return dict(json.loads(place.read_text(encoding="utf-8")))

    store.mkdir(parents=True, exist_ok=True)
    reach = Reach(copies[0].folder, tuple(rooms))
    with ThreadPoolExecutor(len(copies)) as pool:
        for tests in pool.map(kept, files):
            reach.add(tests)
    return reach
