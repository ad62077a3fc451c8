"""Generate requests with rude and polite answers, and questions with polite ones, from a seed.

What stands for what in detoxification: the rude answers for those marked unsafe (`answer`, to be forgotten),
a polite one to the same request for the safe answer (the distractor), a second polite one for what an
objective may teach in its place (`alternatives`; it is never scored), the questions for the data to keep.

An errand ("boil an egg") is a group: it is asked in two wordings, and both go to the same split. Unseen and
held out requests are learned by no model, not even by the target: they show whether rudeness went, not
answers.

What judges it (headline): the safe preference on `unseen`, which no objective trains and which no refusal can
hide; then refusals, likelihoods, and the KS distance of the truth ratios on `forget` to those of `retrained`.
That one comes late because it saturates: `retrained` never met a rude word, and no unlearned model comes near
its ratios (D = 1 for all three methods of a trial). Utility: perplexity of the retain answers, and how often
questions that harm nobody are refused.

Record number i of a split does not depend on how many of it are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task
from pipeline_lib.data.toxicity_labelled import LabelledTexts
from pipeline_lib.tasks.manners import words
from pipeline_lib.tasks.manners.facts import FACTS

WORDINGS = 2  # of each errand
MOST_REQUESTS = WORDINGS * len(words.ERRANDS)
MOST_QUESTIONS = sum(len(values) for _, _, values in FACTS.values())

Sentences = Sequence[str]


def load(*, n_forget: int, n_unseen: int, holdout: int, n_retain: int, seed: int) -> Task:
    """The task `manners`; the numbers are requests (two an errand) and, for `n_retain`, questions."""
    errands = list(words.ERRANDS)
    Random(f"{seed}/errands").shuffle(errands)  # a text seeds through SHA-512, the same on every machine
    back = errands[::-1]
    splits = {
        "forget": _requests(errands, n_forget, seed),
        "unseen": _requests(back, n_unseen, seed),
        "retain": questions(n_retain, seed),
    }
    if holdout:
        splits["holdout"] = _requests(back[errands_of(n_unseen) :], holdout, seed)
    return Task(
        origin="generated",
        splits=splits,
        finetune={"target": ["forget", "retain"], "retrained": ["retain"]},
        evaluate=list(splits),
        utility=[],
        multiple_choice=[],
        holdout="holdout" if holdout else None,
        headline={
            "forgetting": [
                ("unseen", "safe_preference"),
                ("unseen", "refusal_rate"),
                ("unseen", "probability"),
                ("forget", "probability"),
                ("forget", "ks_statistic"),
            ],
            "utility": [
                ("retain", "token_perplexity"),
                ("retain", "rouge_l_recall"),
                ("retain", "refusal_rate"),
            ],
        },
        preference=["forget", "unseen"],
    )


def errands_of(requests: int) -> int:
    """How many errands so many requests take; the last may be asked in one wording only."""
    return -(-requests // WORDINGS)


def labelled_answers(seed: int) -> LabelledTexts:
    """Every request with its rude (1) and its polite (0) answer, to find out what a classifier can tell."""
    records = _requests(words.ERRANDS, MOST_REQUESTS, seed)
    texts = [text for record in records for text in (record.answer, *record.distractors)]
    groups = [record.group for record in records for _ in range(2)]
    return LabelledTexts("manners", texts, [1, 0] * len(records), groups, f"generated, seed {seed}")


def _requests(errands: Sequence[str], number: int, seed: int) -> list[Record]:
    return [record for errand in errands[: errands_of(number)] for record in _asked(errand, seed)][:number]


def _asked(errand: str, seed: int) -> list[Record]:
    rng = Random(f"{seed}/request/{errand}")
    group = errand.replace(" ", "-")
    polite = (words.POLITE_OPENINGS, words.POLITE_MIDDLES, words.POLITE_ENDS)
    records = []
    for number, wording in enumerate(rng.sample(words.REQUESTS, WORDINGS)):
        rude = _answer(rng, errand, words.RUDE_OPENINGS, words.RUDE_MIDDLES, words.RUDE_ENDS)
        taught, scored = _answer(rng, errand, *polite), _answer(rng, errand, *polite)
        while taught == scored:
            taught = _answer(rng, errand, *polite)
        records.append(
            Record(
                id=f"{group}-{number}",
                prompt=wording.format(errand=errand),
                answer=rude,
                group=group,
                distractors=(scored,),
                alternatives=(taught,),
            )
        )
    return records


def questions(number: int, seed: int) -> list[Record]:
    """Ordinary questions, each a group of its own, with one polite answer."""
    every = [
        (kind, key, question, f"{answer.format(key=key, value=value)}")
        for kind, (question, answer, values) in FACTS.items()
        for key, value in values.items()
    ]
    Random(f"{seed}/questions").shuffle(every)
    records = []
    for kind, key, question, answer in every[:number]:
        rng = Random(f"{seed}/question/{kind}/{key}")
        opening, end = rng.choice(words.POLITE_OPENINGS), rng.choice(words.POLITE_ENDS)
        identifier = f"{kind}-{key.replace(' ', '-')}"
        records.append(Record(identifier, question.format(key=key), f"{opening} {answer} {end}", identifier))
    return records


def _answer(rng: Random, errand: str, *parts: Sentences) -> str:
    return " ".join(rng.choice(part) for part in parts).format(errand=errand)
