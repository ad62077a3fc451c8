"""What counts as knowing a text, and which model of a sweep is chosen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.questions import Questions
from pipeline_lib.metrics.study import Scores
from pipeline_lib.removal.evidence import Knowledge, Place, best, places


def questions(values: list[float], said: list[float] | None = None, groups: str = "aabb") -> Questions:
    ids = tuple(f"q{i}" for i in range(len(values)))
    names = tuple((groups * 9)[: len(values)])
    numbers = {"log_probability": np.array(values), "probability": np.exp(values)}
    return Questions(ids, names, {**numbers, "rouge_l_recall": np.array(said or [0.0] * len(values))})


def scores(forget: list[float], said: list[float] | None = None) -> Scores:
    unseen = questions([-3.1, -2.9, -3.2, -2.8])
    return {"forget": questions(forget, said), "retain": questions([-0.5] * 4), "holdout": unseen}


def test_a_recited_text_or_a_likelier_one_is_knowledge_and_neither_is_none() -> None:
    recited = Knowledge.of(scores([-3.0, -3.1, -2.9, -3.0], [0.5, 0.1, 0.2, 0.0]))
    assert (recited.recited, recited.texts, recited.shown) == (1, 4, True) and recited.p > 0.05
    likelier = Knowledge.of(scores([-0.1, -0.2, -0.1, -0.3]))
    assert likelier.recited == 0 and likelier.p < 0.02 and likelier.shown
    assert "more likely than texts that it has not seen (-0.17 against -3.00" in likelier.text()
    nothing = Knowledge.of(scores([-3.0, -3.1, -2.9, -3.0]))
    assert not nothing.shown and "not told from" in nothing.text()


def judged(folder: Path, name: str, *rows: tuple[int, float, list[float]]) -> Path:
    path = folder / f"{name}.jsonl"
    content = [{"step": 0}] + [
        {
            "step": step,
            "judged": {
                "forget": {f"q{i}": value for i, value in enumerate(forget)},
                "utility": {"retain": utility * float(np.exp(-0.5))},
            },
        }
        for step, utility, forget in rows
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def test_the_model_nearest_to_unseen_texts_is_chosen_where_it_keeps_the_utility(tmp_path: Path) -> None:
    """Texts not seen have -3 nats a token. Below that is as far as above it."""
    before = scores([-0.2, -0.2, -0.4, -0.4])
    steps = {
        1e-5: judged(tmp_path, "slow", (4, 0.99, [-1.0] * 4), (8, 0.95, [-2.5] * 4)),
        1e-4: judged(tmp_path, "fast", (4, 0.80, [-3.0] * 4), (8, 0.97, [-9.0] * 4)),
    }
    found = places(steps, before)
    assert [(p.rate, p.step) for p in found] == [(1e-5, 4), (1e-5, 8), (1e-4, 4), (1e-4, 8)]
    assert found[1] == Place(1e-5, 8, pytest.approx(0.95), pytest.approx(-2.5), pytest.approx(0.5))
    assert best(found, 0.9, before)[:2] == (1e-5, 8)
    assert best(found, 0.7, before)[:2] == (1e-4, 4)
    with pytest.raises(UserError, match=r"no run forgot any .* utility of 0.995 .* kept 0.99"):
        best(found, 0.995, before)
    with pytest.raises(UserError, match="no run forgot any"):  # avoided more than it was known before
        best(found[3:], 0.9, before)
