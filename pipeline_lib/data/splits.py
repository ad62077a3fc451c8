"""What a source of data returns, and the checks that every task must pass before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.grouping import taught_groups
from pipeline_lib.core.redaction import listed
from pipeline_lib.data.doubts import content
from pipeline_lib.data.records import Record

# For a task whose questions have wrong answers; "judged" stands for its first split of Model Utility.
QUESTIONS_HEADLINE = {
    "forgetting": [
        ("forget", "ks_statistic"),
        ("forget", "forget_quality_log10"),
        ("forget", "truth_ratio"),
        ("forget", "probability"),
        ("forget", "rouge_l_recall"),
        ("forget", "extraction_strength"),
    ],
    "utility": [("utility", "model_utility"), ("judged", "rouge_l_recall")],
}


def of_first_groups(records: Sequence[Record], groups: float, split: str) -> list[Record]:
    """The records of the split's first groups, so many or a share of them.

    A `UserError` where it has no group besides these.
    """
    names = list(dict.fromkeys(record.group for record in records))
    groups = taught_groups(groups, len(names))
    if groups >= len(names):
        raise UserError(
            f"`groups` is {groups}, but the split {split!r} has {len(names)} of them, and none would be left "
            "to judge by; ask for fewer"
        )
    chosen = set(names[:groups])
    return [record for record in records if record.group in chosen]


@dataclass(frozen=True)
class Task:
    """Splits of records and what each is for; the lists hold names of splits.

    `finetune`: the splits that each model before unlearning ("target" and "retrained") learns; an empty list
    means the model as it is, and without "retrained" there is no model that never saw the forget set.
    `utility`: splits whose scores enter Model Utility; their records need distractors.
    `multiple_choice`: splits whose records are questions with options. `origin`: where the data are from.
    `holdout`: the evaluated split of records like those to be forgotten that no model learns, the
    non-members of membership inference; only likelihoods are measured on it. `headline`: the metrics that
    judge this task, as (split, metric) under "forgetting" and "utility"; the first of each are the axes of
    the trade-off figure. None: those of questions with distractors. `preference`: evaluated splits whose
    records are pairs, an answer to be forgotten and as distractors what should be said in its place.
    `notes`: what the reader filled in or passed over, for the log and the manifest.
    """

    origin: str
    splits: dict[str, list[Record]]
    finetune: dict[str, list[str]]
    evaluate: list[str]
    utility: list[str]
    multiple_choice: list[str]
    holdout: str | None = None
    headline: dict[str, list[tuple[str, str]]] | None = None
    preference: Sequence[str] = ()
    notes: Sequence[str] = ()

    def judged_by(self) -> dict[str, list[tuple[str, str]]]:
        """The headline metrics with the names of real splits."""
        if self.headline is not None:
            return self.headline
        return {
            side: [(self.utility[0] if split == "judged" else split, metric) for split, metric in metrics]
            for side, metrics in QUESTIONS_HEADLINE.items()
        }


def check_task(task: Task) -> None:
    """Raise `UserError` for the first thing that would make a result of this task meaningless."""
    for name, records in task.splits.items():
        check_split(name, records)
    check_roles(task)


def check_roles(task: Task) -> None:
    """The part of `check_task` that compares splits with each other and with what each is for."""
    for name in task.finetune.get("retrained", ()):
        check_disjoint("forget", task.splits["forget"], name, task.splits[name])
    if task.holdout is not None:
        for name in task.finetune["target"]:
            check_disjoint(task.holdout, task.splits[task.holdout], name, task.splits[name])
    for name in task.preference:
        if lonely := [record.id for record in task.splits[name] if not record.distractors]:
            raise UserError(
                f"split {name!r}: {len(lonely)} of {len(task.splits[name])} records have no second answer to "
                f"prefer (distractors): {listed(lonely)}. Add one, or take the split out of `preference`."
            )
    for name in task.evaluate:
        bare = [record.id for record in task.splits[name] if not record.distractors]
        some = len(bare) < len(task.splits[name])
        if name != task.holdout and bare and (some or name in task.utility):
            raise UserError(
                f"split {name!r}: {len(bare)} of {len(task.splits[name])} records have no distractors, "
                f"which the truth ratio needs: {listed(bare)}. Add wrong answers of the answer's shape."
            )


def check_split(name: str, records: Sequence[Record]) -> None:
    """At least one record, no id twice, no distractor that is blank or equals the right answer."""
    if not records:
        raise UserError(f"split {name!r}: expected at least one record, found none")
    if twice := [i for i, count in Counter(record.id for record in records).items() if count > 1]:
        raise UserError(f"split {name!r}: each id may occur once, found twice or more: {listed(twice)}")
    for record in records:
        where = f"split {name!r}, record {record.id!r}"
        right = {text.strip() for text in (record.answer, record.paraphrased_answer) if text}
        for distractor in record.distractors:
            if not distractor.strip():
                raise UserError(f"{where}: a distractor is blank; fill it, or leave it out")
            if distractor.strip() in right:
                raise UserError(
                    f"{where}: the distractor {distractor!r} equals the right answer; "
                    "a distractor must be wrong. Change it, or leave it out."
                )


def check_disjoint(unseen: str, records: Sequence[Record], name: str, learned: Sequence[Record]) -> None:
    """A model must never have seen these records: no prompt with its answer may be in both splits.

    `retrained` must not know the forget set, and no model the holdout set.
    """
    known = {content(record): record.id for record in learned}
    if shared := [f"{r.id} = {known[content(r)]}" for r in records if content(r) in known]:
        raise UserError(
            f"splits {unseen!r} and {name!r} overlap: {len(shared)} of {len(records)} records of {unseen!r} "
            f"have the same prompt and answer in {name!r}, without regard to case, spaces and the form of "
            f"letters (ids: {listed(shared)}). Keep them in one of the two."
        )


def evaluated_part(name: str, records: list[Record]) -> dict[str, list[Record]]:
    """The split and, if only some of its records have distractors, `<name>_eval` with just these."""
    complete = [record for record in records if record.distractors]
    if len(complete) in (0, len(records)):
        return {name: records}
    return {name: records, f"{name}_eval": complete}
