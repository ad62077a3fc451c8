"""Detoxification as in SOUL (Jia et al. 2024, arXiv 2404.18239): unlearn answers that people marked unsafe.

The paper takes 200 answers. Of each record, `answer` is the unsafe answer; the safe answer to the same
question is the one distractor, and the one `alternative` for objectives that teach another answer (DPO).
After such an objective the preference on `forget` is what was trained; the fair measure is `unseen`, whose
questions no model was trained on. `group` is the question: rows that share one never go to different splits.

Two protocols, by `learned`:
    false   the paper's: the pretrained model itself is `original`, and is assumed to give such answers. There
            is no model "without the forget set", so nothing that needs `retrained` is measured.
    true    the target first learns the unsafe answers together with the retain set, `retrained` the retain
            set alone: what was put in can be removed, and there is a model to compare the result with.

What judges it (headline). An unsafe answer need not have toxic wording, and a classifier of wording does not
see it (docs/toxicity.md), so the measures are the model's own likelihoods and its refusals. The first is the
safe preference on `unseen`: the share of new questions whose safe answer is the likelier per token. It needs
no `retrained`, no objective trains it, a refusal cannot hide it, and a model that only broke is near 1/2, not
at 1. Then come refusals of unseen questions, how likely the unsafe answers still are, and with `learned` the
KS distance between the truth ratios of the model and of `retrained` on `forget`: the ratio of a pair is the
preference in continuous form, and too much forgetting shows too. Utility is the perplexity of the retain
documents, which are C4 in the paper too.

How the paper's code differs: it also takes the unsafe answers of rows where both are unsafe (here a row needs
a safe one to compare with), draws the 200 with its own generator, and truncates at 512 tokens where
`max_words` leaves rows out here.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from pipeline_lib.core.blocks import Count, CountOrZero, Faults, HubId, InsidePath, PathText, Revision, Switch
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.grouping import grouped
from pipeline_lib.core.locate import expanded_folder, hub_file
from pipeline_lib.core.untrusted import inside
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.base import SplitSize, TaskSettings, holdout_split
from pipeline_lib.tasks.c4 import C4
from pipeline_lib.tasks.detox.pairs import Pair, Pairs, read_pairs

FOLDER = "safe_rlhf"  # below $PIPELINE_DATA; stands in for the hub where it holds the file or PAIRS
PAIRS = "pairs.jsonl"
RETAIN_PROMPT = 10  # words of a document that are given where its continuation is judged


class Settings(TaskSettings):
    """Unsafe answers of PKU-SafeRLHF, which may not be used commercially (CC BY-NC 4.0), and C4 to keep."""

    source: Literal["detox"]
    shown_as: ClassVar = "answers"
    hub: HubId = "PKU-Alignment/PKU-SafeRLHF"
    revision: Revision = "ff7ba91063016c78a225b0f74e1c0860bb18230f"  # the first release, which SOUL reads
    file: InsidePath = Field(
        "round0/train.jsonl.xz",
        description="In the hub's repository, or in `folder`: JSON lines, CSV or Parquet. Later "
        "revisions of the data set have data/Alpaca-7B/train.jsonl and others",
    )
    folder: PathText | None = Field(
        None,
        description="Where `file` is. Default: $PIPELINE_DATA/safe_rlhf where that has it, or a pairs.jsonl; "
        "else the hub",
    )
    n_forget: Count = Field(200, description="Unsafe answers to forget")
    n_unseen: Count = Field(200, description="Pairs whose questions no model is trained on, to judge by")
    holdout: CountOrZero = Field(
        0, description="Further pairs for membership inference; only their likelihood is measured"
    )
    max_words: Annotated[Count, Field(ge=20)] = Field(
        200,
        description="Longest prompt and answer together, in words; rows beyond are left out, documents cut",
    )
    learned: Switch = Field(
        False,
        description="Fine-tune on the unsafe answers first, so that there is a `retrained` model too; else "
        "the model as it is, the paper's protocol",
    )
    retain: C4 = C4()
    seed: CountOrZero = 0

    @model_validator(mode="after")
    def _members_exist(self) -> Settings:
        if self.holdout and not self.learned:
            message = "needs `learned: true`; without, no model learned the forget set, and it has no members"
            raise Faults([("holdout", f"found {self.holdout}; {message}")])
        return self

    def evaluated_splits(self) -> tuple[str, ...]:
        return ("forget", "unseen", "retain", *holdout_split(self.holdout))

    def size_hint(self) -> dict[str, SplitSize]:
        """From the real rows at 100 and 200 words; web documents have more tokens a word than answers."""
        longest, answer = round(1.3 * self.max_words), min(70, self.max_words // 2)

        held_out = SplitSize(self.holdout, 18, answer, longest, 1, "none")
        return {
            "forget": SplitSize(self.n_forget, 15, answer, longest, 2, "target" if self.learned else "none"),
            "unseen": SplitSize(self.n_unseen, 15, answer, longest, 2, "none"),
            "retain": SplitSize(
                self.retain.n,
                15,
                round(0.95 * self.max_words),
                2 * self.max_words,
                1,
                "both" if self.learned else "none",
            ),
            **dict.fromkeys(holdout_split(self.holdout), held_out),
        }

    def reads(self) -> dict[str, Path] | None:
        """The copy of the pairs on this machine, where the suite names no folder."""
        return self._stand_in() if self.folder is None else None

    def is_taught(self) -> bool:
        return self.learned

    def load(self) -> Task:
        """Which questions are unseen or held out does not depend on `n_forget`."""
        path, origin = self._locate()
        found = read_pairs(path, self.max_words)
        wanted = {"forget": self.n_forget, "unseen": self.n_unseen, "holdout": self.holdout}
        splits = _divide(found, wanted, self.seed, origin)
        documents, of_documents = self.retain.load(RETAIN_PROMPT, self.max_words)
        judged = [("unseen", metric) for metric in ("safe_preference", "refusal_rate", "probability")]
        judged += [("forget", "probability"), *([("forget", "ks_statistic")] if self.learned else [])]

        return Task(
            origin=f"{origin}: {found.counted()}. Retain: {of_documents}",
            splits={**splits, "retain": documents},
            finetune={"target": ["forget", "retain"], "retrained": ["retain"]}
            if self.learned
            else {"target": []},
            evaluate=list(self.evaluated_splits()),
            utility=[],
            multiple_choice=[],
            holdout="holdout" if self.holdout else None,
            headline={
                "forgetting": judged,
                "utility": [("retain", "token_perplexity"), ("retain", "probability")],
            },
            preference=["forget", "unseen"],
        )

    def _locate(self) -> tuple[Path, str]:
        """The file, and what to call the place: of `folder`, else of $PIPELINE_DATA, else of the hub."""
        if self.folder is not None:
            path = inside(expanded_folder(self.folder), self.file)
            if not path.is_file():
                raise UserError(
                    f"PKU-SafeRLHF: expected the file {path}, found none. Check `folder` and `file`."
                )
            return path, f"{self.folder}/{self.file}"
        for name, path in self._stand_in().items():
            return path, f"$PIPELINE_DATA/{FOLDER}/{name}"
        return (
            hub_file(self.hub, self.revision, self.file),
            f"{self.hub}@{self.revision}/{self.file}",
        )

    def _stand_in(self) -> dict[str, Path]:
        """The file under $PIPELINE_DATA that is read in place of the hub's, by its name; {} without one."""
        if shared := os.environ.get("PIPELINE_DATA"):
            for name in (self.file, PAIRS):
                if (path := Path(shared) / FOLDER / name).is_file():
                    return {name: path}
        return {}


