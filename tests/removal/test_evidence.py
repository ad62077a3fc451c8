"""What counts as knowing a text, and which model of a sweep is chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.metrics.questions import Questions
from pipeline_lib.metrics.study import Scores
from pipeline_lib.removal.evidence import Knowledge, Place, candidates, gentler, left_of, places


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
    assert [place[:2] for place in candidates(found, 0.9, before)] == [(1e-5, 8), (1e-5, 4)]
    assert candidates(found, 0.7, before)[0][:2] == (1e-4, 4)
    with pytest.raises(UserError, match=r"no run forgot any .* utility of 0.995 .* kept 0.99"):
        candidates(found, 0.995, before)
    with pytest.raises(UserError, match=r"no run brought the texts nearer .* 2.70 from it, after 6.00"):
        candidates(found[3:], 0.9, before)  # avoided more than it was known before
    with pytest.raises(UserError, match="every run diverged"):
        candidates([], 0.9, before)


def test_ids_are_those_of_the_scores_whatever_stands_in_them(tmp_path: Path) -> None:
    """In scores.csv invisible characters are shown, and what a spreadsheet would compute is a text."""
    before = scores([-0.2] * 4)
    written = ("-notes-001", "@ada", "a\u200db", "d")
    kept = replace(before["forget"], ids=("'-notes-001", "'@ada", "a⟨U+200D⟩b", "d"))
    rows = [{"step": 1, "judged": {"forget": dict.fromkeys(written, -3.0), "utility": {"retain": 0.5}}}]
    (tmp_path / "steps.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place,) = places({1e-5: tmp_path / "steps.jsonl"}, {**before, "forget": kept})
    assert place.distance == pytest.approx(0.0)


def test_a_model_that_lost_more_with_its_answers_gives_way_to_one_that_lost_less_in_proportion() -> None:
    """0.05 of likelihood went with 0.20 of the answers: 0.10 of these go with 0.025."""
    ways = [Place(1e-5, step, kept, -1.0, 0.0) for step, kept in ((8, 0.95), (6, 0.97), (4, 0.98))]
    assert gentler(ways, ways[0], left=0.80, asked=0.90) == ways[2:]
    assert gentler(ways, ways[0], left=0.85, asked=0.90) == ways[1:]
    assert gentler(ways, ways[2], left=0.85, asked=0.90) == []


def test_what_is_left_is_the_worst_part_with_answers() -> None:
    def answering(said: float, fluent: float) -> Scores:
        kept = questions([-0.5] * 4, [said] * 4)
        return {"retain": replace(kept, values={**kept.values, "fluency": np.full(4, fluent)})}

    before, after = answering(0.8, 1.0), answering(0.6, 0.9)
    assert left_of(after, before) == pytest.approx(0.75)


def test_wrong_answers_are_evidence_where_the_texts_come_with_some() -> None:
    """Likelihoods that tell nothing, and true answers that the model prefers as it does of no unseen text."""
    plain = scores([-3.0, -3.1, -2.9, -3.0])
    assert Knowledge.of(plain).true_likelier is None and "wrong ones" not in Knowledge.of(plain).text()

    def with_ratios(forget: list[float], unseen: list[float]) -> Knowledge:
        found = {
            split: replace(plain[split], values={**plain[split].values, "log_truth_ratio": np.array(ratios)})
            for split, ratios in (("forget", forget), ("holdout", unseen))
        }
        return Knowledge.of({**plain, **found})

    known = with_ratios([-2.0, -1.5, -1.0, 0.2], [0.3, 0.5, 0.4, 0.6])
    assert known.true_likelier == (3, 4) and known.p_true is not None and known.p_true < 0.02 and known.shown
    assert (
        "likelier than the wrong ones for 3 of 4 (more clearly than of unseen texts: p = 0.014)"
        in known.text()
    )
    alike = with_ratios([-2.0, -1.5, -1.0, 0.2], [-2.1, -1.4, -1.1, 0.1])
    assert alike.true_likelier == (3, 4) and not alike.shown
    assert "(no more clearly than of unseen texts" in alike.text()
    alone = with_ratios([-2.0, -1.5, np.nan, 0.2], [np.nan] * 4)
    assert alone.true_likelier == (2, 3) and alone.p_true is None and not alone.shown
