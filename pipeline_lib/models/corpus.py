"""The text that a scratch model is pretrained on: read, tokenised into one stream, and checked.

Never imports torch: the plan checks a suite's text as the job does.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.data.raw_text import raw_documents
from pipeline_lib.models.pretrain_settings import Pretrain
from pipeline_lib.models.scratch import EOS
from pipeline_lib.models.settings import ScratchModel


@dataclass(frozen=True)
class Corpus:
    """`texts`: the documents, none of them blank. `parts`: of each place its name, documents, characters."""

    texts: list[str]
    parts: list[dict[str, Any]]

    @property
    def characters(self) -> int:
        return sum(part["characters"] for part in self.parts)


def read_corpus(settings: Pretrain) -> Corpus:
    """All documents, in the order of the suite. Raises `UserError` for a place without any text."""
    texts: list[str] = []
    parts = []
    for source in settings.text:
        documents = islice(raw_documents(source.place()), source.documents)
        found = [text for text in documents if text.strip()]
        if not found:
            raise UserError(f"{source.name}: holds no text to learn, only blank documents or none")
        characters = sum(map(len, found))
        parts.append({"name": source.name, "documents": len(found), "characters": characters})
        texts += found
    return Corpus(texts, parts)


def stream_of(tokenizer: Any, texts: Sequence[str]) -> array[int]:
    """The tokens of all texts, one after the other, each with an end token behind it.

    `tokenizer`: as the library `tokenizers` has it. Text that spells a control token stays text.
    """
    tokenizer.encode_special_tokens = True
    end, stream = tokenizer.token_to_id(EOS), array("i")
    for text in texts:
        stream.extend(tokenizer.encode(text, add_special_tokens=False).ids)
        stream.append(end)
    return stream


def check_corpus(settings: ScratchModel, vocabulary: int, tokens: int) -> None:
    """Raise `UserError` where the text has fewer tokens or merges than the settings need.

    `vocabulary`: tokens of the trained tokenizer; `tokens`: length of the stream.
    """
    assert settings.pretrain is not None
    faults, context = [], settings.pretrain.context_in(settings.max_length)
    if vocabulary < settings.vocab_size:
        faults.append(
            f"`vocab_size` is {settings.vocab_size}, and the text has merges for {vocabulary} tokens alone; "
            f"set it to at most {vocabulary}, or give more text"
        )
    windows = tokens // context
    learned = windows - held_out_count(windows, settings.pretrain.held_out)
    if learned < settings.pretrain.size:
        faults.append(
            f"the text has {tokens:,} tokens: {max(learned, 0)} windows of {context} beside those held out, "
            f"and a step takes {settings.pretrain.size}; give more text, or a smaller `context` or "
            "`batch_size`"
        )
    if faults:
        raise UserError("; ".join(faults))


def held_out_count(windows: int, share: float) -> int:
    """How many of so many windows are held out: at least one."""
    return max(1, round(share * windows))