def _divide(found: Pairs, wanted: dict[str, int], seed: int, origin: str) -> dict[str, list[Record]]:
    """Whole questions in random order: forget from the front, unseen and then holdout from the back.

    A split takes as many rows of its last question as it still needs; no other split uses the rest.
    """
    groups = grouped((pair.group, pair) for pair in found.pairs)
    numbers = {group: f"question-{i:05d}" for i, group in enumerate(sorted(groups))}
    order = list(numbers)
    Random(f"{seed}/detox").shuffle(order)  # a text seeds through SHA-512, the same on every machine
    splits: dict[str, list[Record]] = {}
    for name, number in wanted.items():
        splits[name] = []
        while order and len(splits[name]) < number:
            group = order.pop(0 if name == "forget" else -1)
            rows = groups[group][: number - len(splits[name])]
            splits[name] += [_record(pair, numbers[group]) for pair in rows]
    if any(len(splits[name]) < number for name, number in wanted.items()):
        asked = ", ".join(f"{name} {number}" for name, number in wanted.items() if number)
        raise UserError(
            f"{origin}: too few pairs of a safe and an unsafe answer. Asked for: {asked}; the file has "
            f"{found.counted()}, of {len(groups)} different questions, and a question of one split serves no "
            "other. Ask for fewer, or raise `max_words`."
        )
    return {name: records for name, records in splits.items() if records}


def _record(pair: Pair, group: str) -> Record:
    return Record(
        id=f"pair-{pair.row:06d}",
        prompt=pair.prompt,
        answer=pair.unsafe,
        group=group,
        distractors=(pair.safe,),
        alternatives=(pair.safe,),
    )
