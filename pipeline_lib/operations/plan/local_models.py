"""Checks, before any job starts, of model folders and tokenizers on this machine, without reading weights.

Lengths are counted with the `tokenizers` library alone, which needs no torch: exact for a template of the
suite, and a lower bound for a chat template, whose own words are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.blocks import Fault
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import NotAtHand
from pipeline_lib.data.records import Record
from pipeline_lib.engine.settings import spread_over_groups
from pipeline_lib.models.checks import check_folder
from pipeline_lib.models.scratch import texts_of, train_bpe
from pipeline_lib.models.settings import PretrainedModel, ScratchModel
from pipeline_lib.models.source import check_gguf
from pipeline_lib.models.tokenizer import from_folder
from pipeline_lib.operations.plan.attacks import asked_otherwise, soft_tokens
from pipeline_lib.operations.plan.local_data import Look
from pipeline_lib.operations.plan.shape import place_of, shape_of
from pipeline_lib.study.draws import parted

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline_lib.study.suite import Suite

SLOT = "{prompt}"
SHOWN = 3  # records that a message names


def look_at_model(look: Look, suite: Suite, label: str) -> Any:
    """Check a model's folder and return its tokenizer; None where only transformers could read it."""
    settings = suite.models[label]
    if isinstance(settings, ScratchModel):
        return None
    where = f"models.{label}"
    found, path = look.attempt(where, f"the model {label}", _place, settings)
    if not found:
        return None
    if path.suffix == ".gguf":
        look.attempt(where, f"the model {label}", check_gguf, path)
        return None
    whole, _ = look.attempt(where, f"the model {label}", check_folder, path, str(path))
    if not whole:
        return None
    read, tokenizer = look.attempt(where, f"the tokenizer of {label}", _tokenizer, path)
    if read:
        look.attempt(f"{where}.prompt", f"the prompt of {label}", _check_prompt, path, settings)
    return tokenizer


def _check_prompt(folder: Path, settings: Any) -> None:
    from pipeline_lib.models.prompt import PromptFormat
    from pipeline_lib.models.prompt_check import check_prompt

    check_prompt(from_folder(folder, str(folder)), PromptFormat(**dict(settings.prompt)))


def _place(settings: PretrainedModel) -> Path:
    folder = place_of(settings)
    if folder is None:
        assert settings.source == "hub"  # no other model can be without a place
        raise NotAtHand(f"model {settings.id}")
    return folder


def _tokenizer(folder: Path) -> Any:
    file = folder / "tokenizer.json"
    if not file.is_file():  # older forms are read by transformers alone
        return None
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # bare ones, of a library written in Rust
        raise UserError(
            f"{file}: is no tokenizer that can be read ({' '.join(str(error).split())[:200]}). Copy or "
            "download it again."
        ) from None


def look_at_lengths(look: Look, suite: Suite, name: str, label: str, tokenizer: Any) -> None:
    """Check that the records of a task fit the model's `max_length`, and its prompts the model's context."""
    settings, task, evaluation = suite.models[label], look.tasks[name], suite.evaluation_of(name)
    learned = {split for splits in task.finetune.values() for split in splits} | {"forget", "retain"}
    judged = {
        split: task.splits[split]
        if split not in evaluation.max_records
        else spread_over_groups(task.splits[split], evaluation.max_records[split])
        for split in task.evaluate
    }
    otherwise = asked_otherwise(suite, name, label, judged)
    pairs = [(record, record.answer) for split in sorted(learned) for record in task.splits[split]]
    pairs += [(record, text) for some in judged.values() for record in some for text in _answers(record)]
    pairs = list(dict.fromkeys(pairs))
    around = len((settings.prompt.template or "").encode()) + len(settings.prompt.answer_prefix.encode()) + 4
    room, shape = evaluation.max_new_tokens, shape_of(settings)
    context = None if shape is None else shape.context
    if isinstance(settings, ScratchModel):
        prompts = [(0, record) for some in judged.values() for record in some]
        prompts += [(soft_tokens(suite, where), record) for where in otherwise for record in otherwise[where]]
        if all(_bytes(record, text) + around <= settings.max_length for record, text in pairs) and all(
            _bytes(record, record.answer if soft else "") + around + room + soft <= settings.max_length
            for soft, record in prompts
        ):
            return  # a token is a byte or more
        if settings.pretrain is None:
            tokenizer = train_bpe(settings, texts_of(task.splits, task.finetune, task.holdout))
    if tokenizer is None:
        look.unseen.append(f"how long the records of {name} are in tokens of {label}")
        return
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if beyond := {
        record.id: count
        for (record, _), count in zip(pairs, _lengths(tokenizer, settings, pairs), strict=True)
        if count > settings.max_length
    }:
        bound = None if isinstance(settings, ScratchModel) else context
        up_to = "" if bound is None else f", up to the model's context of {bound}"
        raised = f"Raise `models.{label}.max_length`{up_to}, or shorten them"
        cure = "Shorten them" if bound == settings.max_length else raised
        look.faults.append(
            (
                f"tasks.{parted(name)[0]}",
                f"{len(beyond)} record(s) do not fit the `max_length` of {label!r} "
                f"({settings.max_length} tokens): {_named(beyond)}. {cure}.",
            )
        )
        return
    if context is not None:
        asked = [record for split, some in judged.items() if split != task.holdout for record in some]
        for where, records in {"": asked, **otherwise}.items():
            soft = soft_tokens(suite, where)
            questions = [record for record in records if record.form != "text"]
            lengths = zip(questions, _prompt_lengths(tokenizer, settings, questions), strict=True)
            beyond = {record.id: count + soft for record, count in lengths if count + soft + room > context}
            if beyond:
                look.faults.append(_no_room(where, (name, label), beyond, room, context))
            texts = [(record, record.answer) for record in records if soft and record.form == "text"]
            counts = zip(texts, _lengths(tokenizer, settings, texts), strict=True)
            if beyond := {record.id: count for (record, _), count in counts if count + soft > context}:
                look.faults.append(_no_room_for_soft(where, (name, label), beyond, soft, context))


