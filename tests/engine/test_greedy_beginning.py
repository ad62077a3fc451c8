"""The greedy answer as far as scored texts show it."""

from __future__ import annotations

import pytest

from pipeline_lib.engine.greedy_beginning import greedy_beginning

END = 0


@pytest.mark.parametrize(
    ("texts", "predicted", "expected"),
    [
        ([[4, 5, END]], [[4, 5, END]], [4, 5, END]),  # known by heart
        ([[4, 5, END]], [[4, 6, END]], [4, 6]),  # leaves the text: what follows 6 is not known
        ([[4, 5, END]], [[9, 5, END]], [9]),
        ([[4, 5, 6, END], [4, 7, END]], [[4, 7, 1, 1], [4, 7, END]], [4, 7, END]),  # goes over to the other
        ([[4, 5, 6, END], [4, END]], [[4, END, 6, END], [4, END]], [4, END]),  # ends before the text does
        ([[4, 5]], [[4, 5]], [4, 5]),  # the text's last token is known too, though it has no end
    ],
)
def test_greedy_beginning(texts, predicted, expected):
    assert greedy_beginning(texts, predicted, frozenset([END])) == expected
