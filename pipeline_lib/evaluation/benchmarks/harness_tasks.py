"""lm-eval's own task definitions on our documents: its prompts and judgement, no download.

Each definition reads the columns of its data set on the hub; documents are put back into them. What a
definition does with them (prompt, few-shot format, metric) stays lm-eval's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipeline_lib.evaluation.benchmarks.documents import Document, Row

Spec = dict[str, Any]


def task_specs(
    name: str, documents: Sequence[Document], examples: dict[str, list[Document]], shots: int
) -> list[tuple[Spec, list[Document]]]:
    """What `lm_eval.simple_evaluate` takes as a task, and the documents in lm-eval's order.

    MMLU is a task for each subject in lm-eval.
    """
    if name != "mmlu":
        return [(_spec(name, name, documents, []), list(documents))]
    subjects: dict[str, list[Document]] = {}
    for document in documents:
        subjects.setdefault(document.group, []).append(document)
    return [
        (_spec(name, f"mmlu_{subject}", own, examples.get(subject, []), shots), own)
        for subject, own in subjects.items()
    ]


def _spec(
    name: str, theirs: str, documents: Sequence[Document], examples: Sequence[Document], shots: int = 0
) -> Spec:
    """One definition of lm-eval with its data replaced.

    As the only member of a group, since lm-eval merges a member with the definition of that name and takes a
    task that stands alone as a new one.
    """
    import datasets

    rows = datasets.Dataset.from_list([COLUMNS[name](document) for document in documents])
    shown = datasets.Dataset.from_list([COLUMNS[name](document) for document in examples or documents[:1]])

    def data(**_: Any):
        """Whatever split the definition judges; a training split holds nothing of it but examples."""
        return datasets.DatasetDict({"train": shown, "dev": shown, "validation": rows, "test": rows})

    member: Spec = {"task": theirs, "custom_dataset": data, "num_fewshot": shots}
    if name == "boolq_closed_book":  # lm-eval has no such task: its boolq, asked without the passage
        member |= {"task": "boolq", "doc_to_text": "Question: {{question}}?\nAnswer:"}
    return {"group": f"local_{theirs}", "task": [member]}


def _arc(document: Document) -> Row:
    labels = [chr(ord("A") + i) for i in range(len(document.choices))]
    right = labels[document.labels.index(1)]
    choices = {"text": list(document.choices), "label": labels}
    return {"question": document.question, "choices": choices, "answerKey": right}


def _openbookqa(document: Document) -> Row:
    row = _arc(document)
    return {"question_stem": row["question"], "choices": row["choices"], "answerKey": row["answerKey"]}


def _boolq(document: Document) -> Row:
    return {
        "passage": document.passage,
        "question": document.question,
        "label": document.labels.index(1),
    }


def _hellaswag(document: Document) -> Row:
    activity, _, context = document.question.partition(": ")
    label = str(document.labels.index(1))
    # the whole context as the first part: lm-eval would turn capitals inside the second into small letters
    return {
        "activity_label": activity,
        "ctx_a": context,
        "ctx_b": "",
        "endings": list(document.choices),
        "label": label,
    }


def _mmlu(document: Document) -> Row:
    return {
        "question": document.question,
        "subject": document.group,
        "choices": list(document.choices),
        "answer": document.labels.index(1),
    }


def _piqa(document: Document) -> Row:
    first, second = document.choices
    return {"goal": document.question, "sol1": first, "sol2": second, "label": document.labels.index(1)}


def _truthfulqa(document: Document) -> Row:
    targets = {"choices": list(document.choices), "labels": list(document.labels)}
    return {"question": document.question, "mc1_targets": targets, "mc2_targets": targets}


def _winogrande(document: Document) -> Row:
    first, second = document.choices
    answer = str(document.labels.index(1) + 1)
    return {"sentence": document.question, "option1": first, "option2": second, "answer": answer}


COLUMNS: dict[str, Callable[[Document], Row]] = {
    "arc_challenge": _arc,
    "arc_easy": _arc,
    "boolq": _boolq,
    "boolq_closed_book": _boolq,
    "hellaswag": _hellaswag,
    "mmlu": _mmlu,
    "openbookqa": _openbookqa,
    "piqa": _piqa,
    "truthfulqa_mc1": _truthfulqa,
    "truthfulqa_mc2": _truthfulqa,
    "wikitext": lambda document: {"page": document.question},
    "winogrande": _winogrande,
}
