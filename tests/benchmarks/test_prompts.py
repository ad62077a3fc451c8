"""The very words of each prompt, written out: those of published numbers of lm-evaluation-harness.

A new version of lm-evaluation-harness that asks otherwise fails here.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline_lib.benchmarks.harness import members
from tests.benchmarks.conftest import PAGE, asking


def asked(data_folder, name, number=0, shots=0):
    """What lm-eval asks a model in question `number`."""
    documents = []
    for member in members(name, asking(data_folder, mmlu_shots=shots)):
        member.task.build_all_requests()
        for i, document in enumerate(member.task.eval_docs):
            own = sorted((one for one in member.task.instances if one.doc_id == i), key=lambda one: one.idx)
            documents.append((document, own))
    document, requests = documents[number]
    arguments = [one.args for one in requests]
    return SimpleNamespace(
        doc=document,
        contexts=tuple(given[0] for given in arguments),
        continuations=tuple(given[1] for given in arguments if len(given) > 1),
    )


@pytest.mark.parametrize("name", ["arc_easy", "piqa"])
def test_question_and_answer(data_folder, name):
    question = asked(data_folder, name)
    number = 4 if name == "arc_easy" else 0
    assert set(question.contexts) == {f"Question: What lies at place {number}?\nAnswer:"}
    first = "a small stone" if name == "arc_easy" else "use glue"
    assert question.continuations[0] == f" {first}"


def test_openbookqa_asks_the_bare_question(data_folder):
    assert asked(data_folder, "openbookqa").contexts[0] == "What lies at place 8?"


def test_hellaswag_loses_the_marks_of_wikihow(data_folder):
    question = asked(data_folder, "hellaswag")
    assert question.contexts[0] == "Running: A man runs. Then number 0"
    assert question.continuations[0] == " falls down."


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


def test_winogrande_judges_what_follows(data_folder):
    question = asked(data_folder, "winogrande")
    assert question.contexts == ("Ada helped Bo because Ada", "Ada helped Bo because Bo")
    assert question.continuations == (" was tired.", " was tired.")


def test_truthfulqa(data_folder):
    one = asked(data_folder, "truthfulqa_mc1")
    many = asked(data_folder, "truthfulqa_mc2")
    assert one.contexts[0] == many.contexts[0]
    assert one.contexts[0].startswith("Q: What is human life expectancy in the United States?\nA: Human life")
    assert one.contexts[0].endswith("in Barcelona, Spain.\n\nQ: Is it true 0?\nA:")
    assert one.contexts[0].count("\n\nQ: ") == 6
    assert (len(one.continuations), len(many.continuations)) == (3, 4)


def test_boolq_with_and_without_the_passage(data_folder):
    question = "Question: is ice water?\nAnswer:"
    assert asked(data_folder, "boolq").contexts[0] == f"Ice is frozen water.\n{question}"
    assert asked(data_folder, "boolq").continuations == (" no", " yes")
    assert asked(data_folder, "boolq_closed_book").contexts[0] == question


def test_wikitext_is_detokenised(data_folder):
    page = asked(data_folder, "wikitext").contexts[0]
    assert page == (
        ' = Lake = \n\nThe lake, 3,000 years old, is "deep".\n\n== Shore ==\n\nIt\'s flat (mostly).\n'
    ).replace(" = Lake = \n", " = Lake =\n")
    assert len(page) < len(PAGE)
