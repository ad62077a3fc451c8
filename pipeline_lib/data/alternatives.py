"""Which other answers a method may teach for each forget record; bad data is refused here.

Never imports torch: a study's data are checked against its methods before anything runs.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.records import Record


def alternatives_of(
    kind: str | None, name: str, paired: bool, records: Sequence[Record], refusals: Sequence[str], seed: int
) -> list[tuple[str, ...]]:
    """For each forget record, the answers of which every step draws one.

    `kind`: "refusals", "random_labels" or "records"; `name`: of the objective, for messages; `paired`: the
    true answer is learned against the other one. `refusals`: the task's; `seed`: of the run, for random
    labels. Raises `UserError`, with the record's name, where there is no alternative, or where both sides of
    a pair would be equal but for spaces: such a pair has no gradient, and its log would look like training.
    """
    if kind == "refusals":
        if not refusals:
            raise UserError(f"{name} teaches refusals, but the task has none (its refusals.json is empty)")
        found = [tuple(refusals)] * len(records)
    elif kind == "random_labels":
        found = [(answer,) for answer in _answers_to_others(records, seed, name)]
    elif kind == "records":
        found = [record.alternatives for record in records]
    else:
        raise ValueError(f"{name} takes no alternatives")
    for record, texts in zip(records, found, strict=True):
        if not texts or not all(text.strip() for text in texts):
            what = "an empty alternative" if texts else "no alternatives"
            raise UserError(
                f"{name} teaches alternative answers, but the forget record {record.id!r} has {what}; give "
                "every forget record texts in `alternatives`, or choose an objective that needs none"
            )
        if paired and _plain(record.answer) in map(_plain, texts):
            raise UserError(
                f"{name}: the forget record {record.id!r} has its own answer among the alternatives "
                f"({record.answer[:60]!r}); a pair needs two different sides"
            )
    return found


def _plain(text: str) -> str:
    return " ".join(text.split())


def _answers_to_others(records: Sequence[Record], seed: int, name: str) -> list[str]:
    """For each record the answer of another record, each used once, never a text equal to its own.

    The records stand in a shuffled order with equal answers side by side, and each takes the answer that is
    as many places ahead as the most frequent answer has copies. A derangement exists only if these copies
    are at most half of the records.
    """
    source = random.Random(f"random labels {seed}")
    rows = list(range(len(records)))
    source.shuffle(rows)
    texts = [_plain(record.answer) for record in records]
    first = {text: place for place, text in reversed(list(enumerate(texts[row] for row in rows)))}
    rows.sort(key=lambda row: first[texts[row]])  # stable: the order among equals stays shuffled
    (common, copies) = Counter(texts).most_common(1)[0]
    if 2 * copies > len(records):
        raise UserError(
            f"{name} gives every forget record the answer of another one, but {copies} of the {len(records)} "
            f"records have the same answer ({common[:60]!r}), among them {records[texts.index(common)].id!r}"
        )
    answers = [""] * len(records)
    for place, row in enumerate(rows):
        answers[row] = records[rows[(place + copies) % len(rows)]].answer
    return answers
