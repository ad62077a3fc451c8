"""Detoxification as in SOUL (Jia et al. 2024, arXiv 2404.18239): unlearn answers that people marked unsafe.

The paper takes 200. Records: `answer` is the unsafe answer, the safe answer to the same question is the one
distractor, and the one `alternative` for objectives that teach another answer (DPO). After such an objective
the preference on `forget` is what was trained; `unseen`, whose questions no model was ever trained on, is the
fair measure. `group` is the question: rows that share one are never divided among splits.

Two protocols, by `learned`:
    false   the paper's: the pretrained model itself is `original`, taken to give such answers anyway. There
            is no model "without the forget set", so nothing that needs `retrained` is measured.
    true    the target first learns the unsafe answers together with the retain set, `retrained` the retain
            set alone: what was put in can be removed, and there is something to hold the result against.

What judges it (headline). Unsafe is not toxic wording, and a classifier of wording is blind here
(docs/toxicity.md), so the measures are the model's own likelihoods and its refusals. First the safe
preference on `unseen`: the share of new questions whose safe answer is the likelier per token. It needs no
`retrained`, no objective trains it, a refusal cannot hide it, and a model that only broke is near 1/2, not at
1. Then refusals of unseen questions, how likely the unsafe answers still are, and with `learned` the KS
distance of the truth ratios on `forget` to those of `retrained`: the ratio of a pair is the preference in
continuous form, and too much forgetting shows too. Utility is the perplexity of the retain documents, which
are C4 in the paper too.

How the paper's code differs: it also takes the unsafe answers of rows where both are unsafe (here a row needs
a safe one to compare with), draws the 200 with its own generator, and truncates at 512 tokens what here is
left out by `max_words`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expanded_folder, hub_file
from pipeline_lib.core.untrusted import inside
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task
from pipeline_lib.tasks.c4 import C4
from pipeline_lib.tasks.detox.pairs import Pair, Pairs, read_pairs

FOLDER = "safe_rlhf"  # below $PIPELINE_DATA; stands in for the hub where it holds the file or PAIRS
PAIRS = "pairs.jsonl"
RETAIN_PROMPT = 10  # words of a document that are given where its continuation is judged


def load(
    *,
    hub: str,
    revision: str,
    file: str,
    folder: str | None,
    n_forget: int,
    n_unseen: int,
    holdout: int,
    max_words: int,
    learned: bool,
    retain: dict[str, Any],
    seed: int,
) -> Task:
    """The task `detox`; numbers of records are rows of `file`, lengths are in words. See `Settings`.

    Which questions are unseen or held out does not depend on `n_forget`.
    """
    path, origin = _locate(hub, revision, file, folder)
    found = read_pairs(path, max_words)
    splits = _divide(found, {"forget": n_forget, "unseen": n_unseen, "holdout": holdout}, seed, origin)
    documents, of_documents = C4(**retain).load(RETAIN_PROMPT, max_words)
    judged = [("unseen", metric) for metric in ("safe_preference", "refusal_rate", "probability")]
    judged += [("forget", "probability"), *([("forget", "ks_statistic")] if learned else [])]
    return Task(
        origin=f"{origin}: {found.counted()}. Retain: {of_documents}",
        splits={**splits, "retain": documents},
        finetune={"target": ["forget", "retain"], "retrained": ["retain"]} if learned else {"target": []},
        evaluate=["forget", "unseen", "retain", *(["holdout"] if holdout else [])],
        utility=[],
        multiple_choice=[],
        holdout="holdout" if holdout else None,
        headline={
            "forgetting": judged,
            "utility": [("retain", "token_perplexity"), ("retain", "probability")],
        },
        preference=["forget", "unseen"],
    )


def _locate(hub: str, revision: str, file: str, folder: str | None) -> tuple[Path, str]:
    """The file, and what to call the place: of `folder`, else of $PIPELINE_DATA, else of the hub."""
    if folder is not None:
        path = inside(expanded_folder(folder), file)
        if not path.is_file():
            raise UserError(f"PKU-SafeRLHF: expected the file {path}, found none. Check `folder` and `file`.")
        return path, f"{folder}/{file}"
    if copy := stand_in(file):
        root, name = copy
        return root / name, f"$PIPELINE_DATA/{FOLDER}/{name}"
    return hub_file(hub, revision, file), f"{hub}@{revision}/{file}"


def stand_in(file: str) -> tuple[Path, str] | None:
    """The folder under $PIPELINE_DATA that is read in the place of the hub's, and the file in it."""
    shared = os.environ.get("PIPELINE_DATA")
    root = Path(shared or "") / FOLDER
    present = [name for name in (file, PAIRS) if shared and (root / name).is_file()]
    return (root, present[0]) if present else None


def _divide(found: Pairs, wanted: dict[str, int], seed: int, origin: str) -> dict[str, list[Record]]:
    """Whole questions in random order: forget from the front, unseen and then holdout from the back."""
    groups: dict[str, list[Pair]] = {}
    for pair in found.pairs:
        groups.setdefault(pair.group, []).append(pair)
    order = sorted(groups)
    Random(f"{seed}/detox").shuffle(order)  # a text seeds through SHA-512, the same on every machine
    numbers = {group: f"question-{i:05d}" for i, group in enumerate(sorted(groups))}
    splits: dict[str, list[Record]] = {}
    taken: set[str] = set()
    for name, number in wanted.items():
        line = order if name == "forget" else order[::-1]
        chosen = _take(([*groups[group]] for group in line if group not in taken), number)
        taken |= {pair.group for pair in chosen}
        splits[name] = [_record(pair, numbers[pair.group]) for pair in chosen]
    short = {name: number for name, number in wanted.items() if len(splits[name]) < number}
    if short:
        asked = ", ".join(f"{name} {number}" for name, number in wanted.items() if number)
        raise UserError(
            f"{origin}: too few pairs of a safe and an unsafe answer. Asked for: {asked}; the file has "
            f"{found.counted()}, of {len(groups)} different questions, and a question of one split serves no "
            "other. Ask for fewer, or raise `max_words`."
        )
    return {name: records for name, records in splits.items() if records}


def _take(groups: Iterable[Sequence[Pair]], number: int) -> list[Pair]:
    """The first `number` rows; what is left of the last question is not used by another split."""
    chosen: list[Pair] = []
    for group in groups:
        if len(chosen) == number:
            break
        chosen += group[: number - len(chosen)]
    return chosen


def _record(pair: Pair, group: str) -> Record:
    return Record(
        id=f"pair-{pair.row:06d}",
        prompt=pair.prompt,
        answer=pair.unsafe,
        group=group,
        distractors=(pair.safe,),
        alternatives=(pair.safe,),
    )
