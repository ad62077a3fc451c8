"""The sizes of a model, from its settings, or from its config.json or GGUF file on this machine."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object
from pipeline_lib.core.locate import expand
from pipeline_lib.models.hub import cached_folder, local_copy
from pipeline_lib.models.settings import ModelSettings, ModelShape, PretrainedModel, ScratchModel

# Families whose feed-forward part is not gated: two matrices instead of three (config.json: model_type).
UNGATED = frozenset({"opt", "gpt2", "gpt_neo", "gpt_neox", "gptj", "bloom", "falcon", "phi", "starcoder2"})
RELU = frozenset({"opt"})  # these keep one tensor of the feed-forward part for the backward pass, not two


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder. `context`: positions, None where unknown. `source`: where the sizes come from."""

    parameters: int
    hidden: int
    layers: int
    vocab: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    context: int | None
    tied: bool
    gated: bool
    relu: bool
    source: str

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding, which no matrix product reads."""
        return self.vocab * self.hidden

    @property
    def head(self) -> int:
        """Parameters of the output projection, computed for predicted positions alone."""
        return self.vocab * self.hidden

    @property
    def body(self) -> int:
        """Parameters of the layers: each takes part in one multiplication a token."""
        return self.parameters - self.embedding - (0 if self.tied else self.head)


def shape_of(settings: ModelSettings) -> Shape | None:
    """The model's sizes; None where no local file tells them. Never uses the network."""
    if isinstance(settings, ScratchModel):
        return _of_sizes(settings, settings.max_length, "settings", "llama", True)
    given = settings.shape
    if given is not None:
        # Told apart by the number of parameters: which of the four forms comes nearest to it?
        untied = given.parameters > 2 * given.vocab_size * given.hidden_size
        forms = [
            _of_sizes(given, given.context, "shape", family, tied)
            for tied in ((True, False) if untied else (True,))
            for family in ("llama", "gpt_neox")
        ]
        nearest = min(filter(None, forms), key=lambda form: abs(form.parameters - given.parameters))
        return replace(nearest, parameters=int(given.parameters))
    try:
        path = place_of(settings)
        if path is None:
            return None
        if path.suffix == ".gguf":
            return _of_gguf(path)
        return _of_config(read_object(path / "config.json"), "config.json")
    except (OSError, UserError):  # such as a variable that is not set: the job says so, an estimate need not
        return None


def place_of(settings: PretrainedModel) -> Path | None:
    """Where a model lies on this machine; None for one of the hub that was not downloaded."""
    if settings.source != "hub":
        return expand(settings.path)
    local = local_copy(settings.id)
    return cached_folder(settings.id, settings.revision) if local is None else expand(local)


def _of_sizes(
    sizes: ScratchModel | ModelShape, context: int | None, source: str, family: str, tied: bool
) -> Shape | None:
    return _of_config(
        {
            "model_type": family,
            "vocab_size": sizes.vocab_size,
            "hidden_size": sizes.hidden_size,
            "intermediate_size": sizes.intermediate_size,
            "num_hidden_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "num_key_value_heads": sizes.kv_heads,
            "max_position_embeddings": context,
            "tie_word_embeddings": tied,
        },
        source,
    )


def _of_config(config: dict[str, Any], source: str) -> Shape | None:
    """From a config.json: the names that transformers gives to sizes, and older ones."""
    config = {**config, **config.get("text_config", {})}

    def first(*names: str) -> int | None:
        return next((int(config[name]) for name in names if config.get(name) is not None), None)

    hidden = first("hidden_size", "n_embd", "d_model")
    layers = first("num_hidden_layers", "n_layer", "num_layers")
    heads = first("num_attention_heads", "n_head", "num_heads")
    vocab = first("vocab_size")
    if hidden is None or layers is None or heads is None or vocab is None:
        return None
    family = str(config.get("model_type", ""))
    gated = family not in UNGATED
    intermediate = first("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size") or 4 * hidden
    kv_heads = first("num_key_value_heads", "num_kv_heads") or heads
    head_size = first("head_dim") or hidden // heads
    tied = bool(config.get("tie_word_embeddings", family in ("opt", "gpt2", "bloom", "falcon", "gemma")))
    context = first("max_position_embeddings", "n_positions", "n_ctx")
    layer = 2 * hidden * (head_size * (heads + kv_heads) + 1) + (3 if gated else 2) * hidden * intermediate
    vectors = 0
    if not gated:  # biases everywhere, layer norms with a bias, learned positions
        layer += 2 * hidden + head_size * (heads + 2 * kv_heads) + hidden + intermediate + hidden
        vectors = hidden + (context or 0) * hidden * (family in ("opt", "gpt2", "gpt_neo"))
    parameters = layers * layer + vocab * hidden * (1 if tied else 2) + hidden + vectors
    return Shape(
        parameters,
        hidden,
        layers,
        vocab,
        intermediate,
        heads,
        kv_heads,
        head_size,
        context,
        tied,
        gated,
        family in RELU,
        source,
    )


_SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


def _of_gguf(path: Path) -> Shape | None:
    """From the key-value pairs at the head of a GGUF file (versions 2 and 3 of the format)."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"GGUF" or _number(file, "<I") < 2:
                return None
            tensors = _number(file, "<Q")
            found = {_text(file): _value(file, _number(file, "<I")) for _ in range(_number(file, "<Q"))}
            names = {_tensor_name(file) for _ in range(tensors)}
    except (OSError, struct.error, KeyError, UnicodeDecodeError, MemoryError, OverflowError):
        return None
    family = str(found.get("general.architecture"))
    keys = {
        "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "max_position_embeddings": "context_length",
        "head_dim": "attention.key_length",
    }
    config = {name: found.get(f"{family}.{key}") for name, key in keys.items()}
    config |= {"vocab_size": found.get("tokenizer.ggml.tokens"), "model_type": family}
    return _of_config({**config, "tie_word_embeddings": "output.weight" not in names}, "GGUF")


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "<Q")).decode("utf-8")


def _tensor_name(file: BinaryIO) -> str:
    """The name of a tensor; its sizes, type and place are skipped."""
    name = _text(file)
    file.seek(8 * _number(file, "<I") + 4 + 8, 1)
    return name


def _value(file: BinaryIO, kind: int) -> Any:
    """A value; of an array its length alone."""
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _number(file, _SCALARS[kind])
    inner, count = _number(file, "<I"), _number(file, "<Q")
    if inner in _SCALARS:
        file.seek(struct.calcsize(_SCALARS[inner]) * count, 1)
    else:
        for _ in range(count):
            _value(file, inner)
    return count
