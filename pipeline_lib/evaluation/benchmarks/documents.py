"""Questions of the standard benchmarks, from the formats in which they are found.

A task's rows come as JSON Lines of one simple shape (question, choices, answer) or in the columns of its data
set on the hub. Both become the same `Document`, so that a score does not depend on where the data came from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """One question. `labels[i]` is 1 where `choices[i]` is right. `passage`: text that the question is about.

    A page of running text is a document whose `question` is the text, without choices.
    """

    id: str
    group: str
    question: str
    choices: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    passage: str = ""

    @property
    def has_duplicate(self) -> bool:
        """Does a choice that counts as wrong have the words of a right one?"""
        right = {text for text, label in zip(self.choices, self.labels, strict=True) if label}
        return any(text in right for text, label in zip(self.choices, self.labels, strict=True) if not label)


def document(
    number: int,
    task: str,
    question: str,
    choices: Sequence[str],
    right: int,
    *,
    group: str | None = None,
    passage: str = "",
) -> Document:
    """A question with one right choice. Raises `ValueError` where it has none, or an empty choice."""
    if not 0 <= right < len(choices):
        raise ValueError(f"the right answer is choice {right}, but there are {len(choices)} choices")
    labels = tuple(int(i == right) for i in range(len(choices)))
    return labelled_document(number, task, question, choices, labels, group=group, passage=passage)


def labelled_document(
    number: int,
    task: str,
    question: str,
    choices: Sequence[str],
    labels: Sequence[int],
    *,
    group: str | None = None,
    passage: str = "",
) -> Document:
    """A question with any number of right choices."""
    if not question.strip():
        raise ValueError("the question is empty")
    if len(choices) < 2 or len(labels) != len(choices) or not any(labels):
        raise ValueError(
            f"expected at least two choices, a label for each and at least one right one, found "
            f"{len(choices)} choices and labels {list(labels)}"
        )
    if any(not choice.strip() for choice in choices):
        raise ValueError("a choice is empty")
    identifier = f"{task}-{number:05d}"
    return Document(
        identifier,
        identifier if group is None else group,
        question,
        tuple(choices),
        tuple(int(label) for label in labels),
        passage,
    )


def simple(number: int, task: str, row: Row) -> Document:
    """{question, choices, answer (index)}; with `subject`, that is the group."""
    return document(number, task, row["question"], row["choices"], row["answer"], group=row.get("subject"))


def simple_hellaswag(number: int, task: str, row: Row) -> Document:
    """{ctx ("activity: context"), endings, answer}."""
    if ": " not in row["ctx"]:
        raise ValueError("expected `ctx` to be the activity, a colon and the context")
    return document(number, task, row["ctx"], row["endings"], row["answer"])


def simple_boolq(number: int, task: str, row: Row) -> Document:
    """{question, answer (true or false), passage}; the passage is needed unless the task is closed book."""
    passage = "" if task == "boolq_closed_book" else row["passage"]
    question = row["question"].strip().removesuffix("?")
    return document(number, task, question, ("no", "yes"), int(row["answer"]), passage=passage)


def simple_truthfulqa(number: int, task: str, row: Row) -> Document:
    """{question, mc1_choices (the first is right), mc2_choices, mc2_labels}."""
    if task == "truthfulqa_mc1":
        return document(number, task, row["question"], row["mc1_choices"], row.get("mc1_label", 0))
    return labelled_document(number, task, row["question"], row["mc2_choices"], row["mc2_labels"])


def hub_arc(number: int, task: str, row: Row) -> Document:
    """ARC and OpenBookQA: {question or question_stem, choices {text, label}, answerKey}."""
    question = row["question"] if "question" in row else row["question_stem"]
    choices = row["choices"]
    right = list(choices["label"]).index(row["answerKey"].strip())
    return document(number, task, question, choices["text"], right)


def hub_hellaswag(number: int, task: str, row: Row) -> Document:
    """{activity_label, ctx_a, ctx_b, endings, label (a digit)}; the second sentence starts with a capital."""
    context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
    return document(number, task, context, row["endings"], int(row["label"]))


def hub_piqa(number: int, task: str, row: Row) -> Document:
    """{goal, sol1, sol2, label}."""
    return document(number, task, row["goal"], (row["sol1"], row["sol2"]), row["label"])


def hub_winogrande(number: int, task: str, row: Row) -> Document:
    """{sentence with _, option1, option2, answer ("1" or "2")}."""
    return document(number, task, row["sentence"], (row["option1"], row["option2"]), int(row["answer"]) - 1)


def hub_boolq(number: int, task: str, row: Row) -> Document:
    """SuperGLUE's form: {passage, question without its mark, label}."""
    passage = "" if task == "boolq_closed_book" else row["passage"]
    return document(number, task, row["question"], ("no", "yes"), int(row["label"]), passage=passage)


def hub_truthfulqa(number: int, task: str, row: Row) -> Document:
    """{question, mc1_targets {choices, labels}, mc2_targets {choices, labels}}."""
    targets = row["mc1_targets" if task == "truthfulqa_mc1" else "mc2_targets"]
    return labelled_document(number, task, row["question"], targets["choices"], targets["labels"])


def page(number: int, task: str, row: Row) -> Document:
    """{page}: one article of running text."""
    return Document(f"{task}-{number:05d}", f"{task}-{number:05d}", row["page"])


def wikitext_pages(text: str) -> list[str]:
    """The articles of a raw WikiText file, cut before each heading of the first level (" = Title = ")."""
    pages: list[list[str]] = [[]]
    for line in text.split("\n"):
        if re.fullmatch(r"= (?!=).*(?<!=) =", line.strip()):
            pages.append([])
        pages[-1].append(line)
    return [page for page in map("\n".join, pages) if page.strip()]


def wikitext_of_lines(rows: Sequence[Row]) -> str:
    """The raw file again from the hub's rows, one line each, in which a blank line has lost its space."""
    return "".join(row.get("text") or " \n" for row in rows)
