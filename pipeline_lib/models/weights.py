"""Which files hold a model's weights, and what their headers say: names, types and shapes, without torch.

A safetensors file is 8 bytes (the length of the header, little endian), the header in JSON and the numbers
(https://github.com/huggingface/safetensors, "Format"). So a file that was cut, integers in place of weights,
and a config.json of another model are noticed before a byte is allocated for them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import sha256
from pipeline_lib.core.untrusted import INDEX, SINGLE, check_content, read_index
from pipeline_lib.models.architectures import quantised

LONGEST_HEADER = 100_000_000  # bytes, as the format allows
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
OTHER_BYTES = {
    **dict.fromkeys(("I64", "U64", "C64"), 8),
    **dict.fromkeys(("I32", "U32"), 4),
    **dict.fromkeys(("I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
}
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# Each is at most the length of a side of some weight, in every architecture that has the setting.
# fmt: off
SIDES = (
    "vocab_size", "hidden_size", "n_embd", "d_model", "intermediate_size", "ffn_dim", "n_inner",
    "ffn_hidden_size", "num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads",
    "head_dim", "moe_intermediate_size",
)
# fmt: on
CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length")
LONGEST_CONTEXT = 1 << 27  # tokens: ten times what any model claims to read
# Constants that older versions of transformers wrote beside the weights, and that no version reads.
CONSTANT = re.compile(r"(^|\.)(rotary\w*\.inv_freq|masked_bias|position_ids)$")
CAUSAL_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")
PACKED = re.compile(r"\.(qweight|qzeros|SCB|absmax|quant_map|weight_packed|weight_scale(_inv)?|scales)$")


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: its type as safetensors calls it, its shape, and the file's name."""

    dtype: str
    shape: tuple[int, ...]
    file: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def weight_files(folder: Path, name: str | None = None) -> list[Path]:
    """The files that transformers reads weights from; `UserError` if a shard of the index is missing."""
    name = name or str(folder)
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        return []
    shards = sorted(set(read_index(folder, name).values()))
    if missing := next((shard for shard in shards if not (folder / shard).is_file()), None):
        raise UserError(
            f"{name}: {missing} is missing, one of the {len(shards)} files that {INDEX} names. Download or "
            "copy it again beside the others."
        )
    return [folder / shard for shard in shards]


