"""General ability in joint utility: accuracy above chance and held-out text, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.core.runs import RunKey
from pipeline_lib.metrics import declared
from pipeline_lib.metrics.asked import benchmark_splits
from pipeline_lib.metrics.joint_utility import LIKELIHOOD, blind, joint_utility, parts_of
from pipeline_lib.metrics.path import Path as RunPath
from pipeline_lib.metrics.questions import BLOCKS, VALUES, block_rows, questions_of
from pipeline_lib.metrics.study import Scores, Studied
from pipeline_lib.reporting.cells import write_csv
from pipeline_lib.reporting.scores import FORMER_COLUMNS, SCORE_COLUMNS, lines_of, read_scores
from tests.metrics.studied import scores, study

# Utility questions that both models answer alike: (group, log-probability, probability, ROUGE-L, fluency)
KNOWN = {"forget": [("a", -1.0)], "retain": [("b", -0.1, 0.8, 0.9, 1.0), ("c", -0.1, 0.8, 0.9, 1.0)]}


def choices(task: str, right: int, of: int, options: int = 4) -> list[dict[str, Any]]:
    """Questions of which the first `right` are answered rightly."""
    return [
        {
            "task": task,
            "group": f"{task}-{i}",
            "id": f"{task}-{i}",
            "correct": int(i < right),
            "correct_norm": None,
            "choice_nll": [1.0] * options,
        }
        for i in range(of)
    ]


def texts(*nll: float, tokens: int = 10) -> list[dict[str, Any]]:
    place = {"task": "wikitext", "tokens": tokens, "words": 8, "bytes": 40}
    return [{**place, "group": f"page{i}", "id": f"page{i}", "nll": value} for i, value in enumerate(nll)]


def blocks(rows: list[dict[str, Any]]) -> Scores:
    return questions_of(block_rows(benchmark_splits(rows)))


def able(*rows: dict[str, Any]) -> Scores:
    """A model that knows the utility questions, with these rows of benchmarks."""
    return {**scores(**KNOWN), **(blocks(list(rows)) if rows else {})}


def value(model: Scores, original: Scores, name: str = "joint_utility") -> float:
    (row,) = study(model, original=original, utility=("retain",)).measure(declared()[name])
    return row["value"]


def test_lines_of_benchmarks_by_hand() -> None:
    """Of four options a guess is right in a quarter; a written answer is not guessed; text is per token."""
    written = [{**row, "choice_nll": None, "answer": "4"} for row in choices("gsm8k", 1, 2)]
    found = blocks([*choices("arc_easy", 2, 3), *written, *texts(20.0, 30.0)])
    assert list(found) == ["benchmark/arc_easy", "benchmark/gsm8k", "benchmark/wikitext"]
    assert list(found["benchmark/arc_easy"].values["above_chance"]) == [0.75, 0.75, -0.25]
    assert list(found["benchmark/gsm8k"].values["above_chance"]) == [1.0, 0.0]
    last_word = blocks(choices("lambada_openai", 1, 2, options=1))["benchmark/lambada_openai"]
    assert list(last_word.values["above_chance"]) == [1.0, 0.0]
    text = found["benchmark/wikitext"]
    assert list(text.values["log_probability"]) == [-2.0, -3.0]
    assert text.values["probability"] == pytest.approx([0.135335, 0.0497871], abs=1e-6)
    assert not text.has("above_chance") and not found["benchmark/arc_easy"].has("probability")


def test_one_answer_to_all_questions_is_chance() -> None:
    """Of five questions answered by yes or no, three have yes: who always says it is right in 0.6, not 0.5.

    Options with words of their own have no such answer: the largest share of one of them is that of one
    question.
    """
    asked = choices("boolq", 4, 5, options=2)
    answers = ("yes", "no", "yes", "yes", "no")
    said = [{**row, "right": right} for row, right in zip(asked, answers, strict=True)]
    own = [{**row, "right": f"word {i}"} for i, row in enumerate(asked)]
    assert list(blocks(said)["benchmark/boolq"].values["above_chance"]) == pytest.approx([0.4] * 4 + [-0.6])
    assert list(blocks(own)["benchmark/boolq"].values["above_chance"]) == [0.5] * 4 + [-0.5]


@pytest.mark.parametrize(("size", "many"), [(1, 1), (100, 100), (101, 50), (250, 83), (14042, 99)])
def test_many_questions_stand_in_blocks_whose_mean_is_theirs(size: int, many: int) -> None:
    right = size // 2
    of = blocks(choices("mmlu_like", right, size))["benchmark/mmlu_like"]
    assert len(of.ids) == many <= BLOCKS
    assert of.mean("above_chance") == pytest.approx(right / size - 0.25, abs=1e-6)


def test_groups_of_subjects_and_what_is_no_accuracy_have_no_lines() -> None:
    mmlu = [{**row, "group": "astronomy"} for row in choices("mmlu", 1, 2)]
    mc2 = [{"task": "truthfulqa_mc2", "group": "a", "id": "a", "score": 0.4, "choice_nll": [1.0, 1.0]}]
    assert list(blocks([*mmlu, *mc2])) == ["benchmark/mmlu"]


def test_a_model_that_answers_the_utility_splits_and_lost_its_general_ability() -> None:
    """From 60 to 30 of 100 right answers of four options: (0.30 - 0.25) / (0.60 - 0.25) is left."""
    original = able(*choices("arc_easy", 60, 100))
    assert value(able(*choices("arc_easy", 30, 100)), original) == pytest.approx(0.05 / 0.35)
    assert value(able(*choices("arc_easy", 20, 100)), original) == 0.0, "below chance nothing is left"
    assert value(original, original) == 1.0
    assert value(able(*choices("arc_easy", 60, 100)), original, "joint_utility_likelihood") == 1.0


def test_the_interval_holds_the_value_and_stays_at_0_or_above() -> None:
    before, after = (able(*choices("arc_easy", right, 100)) for right in (60, 30))
    found = joint_utility(study(after, original=before, utility=("retain",)))
    assert found.low is not None and found.high is not None
    assert 0 <= found.low <= found.value <= found.high and found.n == 100 + 2


@pytest.mark.parametrize(
    ("right", "of", "options", "sighted"),
    [
        (25, 100, 4, False),  # at chance
        (29, 100, 4, False),  # 0.04 above it
        (32, 100, 4, False),  # 0.07, within 1.645 standard errors of 0.047
        (35, 100, 4, True),  # 0.10, beyond 0.079
        (11, 20, 2, False),  # of two options half are guessed
        (4, 100, 0, False),  # written answers: the limit of 0.05 alone
        (9, 100, 0, True),
    ],
)
def test_a_benchmark_at_chance_is_blind(right: int, of: int, options: int, sighted: bool) -> None:
    original = able(*choices("arc_easy", right, of, options))
    lost = study(able(*choices("arc_easy", 0, of, options)), original=original, utility=("retain",))
    part = ("benchmark/arc_easy", "above_chance")
    assert part in list(parts_of(lost)) and blind(lost, part) == (not sighted)
    assert joint_utility(lost).value == (0.0 if sighted else 1.0)


def test_held_out_text_counts_by_probability_per_token() -> None:
    """A perplexity of e^3 that becomes e^4 leaves 1 / e of the probability of a token."""
    original = able(*texts(30.0, 30.0))
    assert value(able(*texts(40.0, 40.0)), original) == pytest.approx(0.367879, abs=1e-5)
    assert value(able(*texts(40.0, 40.0)), original, "joint_utility_likelihood") == 1.0
    knows_nothing = able(*texts(70.0, 70.0))  # e^-7 is 0.0009
    assert value(able(*texts(90.0, 90.0)), knows_nothing) == 1.0, "blind"


def test_without_benchmarks_nothing_changes() -> None:
    before = {**KNOWN, "retain": [("b", -0.1, 0.8, 1.0, 1.0), ("c", -0.1, 0.8, 0.6, 1.0)]}
    after = {**KNOWN, "retain": [("b", -0.1, 0.8, 0.4, 1.0), ("c", -0.1, 0.6, 0.4, 0.6)]}
    of = study(scores(**after), original=scores(**before), utility=("retain",))
    assert joint_utility(of).value == pytest.approx(0.4 / 0.8)
    assert list(parts_of(of)) == [("retain", name) for name in ("probability", "rouge_l_recall", "fluency")]


def test_paths_and_their_beginning_are_judged_by_the_same_parts() -> None:
    """Benchmarks are not asked on the way, so that they count at neither end."""
    of = study(
        able(*choices("arc_easy", 0, 100)), scores(**KNOWN), original=able(*choices("arc_easy", 90, 100))
    )
    judged = ((1, {"forget": {"forget0": -2.0}, "utility": {"retain": 0.6}}),)
    run = type(of)(of.scores, of.retrained, of.original, of.originals, ("retain",), judged, 0.9)
    assert list(parts_of(run, LIKELIHOOD)) == [("retain", "probability")]
    assert [point.utility for point in RunPath.of(run).points] == pytest.approx([1.0, 0.6 / 0.8])
    assert joint_utility(run, LIKELIHOOD).value == 1.0 and joint_utility(run).value == 0.0


def test_lines_are_kept_in_scores_csv_and_those_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    key = RunKey("authors", "tiny", "original", "none", 0)
    forget = {"split": "forget", "group": "a", "id": "q", **dict.fromkeys(VALUES), "log_probability": -1.0}
    rows = [forget, *block_rows(benchmark_splits(choices("arc_easy", 1, 2)))]
    write_csv(tmp_path / "now.csv", SCORE_COLUMNS, lines_of(key, rows))
    found = read_scores(tmp_path / "now.csv")[key]
    assert list(found["benchmark/arc_easy"].values["above_chance"]) == [0.75, -0.25]
    write_csv(tmp_path / "then.csv", FORMER_COLUMNS, [line[:-1] for line in lines_of(key, rows[:1])])
    former = read_scores(tmp_path / "then.csv")[key]
    assert list(former) == ["forget"] and not former["forget"].has("above_chance")


def held(original: list[Scores], model: Scores) -> Studied:
    return replace(study(model, original=original[0], utility=("retain",)), originals=original)


def test_a_seed_that_is_low_by_chance_does_not_blind_a_part() -> None:
    """Right in 40, 40 and 29 of 100 of four options: 0.113 above chance in the mean, one seed at 0.04."""
    part = ("benchmark/arc_easy", "above_chance")
    seeds = [able(*choices("arc_easy", right, 100)) for right in (40, 40, 29)]
    gone = able(*choices("arc_easy", 0, 100))
    assert blind(held([seeds[2]], gone), part)
    for original in (seeds, [seeds[2], *seeds[:2]]):
        assert not blind(held(original, gone), part)
        assert joint_utility(held(original, gone)).value == 0.0


def test_the_error_is_of_the_mean_of_the_same_questions() -> None:
    """The same 32 of 100 in every seed are no more certain than in one; other ones are.

    Within 1.645 * sqrt(0.32 * 0.68 / 99) = 0.077 of chance at 0.07. With 32 others in a second seed a
    question is 0 or 1/2, of variance 0.0582, and the limit is 0.040.
    """
    part = ("benchmark/arc_easy", "above_chance")
    same = able(*choices("arc_easy", 32, 100))
    rows = choices("arc_easy", 32, 100)
    right = [row["correct"] for row in rows]
    other = able(*({**row, "correct": one} for row, one in zip(rows, right[::-1], strict=True)))
    assert blind(held([same, same, same], same), part)
    assert not blind(held([same, other], same), part)


def test_where_the_own_original_has_nothing_there_is_no_ratio() -> None:
    part = ("benchmark/arc_easy", "above_chance")
    none, able_one = (able(*choices("arc_easy", right, 100)) for right in (20, 60))
    assert blind(held([none, able_one, able_one], able_one), part)
    assert joint_utility(held([none, able_one, able_one], able_one)).value == 1.0
