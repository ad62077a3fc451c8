"""Later rounds of tuning: what is declared of them before anybody knows how far the ranges must be widened.

A choice at the end of its range widens that setting's range towards this end for every row that has one, by
the width that the row's own range began with. How far a row can follow is known beforehand, from the values
that its setting takes; so are the trials, as places between the ends of a range that is not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline_lib.core.blocks import Block
from pipeline_lib.core.ranges import widened
from pipeline_lib.study.sampling import points

Ranges = Mapping[str, Mapping[str, Any]]  # part of a run -> setting -> range or list
Places = dict[str, dict[str, float]]  # part of a run -> setting -> place in [0, 1)


def later_places(ranges: Ranges, trials: int, rounds: int, labels: list[str]) -> dict[int, Places]:
    """The places of the trials after the first round, whose numbers go on; the sequence goes on too."""
    names = sorted((part, name) for part, of_part in ranges.items() for name in of_part)
    found = {}
    for number, point in enumerate(points(len(names), trials * rounds, labels), start=1):
        if number > trials:
            found[number] = {
                part: {name: float(u) for (p, name), u in zip(names, point, strict=True) if p == part}
                for part in ranges
            }
    return found


def limits_of(ranges: Ranges, blocks: Mapping[str, Block], rounds: int) -> dict[str, dict[str, list[int]]]:
    """How often the range of each setting can be widened downwards and upwards, at most once a round."""
    return {
        part: {
            name: [_steps(blocks[part], name, tried, end, rounds - 1) for end in ("low", "high")]
            for name, tried in of_part.items()
            if not isinstance(tried, list)
        }
        for part, of_part in ranges.items()
    }


def _steps(block: Block, name: str, tried: Mapping[str, Any], end: str, most: int) -> int:
    for steps in range(1, most + 1):
        further = widened(tried, *((steps, 0) if end == "low" else (0, steps)))
        try:
            type(block).model_validate({**block.model_dump(), name: further[end]})
        except ValidationError:
            return steps - 1
    return most
