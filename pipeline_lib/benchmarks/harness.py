"""Benchmarks: tasks of lm-evaluation-harness, asked with our engine on our data; one row a question.

Every finished task is kept in a work folder: a killed job continues after it and returns the same rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import numpy as np

from pipeline_lib.benchmarks.data import Asked, examples, local_splits, questions, spread
from pipeline_lib.benchmarks.definitions import check_source, definition, manager
from pipeline_lib.benchmarks.harness_model import EngineLM
from pipeline_lib.benchmarks.tasks import CLOSED_BOOK, TASKS, Row
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_jsonl, write_jsonl
from pipeline_lib.data.table_files import read_table

PART_FORMAT = 2  # raise it when rows change their meaning, so that old parts are not reused


@dataclass(frozen=True)
class Member:
    """One task of lm-eval with its questions. MMLU has one for each subject.

    `numbers[i]` is the number of document i in the benchmark's file; `chosen`: the documents that are asked.
    """

    task: Any
    numbers: Sequence[int]
    chosen: Sequence[int]


def evaluate_benchmarks(lm: EngineLM, asked: Asked, work_dir: Path, fingerprint: str) -> list[Row]:
    """Rows of all tasks, in their order and that of their questions.

    Raises `UserError`, before the first task is asked, where one of them cannot be.
     `fingerprint` names the model (the hash
    of its weights); `work_dir` receives a file for each finished task, which the caller may delete once the
    rows are stored.

    Rows of multiple choice: `correct` and `correct_norm` (null where the task does not report it),
    `choice_nll`, the NLL in nats of each choice, and `right`, the words after the context that were right.
    `truthfulqa_mc2`: `score`, the share of probability on the
    right choices, and `choice_nll`. Written answers: `correct` and `answer`. Perplexity: `nll` in nats,
    `tokens`, `words`, `bytes`. Flags, only where true: `truncated`, the context was cut from the left;
    `duplicate_choice`, a choice that counts as wrong has the words of a right one.
    """
    found = {name: members(name, asked) for name in (*asked.tasks, *asked.lm_eval)}
    rows: list[Row] = []
    for name, own in found.items():
        part = Path(work_dir) / _part_name(name, own, lm.max_length, fingerprint)
        if not part.is_file():
            write_jsonl(part, ask(lm, name, own))
        rows += read_jsonl(part)
    return rows


def members(name: str, asked: Asked) -> list[Member]:
    """The lm-eval tasks of a benchmark, those without a chosen question left out."""
    given = _own(name, asked) if name in TASKS else _further(name, asked)
    # As the only member of a group: lm-eval merges it with the definition of that name, and takes what stands
    # alone as a new task.
    try:
        loaded = [
            (*manager(one["task"]).load([{"group": "asked", "task": [one]}])["tasks"].values(), numbers)
            for one, numbers in given
        ]
        tasks = [(task, range(len(task.eval_docs)) if of is None else of) for task, of in loaded]
    except UserError:
        raise
    except Exception as error:  # of the hub, of the data, of a task's own functions
        raise UserError(f"benchmark {name}: lm-evaluation-harness cannot load it: {error}") from error
    places = [(number, i) for number, (_, numbers) in enumerate(tasks) for i in range(len(numbers))]
    chosen: dict[int, list[int]] = {}
    for place in spread(len(places), asked.limit):
        chosen.setdefault(places[place][0], []).append(places[place][1])
    return [Member(*tasks[number], own) for number, own in chosen.items()]


def _own(name: str, asked: Asked) -> list[tuple[Row, Sequence[int]]]:
    """Changes to lm-eval's definitions of a task of `TASKS`, each with the numbers of its rows."""
    rows = questions(name, asked.folder)
    if name != "mmlu":
        changes: Row = {"task": name, "num_fewshot": 0}
        if name == CLOSED_BOOK:  # lm-eval has no such task: its boolq, asked without the passage
            changes |= {"task": "boolq", "doc_to_text": "Question: {{question}}?\nAnswer:"}
        return [(changes | {"custom_dataset": _data(rows)}, range(len(rows)))]
    subjects: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        subjects.setdefault(row["subject"], []).append(number)
    shots = examples(name, asked.folder, asked.mmlu_shots, set(subjects))
    return [
        (
            {
                "task": f"mmlu_{subject}",
                "num_fewshot": asked.mmlu_shots,
                "custom_dataset": _data([rows[number] for number in numbers], shots.get(subject)),
            },
            numbers,
        )
        for subject, numbers in subjects.items()
    ]


def _data(rows: list[Row], shown: list[Row] | None = None) -> Any:
    """The rows under every split that a definition may judge; the training splits hold only examples."""
    judged = datasets.Dataset.from_list(rows)
    of_examples = datasets.Dataset.from_list(shown or rows[:1])
    splits = {"train": of_examples, "dev": of_examples, "validation": judged, "test": judged}
    return lambda **_: datasets.DatasetDict(splits)