def weight_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that weights are read from, by file name."""
    return {file.name: sha256(file) for file in weight_files(folder)}


def stored_tensors(folder: Path, name: str) -> dict[str, Stored]:
    """Every tensor of the files that are read, by its name. `UserError` for files that are cut or damaged."""
    files = weight_files(folder, name)
    stored: dict[str, Stored] = {}
    for file in files:
        for tensor, found in _header(file, name).items():
            if tensor in stored:
                raise UserError(
                    f"{name}: {stored[tensor].file} and {file.name} both hold {tensor!r}, and it is unclear "
                    "which is meant. Download the model again."
                )
            stored[tensor] = found
    if files and files[0].name != SINGLE:
        for tensor, shard in read_index(folder, name).items():
            if tensor not in stored or stored[tensor].file != shard:
                raise UserError(
                    f"{name}: {INDEX} says that {tensor!r} is in {shard}, which does not hold it. The files "
                    "are of different models or versions; download all of them again."
                )
    return stored


def check_types(stored: Mapping[str, Stored], name: str) -> None:
    """`UserError` if a weight is not a floating-point number of 16 bits or more."""
    for tensor, found in stored.items():
        if found.dtype in BYTES or is_constant(tensor, found.shape):
            continue
        packed = next((other for other in stored if PACKED.search(other)), None)
        if packed is not None or found.dtype.startswith("F8"):
            raise UserError(quantised(name, "", None, f"{packed or tensor} in {found.file}"))
        raise UserError(
            f"{name}: {tensor} in {found.file} holds numbers of type {found.dtype}; expected floating-point "
            f"weights ({', '.join(BYTES)}). Integers are weights only together with their scales, which this "
            "file does not say. Use the model as it was published, unquantised."
        )


def check_sizes(config: Mapping[str, Any], stored: Mapping[str, Stored], name: str) -> None:
    """`UserError` if config.json describes more, or other, weights than the files hold."""
    for key in (*SIDES, *LAYER_COUNTS, *CONTEXTS):
        value = config.get(key)
        counts = isinstance(value, int) and not isinstance(value, bool) and value > 0
        spared = key in (*CONTEXTS, "n_inner")  # some say -1 or 0 for "none"
        if not (counts or spared or value is None or isinstance(value, list)):
            raise UserError(
                f"{name}: config.json says {key} {value!r}; expected a whole number above 0. Take the "
                "config.json that the model was published with."
            )
    longest = max((side for found in stored.values() for side in found.shape), default=0)
    layers = next((value for key in LAYER_COUNTS if isinstance(value := config.get(key), int)), None)
    counted = max((int(match[1]) + 1 for tensor in stored if (match := LAYER.search(tensor))), default=None)
    further = config.get("num_nextn_predict_layers")
    most = (layers or 0) + (further if isinstance(further, int) else 0)
    if layers is not None and counted is not None and not layers <= counted <= most:
        raise UserError(
            f"{name}: config.json says {layers} layers, and the files hold {counted}. They belong to "
            "different models; take both from the same one."
        )
    if layers is not None and layers > len(stored):
        raise UserError(
            f"{name}: config.json says {layers} layers, and the files hold {len(stored)} tensors in all. "
            "They belong to different models; take both from the same one."
        )
    too_long = (
        f", and no weight in the files has a side longer than {longest}. They belong to different models; "
        "take both from the same one."
    )
    too_much = (
        f"; expected at most {LONGEST_CONTEXT} tokens. Take the config.json that the model was published "
        "with."
    )
    for keys, most, fault in ((SIDES, longest, too_long), (CONTEXTS, LONGEST_CONTEXT, too_much)):
        for key in keys:
            if isinstance(value := config.get(key), int) and value > most:
                raise UserError(f"{name}: config.json says {key} {value}{fault}")


def is_constant(tensor: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is not a weight but a constant, which the architecture computes itself."""
    mask = CAUSAL_MASK.search(tensor) is not None and len(shape) == 4 and shape[2] == shape[3]
    return mask or CONSTANT.search(tensor) is not None


def _header(file: Path, name: str) -> dict[str, Stored]:
    check_content(file, name)
    size = file.stat().st_size
    with open(file, "rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        text = handle.read(length) if length <= min(size, LONGEST_HEADER) else b""
    try:
        content = json.loads(text)
        entries = {key: value for key, value in content.items() if key != "__metadata__"}
        stored = {
            tensor: Stored(entry["dtype"], tuple(entry["shape"]), file.name)
            for tensor, entry in entries.items()
        }
        ends = [_end(stored[tensor], entry["data_offsets"]) for tensor, entry in entries.items()]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        cut = (
            " (the file is shorter than its header says)" if 8 <= size < 8 + length <= LONGEST_HEADER else ""
        )
        raise UserError(
            f"{name}: {file.name} has no readable header of safetensors{cut}: the file is damaged or of "
            "another format. Download or copy it again, and compare its size with the original's."
        ) from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        what = "cut: it has only" if size < expected else "not what its header describes: it has"
        raise UserError(
            f"{name}: {file.name} is {what} {size} of {expected} bytes. Download or copy it again."
        )
    return stored


def _end(stored: Stored, offsets: Any) -> int:
    """Where a tensor ends; `ValueError` if type, shape and place contradict each other."""
    begin, end = offsets
    if not all(isinstance(side, int) and side >= 0 for side in (begin, end, *stored.shape)):
        raise ValueError("a size or place is no whole number")
    each = BYTES.get(stored.dtype) or OTHER_BYTES.get(stored.dtype)
    if end < begin or (each is not None and end - begin != each * stored.size):
        raise ValueError("a tensor's bytes are not those of its shape")
    return end
