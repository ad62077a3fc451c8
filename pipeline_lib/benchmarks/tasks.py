"""The benchmarks whose files we know: where each lies, and how its rows become those that lm-eval reads.

A task's rows are those of its data set on the hub, at a pinned commit, or JSON Lines of one simple shape
(question, choices, answer), which are put into the hub's columns. Prompts and judgement are lm-eval's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from pipeline_lib.metrics.mmlu import GROUP_OF_SUBJECT

Row = dict[str, Any]

CLOSED_BOOK = "boolq_closed_book"  # BoolQ without the passage that answers it: about what the model knows


@dataclass(frozen=True)
class Question:
    """What a row asks. `labels[i]` is 1 where `choices[i]` is right. Running text has no choices."""

    text: str
    choices: Sequence[str] = ()
    labels: Sequence[int] = ()

    def check(self) -> None:
        """Raises `ValueError` for a question that nobody can answer."""
        if not self.text.strip():
            raise ValueError("the question is empty")
        if self.choices and (len(self.choices) < 2 or not any(self.labels)):
            raise ValueError(
                f"expected at least two choices and a right one, found {len(self.choices)} choices with the "
                f"labels {list(self.labels)}"
            )
        if any(not choice.strip() for choice in self.choices):
            raise ValueError("a choice is empty")

    @property
    def has_duplicate(self) -> bool:
        """Does a choice that counts as wrong have the words of a right one?"""
        right = {text for text, label in zip(self.choices, self.labels, strict=True) if label}
        return any(text in right for text, label in zip(self.choices, self.labels, strict=True) if not label)


@dataclass(frozen=True)
class Task:
    """`local`: names of the file under the data folder, the first that exists is read. `hub`: data set,
    commit, file. `columns`: a local row in the hub's columns. `question`: what a row in these columns asks.
    `shots`: the file names of example questions, local and on the hub; None: it has none.
    """

    local: tuple[str, ...]
    hub: tuple[str, str, str]
    columns: Callable[[Row], Row]
    question: Callable[[Row], Question]
    shots: tuple[str, str] | None = None


def one_of(text: str, choices: Sequence[str], right: int) -> Question:
    """A question with one right choice."""
    if not 0 <= right < len(choices):
        raise ValueError(f"the right answer is choice {right}, but there are {len(choices)} choices")
    return Question(text, choices, [int(i == right) for i in range(len(choices))])


def _exactly(number: int, choices: Sequence[str]) -> Sequence[str]:
    if len(choices) != number:
        raise ValueError(f"expected {number} choices, found {len(choices)}")
    return choices


def _lettered(question: str) -> Callable[[Row], Row]:
    """ARC's form, with the question in this column."""

    def columns(row: Row) -> Row:
        one_of(row["question"], row["choices"], row["answer"])
        choices = {"text": row["choices"], "label": list(ascii_uppercase[: len(row["choices"])])}
        return {question: row["question"], "choices": choices, "answerKey": ascii_uppercase[row["answer"]]}

    return columns


def _of_letters(question: str) -> Callable[[Row], Question]:
    def asked(row: Row) -> Question:
        labels = [int(label == row["answerKey"].strip()) for label in row["choices"]["label"]]
        return Question(row[question], row["choices"]["text"], labels)

    return asked


def _arc(name: str, folder: str) -> Task:
    return Task(
        (f"commonsense/{name}_test.jsonl",),
        (
            "allenai/ai2_arc",
            "210d026faf9955653af8916fad021475a3f00453",
            f"{folder}/test-00000-of-00001.parquet",
        ),
        _lettered("question"),
        _of_letters("question"),
    )


def _hellaswag(row: Row) -> Row:
    """The whole context becomes the first part: in the second lm-eval would lower the capitals."""
    activity, colon, context = row["ctx"].partition(": ")
    if not colon:
        raise ValueError("expected `ctx` to be the activity, a colon and the context")
    kept = {"activity_label": activity, "ctx_a": context, "ctx_b": ""}
    return {**kept, "endings": row["endings"], "label": str(row["answer"])}


def _piqa(row: Row) -> Row:
    first, second = _exactly(2, row["choices"])
    return {"goal": row["question"], "sol1": first, "sol2": second, "label": row["answer"]}


def _winogrande(row: Row) -> Row:
    first, second = _exactly(2, row["choices"])
    return {
        "sentence": row["question"],
        "option1": first,
        "option2": second,
        "answer": str(row["answer"] + 1),
    }


def _of_blank(row: Row) -> Question:
    _, blank, after = row["sentence"].partition("_")
    if not blank or not after.strip():
        raise ValueError("expected a sentence with a blank (_) and words after it")
    return one_of(row["sentence"], (row["option1"], row["option2"]), int(row["answer"]) - 1)


