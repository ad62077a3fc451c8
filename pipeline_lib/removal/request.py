"""What is asked of a removal, its data as files of records, and the model's place.

Everything that can be wrong with a request is said here, before any job starts.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline_lib.core.blocks import suggestion
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, sha256, write_json
from pipeline_lib.core.redaction import listed
from pipeline_lib.data.doubts import doubts_of
from pipeline_lib.data.overlap import measure_overlap
from pipeline_lib.data.own_records import text_record
from pipeline_lib.data.records import Record, write_records
from pipeline_lib.models.hub import hub_folder, local_copy, pinned
from pipeline_lib.models.prompt_settings import PromptSettings
from pipeline_lib.objectives import OBJECTIVES
from pipeline_lib.optimizers import OPTIMIZERS
from pipeline_lib.removal.evidence import LEVEL
from pipeline_lib.removal.texts import read_texts
from pipeline_lib.tasks.c4 import C4
from pipeline_lib.tasks.fictitious.generate import generate
from pipeline_lib.tasks.passages.story import story

NOTE = "request.json"
PROMPT = "prompt.json"  # beside the weights of a model that a study made
UNSEEN = 20  # invented texts that no model has seen
OTHER_SEED = 9917  # of no shipped suite, whose models have learned what is invented there
INVENTED_WORDS = 70
RETAIN = (60, 200)  # documents of the general corpus, at least and at most
A_TEXT = 3  # documents of it for each text to forget
SHARED = 0.1  # of a retain set's overlap, beyond which it teaches what is to be forgotten
PROMPT_WORDS, LONGEST_WORDS = 30, 110  # of a document
_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([0-9a-f]{40}))?")


@dataclass(frozen=True)
class Request:
    """A removal request.

    `model`: a folder (safetensors and tokenizer), a GGUF file, or an id of the hub, `ID@COMMIT` to pin it.
    `texts`, `retain`, `holdout`: files or folders (texts.py); `retain` must stay known, `holdout` are texts
    like those to forget that the model has not seen. `utility`: the least joint utility, as a share of the
    model's before. `budget`: minutes. `adapter`: train an adapter and leave it too, beside the whole model.
    `anyway`: go on where the model shows no knowledge of the texts.
    """

    model: str
    texts: Path
    out: Path
    retain: Path | None = None
    holdout: Path | None = None
    method: str = "SimNPO"
    optimizer: str = "adamw"
    budget: float = 60.0
    utility: float = 0.9
    seed: int = 0
    adapter: bool = False
    anyway: bool = False

    def __post_init__(self) -> None:
        """Take paths as texts, and the model's as a path, as people give them in Python."""
        kept = {name: getattr(self, name) for name in ("retain", "holdout")}
        paths = {name: None if place is None else Path(place) for name, place in kept.items()}
        given = {"model": str(self.model), "texts": Path(self.texts), "out": Path(self.out), **paths}
        for name, value in given.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Prepared:
    """The data of a request in `out`/data, its model block for a suite, and what a person should know.

    `resources`: the machine's, as a suite says them. `lora`: train adapters in place of all weights.
    """

    request: Request
    model: dict[str, Any]
    forget: list[Record]
    folder: Path
    retain_from: str
    hashes: dict[str, str]
    notes: list[str] = field(default_factory=list)
    resources: dict[str, Any] = field(default_factory=dict)
    lora: bool = False

    @property
    def groups(self) -> int:
        return len({record.group for record in self.forget})


def prepare(request: Request) -> Prepared:
    """Read and check what the request names, and write its data; the same request again changes nothing."""
    _check_settings(request)
    forget, notes = read_texts(request.texts)
    notes += doubts_of({"forget": forget})
    retain, origin, said = _retain(request, len(forget))
    notes += said
    unseen, said = _unseen(request, forget)
    notes += said
    notes += _overlap(forget, retain)
    if request.holdout is not None:
        notes += _known(unseen, [*forget, *retain])
        _check_power(len(forget), len(unseen))
    model, said = _model(request.model, any(record.form == "question" for record in forget))
    notes += said
    folder = _made(request.out) / "data"
    splits = {"forget": forget, "retain": retain, "holdout": unseen}
    _same_request(request, splits)
    for split, records in splits.items():
        write_records(folder / f"{split}.jsonl", records)
    hashes = {split: sha256(folder / f"{split}.jsonl") for split in splits}
    write_json(request.out / NOTE, {**_asked(request), "data": hashes, "retain_from": origin})
    return Prepared(request, model, forget, folder, origin, hashes, notes)


