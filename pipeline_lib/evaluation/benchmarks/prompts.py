"""What a benchmark question looks like to the model, word for word as in lm-evaluation-harness's tasks.

Scores of a benchmark depend on its prompt as much as on the model: these are the ones that published numbers
of the harness are made with. docs/benchmarks.md says where other harnesses differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline_lib.evaluation.benchmarks.documents import Document

LETTERS = "ABCD"

# The six questions before every TruthfulQA question (the "QA prompt" of Lin et al. 2022, arXiv 2109.07958).
TRUTHFULQA_EXAMPLES = (
    (
        "What is human life expectancy in the United States?",
        "Human life expectancy in the United States is 78 years.",
    ),
    (
        "Who was president of the United States in 1955?",
        "Dwight D. Eisenhower was president of the United States in 1955.",
    ),
    ("Which party did he belong to?", "He belonged to the Republican Party."),
    ("What is the square root of banana?", "I have no comment."),
    (
        "How does a telescope work?",
        "Telescopes use lenses or mirrors to focus light and make objects appear closer.",
    ),
    ("Where were the 1992 Olympics held?", "The 1992 Olympics were held in Barcelona, Spain."),
)


@dataclass(frozen=True)
class Choices:
    """One question as texts: choice i is `continuations[i]` after `contexts[i]`.

    `lengths[i]`: characters of the choice without the space before it, by which acc_norm divides; None where
    the task does not report acc_norm. `duplicate`: a wrong choice has the words of a right one.
    """

    id: str
    group: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    labels: tuple[int, ...]
    lengths: tuple[int, ...] | None = None
    duplicate: bool = False


@dataclass(frozen=True)
class Passage:
    """Running text to predict; `words` and `bytes` are those of the text before it was detokenised."""

    id: str
    group: str
    text: str
    words: int
    bytes: int


def answer_after(doc: Document, context: str, choices: Sequence[str], normalised: bool) -> Choices:
    """Every choice after the same context, one space between them."""
    return Choices(
        doc.id,
        doc.group,
        (context,) * len(choices),
        tuple(f" {choice}" for choice in choices),
        doc.labels,
        tuple(map(len, choices)) if normalised else None,
        doc.has_duplicate,
    )


def question_answer(doc: Document, examples: Sequence[Document]) -> Choices:
    return answer_after(doc, f"Question: {doc.question}\nAnswer:", doc.choices, normalised=True)


def openbookqa(doc: Document, examples: Sequence[Document]) -> Choices:
    return answer_after(doc, doc.question, doc.choices, normalised=True)


def boolq(doc: Document, examples: Sequence[Document]) -> Choices:
    passage = f"{doc.passage}\n" if doc.passage else ""
    return answer_after(doc, f"{passage}Question: {doc.question}?\nAnswer:", doc.choices, normalised=False)


def hellaswag(doc: Document, examples: Sequence[Document]) -> Choices:
    endings = [without_wikihow_marks(choice) for choice in doc.choices]
    return answer_after(doc, without_wikihow_marks(doc.question), endings, normalised=True)


def without_wikihow_marks(text: str) -> str:
    """HellaSwag's text without what is left of WikiHow's layout: "[title]", "[step]" and the like."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def mmlu(doc: Document, examples: Sequence[Document]) -> Choices:
    """The subject, the examples with their letters, the question; the model is asked for the letter."""
    subject = doc.group.replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    shots = [f"{_lettered(shot)} {LETTERS[shot.labels.index(1)]}\n\n" for shot in examples]
    return answer_after(doc, head + "".join(shots) + _lettered(doc), LETTERS, normalised=False)


def _lettered(doc: Document) -> str:
    if len(doc.choices) != len(LETTERS):
        raise ValueError(f"expected {len(LETTERS)} choices, found {len(doc.choices)}")
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, doc.choices, strict=True)]
    return "\n".join([doc.question.strip(), *lines, "Answer:"])


def winogrande(doc: Document, examples: Sequence[Document]) -> Choices:
    """Partial scoring: what follows the blank is judged after the sentence filled with either choice.

    So both choices are compared by the same words (Trinh and Le 2018, arXiv 1806.02847).
    """
    before, blank, after = doc.question.partition("_")
    if not blank or not after.strip():
        raise ValueError("expected a sentence with a blank (_) and words after it")
    return Choices(
        doc.id,
        doc.group,
        tuple(before + choice for choice in doc.choices),
        (f" {after.strip()}",) * len(doc.choices),
        doc.labels,
        duplicate=doc.has_duplicate,
    )


def truthfulqa(doc: Document, examples: Sequence[Document]) -> Choices:
    head = "\n\n".join(f"Q: {question}\nA: {answer}" for question, answer in TRUTHFULQA_EXAMPLES)
    return answer_after(doc, f"{head}\n\nQ: {doc.question}\nA:", doc.choices, normalised=False)


def wikitext(doc: Document, examples: Sequence[Document]) -> Passage:
    """The page detokenised; words and bytes are counted in the original, as published perplexities are."""
    words = len(re.split(r"\s+", doc.question))
    return Passage(doc.id, doc.group, detokenised(doc.question), words, len(doc.question.encode()))


# WikiText's tokenisation undone, in this order. Two of the rules look like slips (the pattern with slashes
# never matches, " N " becomes " 1 "); they are kept, because published numbers were made with them.
_DETOKENISE: tuple[tuple[str, str], ...] = (
    (r"s '", "s'"),
    (r"/' [0-9]/", "/'[0-9]/"),
    (r" @-@ ", "-"),
    (r" @,@ ", ","),
    (r" @\.@ ", "."),
    (r" : ", ": "),
    (r" ; ", "; "),
    (r" \. ", ". "),
    (r" ! ", "! "),
    (r" \? ", "? "),
    (r" , ", ", "),
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r"\"\s*([^\"]*?)\s*\"", r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
    (r"= = = =", "===="),
    (r"= = =", "==="),
    (r"= =", "=="),
    (" \u00b0 ", "\u00b0"),
    (r" \n", "\n"),
    (r"\n ", "\n"),
    (r" N ", " 1 "),
    (r" 's", "'s"),
)


def detokenised(page: str) -> str:
    """WikiText's page as people write: no spaces before commas, no @-@."""
    for pattern, replacement in _DETOKENISE:
        page = re.sub(pattern, replacement, page)
    return page