def _further(name: str, asked: Asked) -> list[tuple[Row, None]]:
    """Changes to the definition of any other task: where its data come from."""
    judged, *others = check_source(name, asked.lm_eval[name], asked.folder)
    if not (files := local_splits(name, asked.folder)):
        options = definition(name).get("dataset_kwargs") or {}
        return [({"task": name, "dataset_kwargs": options | {"revision": asked.lm_eval[name]}}, None)]
    splits = {
        split: datasets.Dataset.from_list([row.fields for row in read_table(path)])
        for split, path in files.items()
    }
    for split in others:  # lm-eval opens it and uses none of its rows
        splits.setdefault(split, splits[judged].select(range(1)))
    return [({"task": name, "custom_dataset": lambda **_: datasets.DatasetDict(splits)}, None)]


def _part_name(name: str, own: Sequence[Member], max_length: int, fingerprint: str) -> str:
    """A task's file name: equal only if the model and all that it is asked are equal."""
    depends_on: list[Any] = [PART_FORMAT, lm_eval.__version__, fingerprint, max_length]
    for member in own:
        shots = member.task.config.num_fewshot
        depends_on += [shots, [dict(document) for document in member.task.fewshot_docs()] if shots else []]
        documents = member.task.eval_docs  # a definition may make them anew at each look
        depends_on.append([dict(documents[i]) for i in member.chosen])
    digest = hashlib.sha256(json.dumps(depends_on, sort_keys=True, default=str).encode()).hexdigest()
    return f"{name}-{digest[:16]}.jsonl"


def ask(lm: EngineLM, name: str, own: Sequence[Member]) -> list[Row]:
    """Rows of one benchmark."""
    logged = lm_eval.simple_evaluate(
        model=lm,
        tasks=[member.task for member in own],
        task_manager=manager(own[0].task.task_name),
        samples={
            member.task.task_name: list(member.chosen)
            for member in own
            if len(member.chosen) < len(member.numbers)
        },
        log_samples=True,
        bootstrap_iters=0,
        random_seed=None,  # the caller's random state is not lm-eval's to set
        numpy_random_seed=None,
        torch_random_seed=None,
    )["samples"]
    return [
        _row(lm, name, member.numbers[sample["doc_id"]], sample)
        for member in own
        for samples in [logged[member.task.task_name]]
        for sample in samples
        if sample["filter"] == samples[0]["filter"]  # a task may read its answers in several ways
    ]


def _row(lm: EngineLM, name: str, number: int, sample: Row) -> Row:
    """The row of one question, from lm-eval's log of it."""
    id = f"{name}-{number:05d}"
    row: Row = {"task": name, "group": sample["doc"]["subject"] if name == "mmlu" else id, "id": id}
    question = TASKS[name].question(sample["doc"]) if name in TASKS else None
    answers = [response[0] for response in sample["resps"]]
    texts = [tuple(text for text in arguments if isinstance(text, str)) for arguments in sample["arguments"]]
    if "word_perplexity" in sample["metrics"]:
        words, size = sample["word_perplexity"][1], sample["byte_perplexity"][1]
        tokens = len(lm.tokens(texts[0][0]))
        row |= {"nll": -float(np.ravel(answers[0])[0]), "tokens": tokens, "words": words, "bytes": size}
    elif isinstance(answers[0], str):
        row |= {"correct": _number(sample["exact_match"]), "correct_norm": None, "answer": answers[0]}
    else:
        nll = [-float(loglikelihood) for loglikelihood, _ in answers]
        if name == "truthfulqa_mc2" and question is not None:
            row |= {"score": mass(nll, question.labels), "choice_nll": nll}
        else:
            norm = _number(sample["acc_norm"]) if "acc_norm" in sample else None
            right = question.labels.index(1) if question is not None else sample["target"]
            known = isinstance(right, int) and 0 <= right < len(texts)
            row |= {"correct": _number(sample["acc"]), "correct_norm": norm, "choice_nll": nll}
            row |= {"right": texts[right][1].strip()} if known else {}
    row |= {"duplicate_choice": True} if question is not None and question.has_duplicate else {}
    return row | ({"truncated": True} if any(text in lm.cut for text in texts) else {})


def _number(value: Any) -> int | float:
    return int(value) if int(value) == value else float(value)


def mass(nll: Sequence[float], labels: Sequence[int]) -> float:
    """Share of probability on the right choices (TruthfulQA's MC2): sum of exp(-nll) over them / over all.

    lm-eval's own has no number where all choices together have a probability that underflows.
    """
    p = np.exp(min(nll) - np.asarray(nll))
    return float(p[np.asarray(labels) == 1].sum() / p.sum())