def _no_room(stage: str, of: tuple[str, str], beyond: dict[str, int], room: int, context: int) -> Fault:
    """`stage`: the label of one that asks in another way; "" where the questions are asked as they are."""
    most = context - max(beyond.values())
    shorten = "put less before the questions" if stage else "shorten the prompts"
    lower = "`evaluation.max_new_tokens`" if stage else "it"
    cure = f"lower {lower} to at most {most}, or {shorten}" if most > 0 else shorten
    found = f"answers have up to {room} tokens" if stage else f"found {room}"
    return (
        f"stages.{stage}" if stage else "evaluation.max_new_tokens",
        f"{found}, and {len(beyond)} prompts of the task {of[0]!r} leave less room in "
        f"the context of {of[1]!r} ({context} tokens): {_named(beyond)}; {cure}",
    )


def _no_room_for_soft(
    stage: str, of: tuple[str, str], beyond: dict[str, int], soft: int, context: int
) -> Fault:
    """Running text that a soft prompt makes longer than the model reads."""
    most = context - max(beyond.values())
    cure = "name the tasks that the stage is for (`tasks`)"
    return (
        f"stages.{stage}.soft_prompt.tokens",
        f"found {soft}, and {len(beyond)} texts of the task {of[0]!r} leave less room in the context of "
        f"{of[1]!r} ({context} tokens): {_named(beyond)}; "
        + (f"choose at most {most}, or {cure}" if most > 0 else cure),
    )


def _answers(record: Record) -> list[str]:
    paraphrase = [] if record.paraphrased_answer is None else [record.paraphrased_answer]
    return [record.answer, *paraphrase, *record.distractors]


def _bytes(record: Record, text: str) -> int:
    return len(record.prompt.encode("utf-8", "replace")) + len(text.encode("utf-8", "replace"))


def _named(found: dict[str, int]) -> str:
    worst = sorted(found.items(), key=lambda row: -row[1])[:SHOWN]
    more = f" and {len(found) - len(worst)} more" if len(found) > len(worst) else ""
    return ", ".join(f"{name} ({count} tokens)" for name, count in worst) + more


def _prompt_lengths(tokenizer: Any, settings: Any, records: Sequence[Record]) -> list[int]:
    prompt = settings.prompt
    texts = [
        prompt.template.replace(SLOT, record.prompt) if prompt.kind == "template" else record.prompt
        for record in records
    ]
    return [count + bool(prompt.add_bos) for count in _counts(tokenizer, texts)]


def _lengths(tokenizer: Any, settings: Any, pairs: Sequence[tuple[Record, str]]) -> list[int]:
    """Tokens of each record with each text as its answer."""
    records = list(dict.fromkeys(record for record, _ in pairs))
    prompts = dict(zip(records, _prompt_lengths(tokenizer, settings, records), strict=True))
    answers = _counts(
        tokenizer,
        [
            record.prompt + text if record.form == "text" else settings.prompt.answer_prefix + text
            for record, text in pairs
        ],
    )
    return [
        count + bool(settings.prompt.add_bos)
        if record.form == "text"
        else prompts[record] + count + 1  # end token
        for (record, _), count in zip(pairs, answers, strict=True)
    ]


def _counts(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