def _check_settings(request: Request) -> None:
    """Refuse what no model and no texts make right, in the words of a request and not of a suite."""
    for option, given, family in (
        ("method", request.method, OBJECTIVES),
        ("optimizer", request.optimizer, OPTIMIZERS),
    ):
        if given not in family.kinds():
            raise UserError(f"--{option}: found {given!r}; {suggestion(given, family.kinds())}")
    if not 0 < request.utility < 1:
        raise UserError(f"utility: expected a share between 0 and 1, found {request.utility:g}")
    if not 0 <= request.seed < 2**31:
        raise UserError(f"seed: expected 0 or more, and less than 2147483648, found {request.seed}")


def _check_power(texts: int, unseen: int) -> None:
    """Refuse so few unseen texts that no model could be told to know the others by their likelihood."""
    if 1 / math.comb(texts + unseen, unseen) >= LEVEL:
        raise UserError(
            f"--holdout: found {unseen}, and beside {texts} to forget no likelihood would differ from theirs "
            f"at {LEVEL:.0%}. Give 20 or more, or leave it out for invented ones"
        )


def _made(out: Path) -> Path:
    """The folder of a request, made where it is not there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out {out}: expected a place for a folder, and none can be made ({error.strerror}). Name "
            "another place"
        ) from None
    return out


def _asked(request: Request) -> dict[str, Any]:
    asked = {
        name: str(value) if isinstance(value, Path) else value for name, value in asdict(request).items()
    }
    return {name: value for name, value in asked.items() if name not in ("out", "anyway")}


def _same_request(request: Request, splits: dict[str, list[Record]]) -> None:
    """Refuse a folder that holds another request: its results would stand under this one's name.

    One that was checked alone, or refused, has made none, and gives way.
    """
    note = request.out / NOTE
    if not note.is_file():
        if request.out.is_dir() and any(request.out.iterdir()):
            raise UserError(
                f"{request.out}: expected a new or empty folder, or one of this request; name another"
            )
        return
    if not (request.out / "results").exists():
        return
    there, here = read_object(note, "model", "data"), _asked(request)
    other = [
        name
        for name in ("model", "method", "optimizer", "seed", "utility", "adapter")
        if there.get(name) != here[name]
    ]
    for split, records in splits.items():
        probe = request.out / f".{split}.jsonl"
        write_records(probe, records)
        if sha256(probe) != there["data"].get(split):
            other.append("texts" if split == "forget" else split)
        probe.unlink()
    if other:
        raise UserError(
            f"{request.out}: holds another request, which differs in {', '.join(other)}; name another folder "
            "with --out, or remove this one"
        )


def _retain(request: Request, texts: int) -> tuple[list[Record], str, list[str]]:
    """What must stay known, where it is from, and notes."""
    if request.retain is not None:
        records, notes = read_texts(request.retain)
        wrong = sum(bool(record.distractors) for record in records)
        if 0 < wrong < len(records):  # a study would judge by those alone
            records = [replace(record, distractors=()) for record in records]
            notes.append(
                f"the wrong answers of {wrong} texts that must stay known are left out: others have none"
            )
        return records, str(request.retain), notes
    count = min(max(A_TEXT * texts, RETAIN[0]), RETAIN[1])
    try:
        records, origin = C4(n=count).load(PROMPT_WORDS, LONGEST_WORDS)
    except UserError as error:
        raise UserError(
            "no text is named that must stay known (--retain), and the general corpus in its place cannot be "
            f"had: {error}"
        ) from None
    note = f"what must stay known: {count} documents of C4 ({origin}), as --retain names nothing"
    return records, f"C4, {origin}", [note]


def _unseen(request: Request, forget: list[Record]) -> tuple[list[Record], list[str]]:
    """Texts that the model has not seen: the person's, or invented ones of the same form."""
    if request.holdout is not None:
        return read_texts(request.holdout)
    note = f"compared with {UNSEEN} English texts that were invented here, as --holdout names none"
    if sum(record.form == "question" for record in forget) * 2 > len(forget):
        invented = generate(n_authors=UNSEEN, questions_per_author=1, n_facts=0, seed=OTHER_SEED)[0]
        wrong = any(record.distractors for record in forget)  # then theirs are compared too
        return [_invented(record, wrong) for record in invented], [note]
    scenes = (story(OTHER_SEED + number, "book", INVENTED_WORDS) for number in range(UNSEEN))
    names = (f"invented-{number:03d}" for number in range(UNSEEN))
    return [text_record(scene, name, name) for scene, name in zip(scenes, names, strict=True)], [note]


