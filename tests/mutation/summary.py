"""The share of mutants that the tests killed, with its interval, and the list of those that lived."""

from __future__ import annotations

from statistics import mean
from typing import Any

from scipy.stats import binomtest

from tests.mutation.trial import SURVIVED


def share(killed: int, of: int) -> str:
    """Killed per cent with Wilson's 95 % interval, for a further mutant of the same room."""
    interval = binomtest(killed, of).proportion_ci(method="wilson")
    return f"{killed / of:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def table(rooms: dict[str, dict[str, Any]]) -> str:
    """A row of Markdown for each room."""
    lines = [
        "| room | sites | mutants | killed | share (95 % interval) | by timeout | lived unreached | s each |",
        "|---|---:|---:|---:|---|---:|---:|---:|",
    ]
    for name, room in rooms.items():
        found = list(room["mutants"].values())
        if not found:
            continue
        lived = [mutant for mutant in found if mutant["outcome"] in SURVIVED]
        late = sum(mutant["outcome"] == "timeout" for mutant in found)
        unreached = sum(not (mutant["reached_by"] or mutant["at_import"]) for mutant in lived)
        killed, each = len(found) - len(lived), mean(mutant["seconds"] for mutant in found)
        lines.append(
            f"| {name} | {room['sites']} | {len(found)} | {killed} | {share(killed, len(found))}"
            f" | {late} | {unreached} | {each:.1f} |"
        )
    return "\n".join(lines)


def survivors(rooms: dict[str, dict[str, Any]]) -> str:
    """File, line, what stands there, what stood there unnoticed, and how many tests saw it."""
    lines = []
    for room in rooms.values():
        lived = [mutant for mutant in room["mutants"].values() if mutant["outcome"] in SURVIVED]
        for mutant in sorted(lived, key=lambda mutant: (mutant["file"], mutant["line"])):
            where = "it runs at import" if mutant["at_import"] else f"{mutant['reached_by']} reach the line"
            tried = f"{mutant['kind']}; {mutant['tried']} tests tried; {where}"
            lines.append(f"{mutant['file']}:{mutant['line']} ({tried})")
            lines += [f"    - {mutant['before']}", f"    + {mutant['after']}"]
    return "\n".join(lines)
