"""Checks, before any job starts, of the text that a model is to be pretrained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.redaction import listed
from pipeline_lib.data.overlap import WORDS, measure_overlap
from pipeline_lib.data.records import Record
from pipeline_lib.data.splits import Task
from pipeline_lib.models.corpus import Corpus, check_corpus, read_corpus, stream_of
from pipeline_lib.models.scratch import train_bpe
from pipeline_lib.models.settings import ScratchModel
from pipeline_lib.operations.plan.local_data import Look

if TYPE_CHECKING:
    from pipeline_lib.study.suite import Suite

MOST_CHARACTERS = 10_000_000  # of the text; to learn its tokens before the start would take minutes


def look_at_base(look: Look, suite: Suite, label: str, tasks: Mapping[str, Task]) -> Any:
    """Check the text of a model's pretraining; returns its tokenizer, None where it is not known yet.

    `tasks`: data of the tasks that the model will learn. A text that holds their forget sets would teach
    these to `retrained` too.
    """
    settings, where = suite.models[label], f"models.{label}.pretrain.text"
    assert isinstance(settings, ScratchModel) and settings.pretrain is not None
    found, corpus = look.attempt(
        where, f"the text that {label} is pretrained on", read_corpus, settings.pretrain
    )
    if not found:
        return None
    if corpus.characters > MOST_CHARACTERS:
        look.unseen.append(
            f"tokens of the text that {label} is pretrained on, which has {corpus.characters:,} characters"
        )
        return None
    tokenizer = train_bpe(settings, corpus.texts)
    tokens = len(stream_of(tokenizer, corpus.texts))
    fits, _ = look.attempt(where, where, check_corpus, settings, tokenizer.get_vocab_size(), tokens)
    for name, task in tasks.items():
        _look_at_overlap(look, where, corpus, name, task, suite.tasks[name].max_overlap)
    return tokenizer if fits else None


def _look_at_overlap(look: Look, where: str, corpus: Corpus, name: str, task: Task, largest: float) -> None:
    documents = [Record(str(place), "", text, "") for place, text in enumerate(corpus.texts)]
    found = measure_overlap(task.splits["forget"], documents)
    if found.share > largest:
        records = listed([f"{record} ({share:.0%})" for record, share in found.records])
        look.faults.append(
            (
                where,
                f"holds {found.share:.1%} of the forget set of {name!r}, counted in runs of {WORDS} words, "
                f"so that `retrained` would know it too; `tasks.{name}.max_overlap` allows {largest:.1%}. "
                f"The records with most of them: {records}. Leave that text out",
            )
        )
