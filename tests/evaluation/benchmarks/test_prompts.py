"""The very words of each prompt, written out."""

from __future__ import annotations

import pytest

from pipeline_lib.evaluation.benchmarks.prompts import detokenised
from pipeline_lib.evaluation.benchmarks.readers import load_benchmark
from tests.evaluation.benchmarks.conftest import PAGE


def asked(data_folder, name, number=0, shots=0):
    return load_benchmark(name, folder=str(data_folder), shots=shots)[number]


@pytest.mark.parametrize("name", ["arc_easy", "piqa"])
def test_question_and_answer(data_folder, name):
    question = asked(data_folder, name)
    number = 4 if name == "arc_easy" else 0
    assert set(question.contexts) == {f"Question: What lies at place {number}?\nAnswer:"}
    first = "a small stone" if name == "arc_easy" else "use glue"
    assert question.continuations[0] == f" {first}"
    assert question.lengths[0] == len(first)


def test_openbookqa_asks_the_bare_question(data_folder):
    assert asked(data_folder, "openbookqa").contexts[0] == "What lies at place 8?"


def test_hellaswag_loses_the_marks_of_wikihow(data_folder):
    question = asked(data_folder, "hellaswag")
    assert question.contexts[0] == "Running: A man runs. Then number 0"
    assert question.continuations[0] == " falls down."
    assert question.lengths == (11, 5, 13, 6)
    assert question.labels == (0, 0, 0, 1)


def test_mmlu(data_folder):
    question = asked(data_folder, "mmlu", 4, shots=1)
    assert (
        question.contexts
        == (
            "The following are multiple choice questions (with answers) about high school physics.\n\n"
            "Which animal is number 10 of high_school_physics?\nA. cow\nB. bee\nC. cat\nD. dog\nAnswer: C\n\n"
            "Which animal is number 1 of high_school_physics?\nA. dog\nB. cow\nC. bee\nD. cat\nAnswer:",
        )
        * 4
    )
    assert question.continuations == (" A", " B", " C", " D")
    assert question.labels == (0, 1, 0, 0)
    assert question.lengths is None


def test_winogrande_judges_what_follows(data_folder):
    question = asked(data_folder, "winogrande")
    assert question.contexts == ("Ada helped Bo because Ada", "Ada helped Bo because Bo")
    assert question.continuations == (" was tired.", " was tired.")
    assert question.labels == (0, 1)
    assert question.lengths is None


def test_truthfulqa(data_folder):
    one = asked(data_folder, "truthfulqa_mc1")
    many = asked(data_folder, "truthfulqa_mc2")
    assert one.contexts[0] == many.contexts[0]
    assert one.contexts[0].startswith("Q: What is human life expectancy in the United States?\nA: Human life")
    assert one.contexts[0].endswith("in Barcelona, Spain.\n\nQ: Is it true 0?\nA:")
    assert one.contexts[0].count("\n\nQ: ") == 6
    assert (one.labels, many.labels) == ((1, 0, 0), (1, 1, 0, 0))


def test_wikitext(data_folder):
    page = asked(data_folder, "wikitext")
    assert page.text == detokenised(PAGE + " ")
    assert page.bytes == len(PAGE + " ")
    assert page.words == len(PAGE.split()) + 2  # the spaces at both ends count as lm-eval splits them


def test_detokenised():
    assert detokenised(PAGE) == (
        ' = Lake = \n\nThe lake, 3,000 years old, is "deep".\n\n== Shore ==\n\nIt\'s flat (mostly).\n'
    ).replace(" = Lake = \n", " = Lake =\n")
    assert detokenised("a 1 @.@ 5 @-@ fold [ x ] N the dogs ' tails") == "a 1.5-fold [x] 1 the dogs' tails"
