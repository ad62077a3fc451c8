"""The sampler: within the ranges, even, the same everywhere, and a sequence that can be continued."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from pipeline_lib.study.sampling import grid_size, sample
from tests.paths import REPO

LOG = {"low": 1e-5, "high": 1e-3, "scale": "log"}
LINEAR = {"low": 0.5, "high": 0.9, "scale": "linear"}
LABELS = ["NPO", "adamw"]


def one(tried: object, n: int, labels: list[str] = LABELS) -> list[float]:
    return [point["x"] for point in sample({"x": tried}, n, "halton", labels)]


def test_a_log_range_is_sampled_evenly_in_its_logarithm() -> None:
    values = one(LOG, 64)
    assert all(1e-5 <= value <= 1e-3 for value in values)
    # The first 64 points of base 2 are one in each 64th of the range, whatever the scrambling.
    cells = [math.floor(64 * (math.log10(value) + 5) / 2 + 1e-6) for value in values]
    exact = sum(cells.count(cell) == 1 for cell in range(64))
    assert exact >= 60  # rounding to 4 digits may move a point over a border
    assert sum(value < 1e-4 for value in values) == 32


def test_a_linear_range_is_sampled_evenly() -> None:
    values = one(LINEAR, 64)
    assert sum(value < 0.7 for value in values) == 32
    assert 0.5 <= min(values) < 0.51 and 0.89 < max(values) <= 0.9


def test_a_list_is_sampled_from_its_values() -> None:
    values = one(["auto", 0.5, 2], 60)
    assert {values.count(value) for value in ("auto", 0.5, 2)} <= {19, 20, 21}


def test_numbers_have_four_digits_and_stay_between_the_ends() -> None:
    narrow = {"low": 0.123456, "high": 0.123457, "scale": "linear"}
    assert all(0.123456 <= value <= 0.123457 for value in one(narrow, 20))
    assert all(value == float(f"{value:.4g}") for value in one(LOG, 20))


def test_more_trials_keep_the_earlier_ones() -> None:
    ranges = {"a": LOG, "b": LINEAR, "c": [1, 2, 3]}
    many = sample(ranges, 40, "halton", LABELS)
    for n in (1, 2, 7, 8, 16, 39):
        assert sample(ranges, n, "halton", LABELS) == many[:n]


def test_settings_are_sampled_apart() -> None:
    """No two settings of a row move together."""
    points = sample({"a": LOG, "b": LINEAR}, 36, "halton", LABELS)
    quarters = {(point["a"] < 1e-4, point["b"] < 0.7) for point in points}
    assert len(quarters) == 4


def test_the_order_in_the_file_does_not_matter() -> None:
    assert sample({"a": LOG, "b": LINEAR}, 8, "halton", LABELS) == sample(
        {"b": LINEAR, "a": LOG}, 8, "halton", LABELS
    )


def test_rows_have_points_of_their_own() -> None:
    assert one(LOG, 8) != one(LOG, 8, ["NPO", "sophia"])
    assert one(LOG, 8, ["a", "bc"]) != one(LOG, 8, ["ab", "c"])


def test_every_process_samples_the_same() -> None:
    code = (
        "import json, sys\n"
        "from pipeline_lib.study.sampling import sample\n"
        "print(json.dumps(sample(json.loads(sys.argv[1]), 8, 'halton', json.loads(sys.argv[2]))))"
    )
    ranges = {"a": LOG, "b": LINEAR}
    command = [sys.executable, "-c", code, json.dumps(ranges), json.dumps(LABELS)]
    for seed in ("0", "1"):  # of Python's own hashing, which must not matter
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": str(REPO)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert json.loads(done.stdout) == sample(ranges, 8, "halton", LABELS)


def test_a_grid_has_every_combination_once() -> None:
    lists = {"b": [1, 2, 3], "a": ["x", "y"]}
    assert grid_size(lists) == 6
    points = sample(lists, 6, "grid", LABELS)
    assert [(point["a"], point["b"]) for point in points] == [
        ("x", 1), ("x", 2), ("x", 3), ("y", 1), ("y", 2), ("y", 3),
    ]  # fmt: skip


@pytest.mark.parametrize("sampler", ["halton", "grid"])
def test_a_row_without_ranges_of_a_part_is_no_special_case(sampler: str) -> None:
    assert sample({"optimizer.x": [1]}, 1, sampler, LABELS) == [{"optimizer.x": 1}]


def test_the_points_are_those_of_every_version() -> None:
    """What a study was tuned with must come out again."""
    assert sample({"a": LOG, "b": LINEAR, "c": [1, 2, 3]}, 2, "halton", LABELS) == [
        {"a": 0.0002843, "b": 0.7028, "c": 3},
        {"a": 2.843e-05, "b": 0.8362, "c": 1},
    ]