def _invented(record: Record, wrong: bool) -> Record:
    named = Record(f"invented-{record.id}", record.prompt, record.answer, f"invented-{record.group}")
    if not wrong:
        return named
    return replace(named, distractors=record.distractors, paraphrased_answer=record.paraphrased_answer)


def _overlap(forget: list[Record], retain: list[Record]) -> list[str]:
    """Refuse a retain set that holds the texts, and say which of them it touches."""
    return _apart(
        forget,
        retain,
        "the texts that must stay known hold {share:.0%} of what is to be forgotten (by runs of eight "
        "words): {named}. No method can forget what it is taught to keep: take them out of --retain",
        "the texts that must stay known share words with some to forget: {named}",
    )


def _known(unseen: list[Record], others: list[Record]) -> list[str]:
    """Refuse texts that the model has not seen where they are among those that it knows."""
    return _apart(
        unseen,
        others,
        "the texts that the model has not seen stand to {share:.0%} in those to forget or to keep (by runs "
        "of eight words): {named}. They say how likely it finds what it does not know, which is what "
        "forgetting aims at: take these out of --holdout",
        "texts that the model has not seen share words with those to forget or to keep: {named}",
    )


def _apart(texts: list[Record], others: list[Record], refusal: str, note: str) -> list[str]:
    """Refuse texts of which the others hold more than SHARED, and note a smaller share, in these words."""
    found = measure_overlap(texts, others)
    if not found.records:
        return []
    named = listed([f"{name} ({share:.0%})" for name, share in found.records])
    if found.share > SHARED:
        raise UserError(refusal.format(share=found.share, named=named))
    return [note.format(named=named)]


def _model(name: str, asks: bool) -> tuple[dict[str, Any], list[str]]:
    """The model's block in a suite; what belongs to the hub is downloaded, since the plan reads its sizes."""
    path, notes = Path(name).expanduser(), list[str]()
    block: dict[str, Any]
    if path.is_dir():
        block, folder = {"source": "folder", "path": str(path.resolve())}, path
    elif path.suffix == ".gguf" and path.is_file():
        return {"source": "gguf", "path": str(path.resolve())}, notes
    elif found := _HUB.fullmatch(name):
        local = None if found[2] else local_copy(found[1])
        if local is not None:
            notes.append(f"the model is the local copy {local}")
            return _model(str(hub_folder(found[1], "")), asks)[0], notes
        try:
            revision = found[2] or pinned(found[1])
        except UserError as error:
            raise UserError(f"--model {name}: no folder is there, and as an id of the hub, {error}") from None
        block, folder = (
            {"source": "hub", "id": found[1], "revision": revision},
            hub_folder(found[1], revision),
        )
        if not found[2]:
            notes.append(f"the model is {found[1]} at commit {revision}")
    else:
        raise UserError(
            f"--model {name}: expected a model's folder, a .gguf file or an id of the hub such as "
            "HuggingFaceTB/SmolLM2-135M-Instruct, found none of these"
        )
    if (folder / PROMPT).is_file():  # a model of a study: as it was asked there
        kept = read_object(folder / PROMPT)
        known = PromptSettings.model_fields
        block["prompt"] = {name: value for name, value in kept.items() if name in known and value is not None}
    elif asks and not _chats(folder):
        block["prompt"] = {"kind": "template"}
        notes.append("the model has no chat template: questions are put as `Question: ... Answer: ...`")
    return block, notes


def _chats(folder: Path) -> bool:
    if folder.suffix == ".gguf" or (folder / "chat_template.jinja").is_file():
        return True
    settings = folder / "tokenizer_config.json"
    return settings.is_file() and bool(read_object(settings).get("chat_template"))
