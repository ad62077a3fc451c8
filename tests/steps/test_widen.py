"""The ranges of the next round: one row's choice at an end widens them for every row alike, within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.core.files import read_json, write_json
from pipeline_lib.steps import widen
from tests.steps.study import job

RATE = {"low": 1e-4, "high": 1e-3, "scale": "log"}
SLOW = {"low": 1e-6, "high": 1e-4, "scale": "log"}
SHARE = {"low": 0.1, "high": 0.9, "scale": "linear"}
ROWS: dict[str, Any] = {
    "adamw": {
        "ranges": {"optimizer": {"learning_rate": RATE}, "objective": {"beta": [0.1, 1.0]}},
        "limits": {"optimizer": {"learning_rate": [2, 2]}, "objective": {}},
    },
    "sophia": {
        "ranges": {"optimizer": {"learning_rate": SLOW, "clipped_target": SHARE}, "objective": {}},
        "limits": {"optimizer": {"learning_rate": [2, 1], "clipped_target": [0, 0]}, "objective": {}},
    },
}


def run(root: Path, number: int, *edges: dict[str, str], status: str = "ok") -> dict[str, Any]:
    """The ranges of round `number`, after choices of these rows at these ends."""
    choices = []
    for row, at_edge in zip(ROWS, edges, strict=True):
        choices.append(root / f"{row}.{number}.json")
        parts = {"optimizer": at_edge, "objective": {}} if "beta" not in at_edge else {"objective": at_edge}
        write_json(choices[-1], {"status": status, "at_edge": parts})
    inputs: dict[str, Any] = {"choices": choices}
    if number > 2:
        inputs["before"] = root / f"round{number - 1}.json"
    widen.run(job(root, inputs, {"ranges": f"round{number}.json"}, rows=ROWS))
    return read_json(root / f"round{number}.json")


def rates(found: dict[str, Any]) -> list[tuple[float, float]]:
    ranges = [found["ranges"][row]["optimizer"]["learning_rate"] for row in ROWS]
    return [(tried["low"], tried["high"]) for tried in ranges]


def test_every_row_follows_the_row_that_chose_an_end(tmp_path: Path) -> None:
    found = run(tmp_path, 2, {"learning_rate": "highest"}, {})
    assert not found["skipped"] and rates(found) == [(1e-4, 1e-2), (1e-6, 1e-2)]
    assert found["ranges"]["sophia"]["optimizer"]["clipped_target"] == SHARE
    assert found["ranges"]["adamw"]["objective"] == {"beta": [0.1, 1.0]}


def test_both_ends_if_rows_disagree_and_each_once_if_they_agree(tmp_path: Path) -> None:
    found = run(tmp_path, 2, {"learning_rate": "highest"}, {"learning_rate": "lowest"})
    assert rates(found) == [(1e-5, 1e-2), (1e-8, 1e-2)]
    agreed = run(tmp_path, 2, {"learning_rate": "highest"}, {"learning_rate": "highest"})
    assert rates(agreed) == [(1e-4, 1e-2), (1e-6, 1e-2)]


def test_a_round_is_skipped_where_nobody_chose_an_end(tmp_path: Path) -> None:
    found = run(tmp_path, 2, {}, {})
    assert found["skipped"] and rates(found) == [(1e-4, 1e-3), (1e-6, 1e-4)]


def test_a_row_goes_no_further_than_its_setting_allows(tmp_path: Path) -> None:
    run(tmp_path, 2, {"learning_rate": "highest"}, {})
    found = run(tmp_path, 3, {"learning_rate": "highest"}, {})
    assert not found["skipped"] and rates(found) == [(1e-4, 0.1), (1e-6, 1e-2)], "sophia: once"
    at_the_end = run(tmp_path, 2, {}, {"clipped_target": "highest"})
    assert at_the_end["skipped"], "no row can follow"
    assert run(tmp_path, 2, {"beta": "highest"}, {})["skipped"], "a list has nothing beyond its ends"


def test_later_rounds_go_on_from_the_last_and_stop_when_it_helped(tmp_path: Path) -> None:
    second = run(tmp_path, 2, {"learning_rate": "highest"}, {})
    third = run(tmp_path, 3, {}, {})
    assert third["skipped"] and third["ranges"] == second["ranges"]
    again = run(tmp_path, 3, {"learning_rate": "lowest"}, {})
    assert not again["skipped"] and rates(again) == [(1e-5, 1e-2), (1e-8, 1e-2)]


def test_rows_of_which_every_trial_diverged_point_nowhere(tmp_path: Path) -> None:
    assert run(tmp_path, 2, {"learning_rate": "lowest"}, {}, status="every trial diverged")["skipped"]
