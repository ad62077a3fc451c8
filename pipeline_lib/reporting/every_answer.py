"""Every question with its answers before unlearning, after it and after each stage, to search in the report.

A row shows its first seed that has answers; so does `original` beside it, and the row after a stage. An
answer is [text, p, gap]: the probability of the true answer per token (metrics/probability.py), and how far
its log-probability per token lies from the mean of the `retrained` seeds, in nats; None where there is no
such mean. All text is made visible and cut as in the sample (answers.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.redaction import visible
from pipeline_lib.core.runs import RunKey
from pipeline_lib.metrics.probability import probability
from pipeline_lib.metrics.rows import answer_of
from pipeline_lib.reporting import style
from pipeline_lib.reporting.answers import end_of, shortened
from pipeline_lib.reporting.inputs import Inputs, Row
from pipeline_lib.reporting.page import data_block

# Bytes of all answers in a page, which with the charts and tables stays below 3 MB, images left out.
MOST = 1_500_000
DIGITS = 4  # after the point, of probabilities and gaps

Values = dict[str, Any]
Question = tuple[str, str]  # split and id
Answers = Mapping[Question, dict[str, Any]]


def every_answer(inputs: Inputs, most: int = MOST) -> list[Values]:
    """One entry for each task and model with answers, together at most so many bytes in the page.

    Where there are more, the questions with the largest gaps of unlearned rows stay, in the order of the
    data; `left_out` says how many others there are.
    """
    share = most // len(inputs.studies)
    found = [_study(inputs, *study, share) for study in inputs.studies]
    return [study for study in found if study["rows"] and study["questions"]]


def _study(inputs: Inputs, task: str, model: str, most: int) -> Values:
    rows, columns = _rows(inputs, task, model)
    answers = [_by_question(inputs.records[key]) for key in columns]
    aims = _aims(inputs, task, model)
    unlearned = [row["after"] for row in rows if row.pop("unlearned")]
    asked: Iterable[tuple[Question, dict[str, Any]]] = answers[0].items() if answers else ()
    questions = [_question(record, answers, aims.get(name)) for name, record in asked]
    kept = _largest(questions, unlearned, most)
    return {
        "name": visible(style.study_label(task, model), keep=""),
        "rows": rows,
        "splits": list(dict.fromkeys(question["split"] for question in kept)),
        "questions": kept,
        "left_out": len(questions) - len(kept),
    }


def _rows(inputs: Inputs, task: str, model: str) -> tuple[list[Values], list[RunKey]]:
    """The rows to choose from, unlearned ones first, and the models that they name by their places."""
    rows = inputs.rows_of(task, model)
    original, columns, found = inputs.original(task, model), dict[RunKey, int](), []
    for row in sorted((row for row in rows if not row.key.after), key=lambda row: row.anchor):
        if (seed := _first(inputs, row)) is None:
            continue
        beside = seed if inputs.records.get(original.key.seeded(seed)) else _first(inputs, original)
        if beside is None:
            continue
        stages = {
            later.key.after.replace("/", ", then "): later.key.seeded(seed)
            for later in rows
            if later.key.after and later.key._replace(after="") == row.key
        }
        models = {"before": original.key.seeded(beside), "after": row.key.seeded(seed)}
        places = {name: columns.setdefault(key, len(columns)) for name, key in models.items()}
        staged = {name: key for name, key in stages.items() if inputs.records.get(key)}
        after = [
            (visible(name, keep=""), columns.setdefault(key, len(columns))) for name, key in staged.items()
        ]
        name = visible(style.row_label(row), keep="")
        found.append({"name": name, **places, "stages": after, "seed": seed, "unlearned": row.unlearned})
    return found, list(columns)


def _first(inputs: Inputs, row: Row) -> int | None:
    return next((seed for seed in row.seeds if inputs.records.get(row.key.seeded(seed))), None)


def _by_question(records: Sequence[dict[str, Any]]) -> Answers:
    """Those that were answered: non-members are not asked."""
    return {(record["split"], record["id"]): record for record in records if "generation" in record}


def _aims(inputs: Inputs, task: str, model: str) -> dict[Question, float]:
    """Question -> mean over `retrained` seeds of the true answer's log-probability per token."""
    if (row := inputs.retrained(task, model)) is None:
        return {}
    found = (_by_question(inputs.records.get(row.key.seeded(seed), [])) for seed in row.seeds)
    known = grouped((name, _level(record)) for of_seed in found for name, record in of_seed.items())
    return {name: fmean(levels) for name, levels in known.items()}


def _level(record: Values) -> float:
    nll, tokens = answer_of(record)
    return -nll / tokens


def _question(record: Values, answers: Sequence[Answers], aim: float | None) -> Values:
    name = record["split"], record["id"]
    return {
        "split": visible(record["split"], keep=""),
        "prompt": end_of(record["prompt"]),
        "truth": shortened(record["answer"]),
        "said": [_said(found.get(name), aim) for found in answers],
    }


def _said(record: Values | None, aim: float | None) -> list[Any] | None:
    if record is None:
        return None
    gap = None if aim is None else round(_level(record) - aim, DIGITS)
    return [shortened(record["generation"]), round(probability(*answer_of(record)), DIGITS), gap]


def _largest(questions: list[Values], unlearned: Sequence[int], most: int) -> list[Values]:
    """As many questions as so many bytes hold, those of the largest gaps first, in the order they came."""

    def gap(place: int) -> float:
        said = (questions[place]["said"][column] for column in unlearned)
        return max((abs(one[2]) for one in said if one and one[2] is not None), default=0.0)

    kept, used = [], 0
    for place in sorted(range(len(questions)), key=gap, reverse=True):
        used += len(data_block(questions[place]).encode()) + 1
        if used > most:
            break
        kept.append(place)
    return [questions[place] for place in sorted(kept)]