def _of_subject(row: Row) -> Question:
    if row["subject"] not in GROUP_OF_SUBJECT:
        raise ValueError(
            f"the subject {row['subject']!r} is none of the 57; write it as in `high_school_physics`"
        )
    return one_of(row["question"], _exactly(4, row["choices"]), row["answer"])


def _boolq(name: str) -> Task:
    def columns(row: Row) -> Row:
        passage = "" if name == CLOSED_BOOK else row["passage"]
        question = row["question"].strip().removesuffix("?")
        return {"passage": passage, "question": question, "label": int(row["answer"])}

    kind = "validation" if name == CLOSED_BOOK else "passage_validation"
    return Task(
        (f"commonsense/boolq_{kind}.jsonl",),
        (
            "aps/super_glue",
            "3de24cf8022e94f4ee4b9d55a6f539891524d646",
            "boolq/validation-00000-of-00001.parquet",
        ),
        columns,
        lambda row: one_of(row["question"], ("no", "yes"), int(row["label"])),
    )


def _truthfulqa(kind: str) -> Task:
    def columns(row: Row) -> Row:
        choices = row[f"{kind}_choices"]
        labels = row["mc2_labels"] if kind == "mc2" else one_of("", choices, row.get("mc1_label", 0)).labels
        return {"question": row["question"], f"{kind}_targets": {"choices": choices, "labels": labels}}

    def question(row: Row) -> Question:
        targets = row[f"{kind}_targets"]
        if kind == "mc1" and targets["labels"][0] != 1:  # lm-eval judges by its place
            raise ValueError(f"expected the first choice to be right, found the labels {targets['labels']}")
        return Question(row["question"], targets["choices"], targets["labels"])

    return Task(
        ("truthfulqa/mc.jsonl",),
        (
            "truthfulqa/truthful_qa",
            "741b8276f2d1982aa3d5b832d3ee81ed3b896490",
            "multiple_choice/validation-00000-of-00001.parquet",
        ),
        columns,
        question,
    )


TASKS: dict[str, Task] = {
    "arc_challenge": _arc("arc_challenge", "ARC-Challenge"),
    "arc_easy": _arc("arc_easy", "ARC-Easy"),
    "boolq": _boolq("boolq"),
    CLOSED_BOOK: _boolq(CLOSED_BOOK),
    "hellaswag": Task(
        ("commonsense/hellaswag_validation.jsonl", "commonsense/hellaswag_validation_2000.jsonl"),
        (
            "Rowan/hellaswag",
            "218ec52e09a7e7462a5400043bb9a69a41d06b76",
            "data/validation-00000-of-00001.parquet",
        ),
        _hellaswag,
        lambda row: one_of(row["ctx_a"], row["endings"], int(row["label"])),
    ),
    "mmlu": Task(
        ("mmlu/test.jsonl",),
        ("cais/mmlu", "c30699e8356da336a370243923dbaf21066bb9fe", "all/test-00000-of-00001.parquet"),
        lambda row: {column: row[column] for column in ("subject", "question", "choices", "answer")},
        _of_subject,
        shots=("mmlu/dev.jsonl", "all/dev-00000-of-00001.parquet"),
    ),
    "openbookqa": Task(
        ("commonsense/openbookqa_test.jsonl",),
        (
            "allenai/openbookqa",
            "388097ea7776314e93a529163e0fea805b8a6454",
            "main/test-00000-of-00001.parquet",
        ),
        _lettered("question_stem"),
        _of_letters("question_stem"),
    ),
    "piqa": Task(
        ("commonsense/piqa_validation.jsonl",),
        ("baber/piqa", "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1", "piqa_validation.parquet"),
        _piqa,
        lambda row: one_of(row["goal"], (row["sol1"], row["sol2"]), row["label"]),
    ),
    "truthfulqa_mc1": _truthfulqa("mc1"),
    "truthfulqa_mc2": _truthfulqa("mc2"),
    "wikitext": Task(
        ("wikitext2/test_raw.txt",),
        (
            "Salesforce/wikitext",
            "b08601e04326c79dfdd32d625aee71d232d685c3",
            "wikitext-2-raw-v1/test-00000-of-00001.parquet",
        ),
        lambda row: row,
        lambda row: Question(row["page"]),
    ),
    "winogrande": Task(
        ("commonsense/winogrande_validation.jsonl",),
        (
            "allenai/winogrande",
            "01e74176c63542e6b0bcb004dcdea22d94fb67b5",
            "winogrande_xl/validation-00000-of-00001.parquet",
        ),
        _winogrande,
        _of_blank,
    ),
}


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
