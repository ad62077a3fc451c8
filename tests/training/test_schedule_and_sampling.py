"""Learning rates by hand, and who is trained on when."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.training.batches import MiniBatches
from pipeline_lib.training.sampling import derived_seed, epoch_rows, stream_rows
from pipeline_lib.training.schedule import learning_rate_factor
from tests.paths import REPO
from tests.tiny import random_examples
from tests.training.runs import data, settings

# --- schedule -------------------------------------------------------------------------------------


def factors(total, warmup, decay):
    return [learning_rate_factor(step, total, warmup, decay) for step in range(1, total + 1)]


def test_schedules_by_hand():
    assert factors(4, 0.0, "constant") == [1, 1, 1, 1]
    assert factors(4, 0.0, "linear") == [1, 0.75, 0.5, 0.25]
    assert factors(4, 0.5, "constant") == [0.5, 1, 1, 1]
    assert factors(6, 1 / 3, "linear") == [0.5, 1, 1, 0.75, 0.5, 0.25]
    assert factors(4, 0.0, "cosine") == pytest.approx([1, 0.5 + 2**-1.5, 0.5, 0.5 - 2**-1.5])
    assert factors(5, 0.2, "cosine") == pytest.approx([1, 1, 0.5 + 2**-1.5, 0.5, 0.5 - 2**-1.5])


@given(
    st.integers(1, 300), st.floats(0, 1, exclude_max=True), st.sampled_from(["constant", "linear", "cosine"])
)
def test_every_step_moves_and_none_too_far(total, warmup, decay):
    found = factors(total, warmup, decay)
    assert all(0 < factor <= 1 for factor in found)
    assert max(found) == 1
    top = found.index(1)
    assert found[:top] == sorted(found[:top]) and found[top:] == sorted(found[top:], reverse=True)


def test_an_unknown_decay_is_an_error():
    with pytest.raises(ValueError, match="constant, linear, cosine"):
        learning_rate_factor(1, 4, 0.0, "cosin")


# --- sampling -------------------------------------------------------------------------------------


@given(n=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 5))
def test_the_main_set_is_seen_once_an_epoch(n, size, seed):
    steps = -(-n // size)
    for epoch in range(3):
        rows = [
            row
            for step in range(epoch * steps, (epoch + 1) * steps)
            for row in epoch_rows(n, size, step, seed)
        ]
        assert sorted(rows) == list(range(n))


@given(n=st.integers(1, 20), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_the_stream_is_walked_in_whole_laps(n, sizes):
    rows, start = [], 0
    for size in sizes:
        rows += stream_rows(n, start, size, seed=0)
        start += size
    for lap in range(0, len(rows), n):
        seen = rows[lap : lap + n]
        assert len(set(seen)) == len(seen)  # nobody twice before everybody once
    assert set(rows) <= set(range(n))


def test_orders_differ_between_epochs_seeds_and_sets():
    orders = {
        tuple(epoch_rows(30, 30, 0, 0)),
        tuple(epoch_rows(30, 30, 1, 0)),
        tuple(epoch_rows(30, 30, 0, 1)),
        tuple(stream_rows(30, 0, 30, 0)),
        tuple(stream_rows(30, 30, 30, 0)),
    }
    assert len(orders) == 5


def test_seeds_and_orders_are_the_same_in_every_process():
    code = (
        "from pipeline_lib.training.sampling import *\n"
        "print(derived_seed(1, 'x', 2.5), epoch_rows(9, 4, 3, 7), stream_rows(5, 12, 4, 7))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    expected = (derived_seed(1, "x", 2.5), epoch_rows(9, 4, 3, 7), stream_rows(5, 12, 4, 7))
    assert done.stdout.strip() == " ".join(map(str, expected))
    assert derived_seed("a") == 0xCA978112CA1BBDCA >> 1  # the head of SHA-256 of "a"
    assert derived_seed(1, 2) != derived_seed(12)


# --- batches of a step ------------------------------------------------------------------------------


def rows_of(batches):
    return [int(row) for batch in batches for row in batch.index]


def test_forget_and_retain_have_the_same_size_also_in_a_short_step():
    """10 forget rows, 4 a step: 4, 4, 2. The retain set of 7 is walked on without gaps or repeats."""
    course = MiniBatches(data(forget=10, retain=7), settings(), 0)
    forget, retain = zip(*(course.batches(step) for step in range(6)), strict=True)
    assert [len(rows_of(batches)) for batches in forget] == [4, 4, 2, 4, 4, 2]
    assert [len(rows_of(batches)) for batches in retain] == [4, 4, 2, 4, 4, 2]
    assert sorted(rows_of(chain(*forget[:3]))) == list(range(10))
    seen = Counter(rows_of(chain(*retain)))  # 20 places for 7 rows: 2 or 3 each
    assert sorted(seen.values()) == [2, 3, 3, 3, 3, 3, 3]
    for batches in (*forget, *retain):
        assert all(len(batch.index) <= 2 for batch in batches)
        assert {batch.examples_in_step for batch in batches} == {len(rows_of(batches))}
        assert {batch.tokens_in_step for batch in batches} == {sum(b.answer_tokens for b in batches)}


def test_fine_tuning_has_no_forget_set():
    course = MiniBatches(data(forget=0, retain=10), settings(), 0)
    steps = [course.batches(step) for step in range(3)]
    assert all(forget == [] for forget, _ in steps)
    assert sorted(row for _, retain in steps for row in rows_of(retain)) == list(range(10))


def test_refusals_stand_in_for_answers_of_their_own_row():
    """Alternative p of row i is marked by its first token: 10 p + i."""
    options = [
        [type(e)((10 * p + e.index, *e.tokens), e.prompt_length + 1, e.index) for p in range(4)]
        for e in random_examples(6, 1)
    ]
    course = MiniBatches(data(forget=6, forget_alternatives=options), settings(), 0)
    picks = Counter()
    for step in range(40):
        for batch in course.batches(step)[0]:
            for row, first in zip(batch.index.tolist(), batch.input_ids[:, 0].tolist(), strict=True):
                pick, found = divmod(first, 10)
                assert found == row
                picks[pick] += 1
    assert set(picks) == {0, 1, 2, 3} and min(picks.values()) > 15  # 120 draws of 4


@pytest.mark.parametrize(
    "epochs, size, accumulation, n, expected",
    [(2, 4, 1, 10, 6), (2, 2, 2, 10, 6), (0.5, 4, 1, 10, 2), (0.1, 4, 1, 10, 1), (3, 16, 4, 10, 3)],
)
def test_step_count_by_hand(epochs, size, accumulation, n, expected):
    cut = settings(epochs=epochs, batch_size=size, accumulation=accumulation)
    for sets in (data(forget=n), data(forget=0, retain=n)):
        assert MiniBatches(sets, cut, 0).steps == expected
