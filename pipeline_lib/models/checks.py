"""What a model's folder must be before anything in it is loaded; each fault has a message of its own.

Reads names, JSON and the headers of weights, never a weight, and needs no torch, so that it can check a suite
before any job starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.untrusted import INDEX, SINGLE, check_model_folder, read_foreign
from pipeline_lib.models.architectures import QUANTISED, check_architecture
from pipeline_lib.models.weights import check_sizes, check_types, stored_tensors, weight_files

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
CONFIG, GENERATION = "config.json", "generation_config.json"
PARTS = "shard-*-model-*.safetensors"
SAFETENSORS = (
    "Convert them to safetensors (load the model with transformers where you trust it, then "
    "`save_pretrained`) and use the new folder."
)
# Files in a folder of another kind, what they are, and what to do; messages name the first kind found.
OTHER_KINDS = (
    ("*.gguf", "GGUF files", "Use `source: gguf` and name the file in `path`"),
    (
        "consolidated.*",
        "weights in the form of their first release (Meta's or Mistral's)",
        "Convert them with the script of transformers (convert_llama_weights_to_hf.py for Llama), or "
        "download the model in the layout of transformers",
    ),
    (
        "model_index.json",
        "a pipeline that makes images (diffusers)",
        "Choose a language model",
    ),
    ("*.h5", "weights for TensorFlow", "Convert them where you trust them: load with transformers 4 and "
     "`from_tf=True`, then `save_pretrained`"),
    ("*.msgpack", "weights for Flax", "Convert them where you trust them: load with transformers 4 and "
     "`from_flax=True`, then `save_pretrained`"),
    ("*.onnx", "weights for ONNX", "Use the model that they were exported from"),
    ("*.nemo", "a model of NeMo", "Convert it with NeMo's script for transformers"),
    (PARTS, "a checkpoint in parts, one a process", "Save the whole model with "
     "`save_pretrained`"),
    ("model*-of-*.safetensors", "shards without model.safetensors.index.json, the list of what each holds",
     "Copy that file too, beside the shards"),
    ("*.safetensors", "safetensors under other names", "Expected model.safetensors, or shards with "
     "model.safetensors.index.json: save the model with `save_pretrained`"),
)  # fmt: skip
EMBEDS = ("modules.json", "config_sentence_transformers.json")
CODE = ("auto_map", "trust_remote_code")
# Keys of config.json by which transformers would fetch kernels, patch classes or read other files.
# fmt: off
ORDERS = frozenset((
    "attn_implementation", "experts_implementation", "use_kernels", "kernel_config", "fusion_config",
    "distributed_config", "device_map", "tp_plan", "pp_plan", "transformers_weights", "name_or_path",
    "custom_pipelines", *QUANTISED,
))
# fmt: on


def check_folder(folder: Path, name: str) -> dict[str, Any]:
    """The content of its config.json, without orders; `UserError` unless it can be loaded.

    `name` is what messages call the folder.
    """
    if not folder.is_dir():
        cure = "It is a file; use `source: gguf`." if folder.is_file() else "Check the path of the model."
        raise UserError(f"{name}: no such folder. {cure}")
    check_model_folder(folder, name)
    _check_kind(folder, name)
    config = read_config(folder, name)
    check_architecture(config, name)
    if parts := _other_kind(folder, PARTS):  # transformers would read these and not the others
        raise UserError(f"{name}: holds {parts}")
    if not weight_files(folder, name):
        raise UserError(_no_weights(folder, name))
    _check_tokenizer(folder, name)
    stored = stored_tensors(folder, name)
    check_types(stored, name)
    check_sizes(config, stored, name)
    return without_orders(config)


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The content of a folder's config.json, as it is."""
    content = read_foreign(folder / CONFIG, name)
    if not isinstance(content, dict):
        raise UserError(
            f"{name}: config.json must hold an object ({{...}}), found {type(content).__name__}. Take the "
            "one that the model was published with."
        )
    return content


def without_orders(config: Any) -> Any:
    """The same without the keys by which a file would choose kernels, classes, code or other files."""
    if isinstance(config, list):
        return [without_orders(value) for value in config]
    if not isinstance(config, dict):
        return config
    return {
        key: without_orders(value)
        for key, value in config.items()
        if key not in ORDERS and key not in CODE and not key.startswith("_")
    }


def _check_kind(folder: Path, name: str) -> None:
    """`UserError` if there is no config.json, or if it is another library's."""
    if any((folder / file).is_file() for file in EMBEDS):
        raise UserError(
            f"{name}: is a model that turns texts into vectors (sentence-transformers, {EMBEDS[0]}), not one "
            "that continues them. Choose a language model."
        )
    if (folder / CONFIG).is_file():
        return
    if below := sorted(
        path.parent.relative_to(folder) for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{CONFIG}")
    ):
        more = f" (of {len(below)} such folders)" if len(below) > 1 else ""
        raise UserError(
            f"{name}: not a model folder, config.json is missing; there is one in {below[0]}{more}. Write "
            f"{folder / below[0]} as the path."
        )
    if weights := next((file for file in (SINGLE, INDEX) if (folder / file).is_file()), None):
        told = f" Copy the one that belongs to {weights} into the folder."
    elif other := _other_kind(folder):
        told = f" The folder holds {other}"
    else:
        told = " Expected a folder in the layout of transformers: config.json, weights, tokenizer."
    raise UserError(f"{name}: not a model folder, config.json is missing.{told}")


def _no_weights(folder: Path, name: str) -> str:
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickles and not any(file.startswith("consolidated") for file in pickles):
        return (
            f"{name}: its weights are pickles ({pickles[0]}), which can run code when opened and are "
            f"never loaded. {SAFETENSORS}"
        )
    if other := _other_kind(folder):
        return f"{name}: holds no weights that are read here, but {other}"
    return f"{name}: holds no weights; expected model.safetensors or its shards. Download or copy them."


def _other_kind(folder: Path, wanted: str | None = None) -> str | None:
    """What files of another kind are and what to do, for the first kind found (or `wanted` alone)."""
    for pattern, what, cure in OTHER_KINDS:
        found = sorted(file.name for file in folder.glob(pattern))
        if found and wanted in (None, pattern):
            return f"{what} ({found[0]}). {cure}."
    return None


def _check_tokenizer(folder: Path, name: str) -> None:
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise UserError(
            f"{name}: holds no tokenizer; expected one of {', '.join(TOKENIZER_FILES)}. "
            "Copy the files of the model's own tokenizer into the folder."
        )
    for file in ("tokenizer_config.json", "special_tokens_map.json", GENERATION):
        content = read_foreign(folder / file, name) if (folder / file).is_file() else {}
        if not isinstance(content, dict):
            raise UserError(
                f"{name}: {file} must hold an object ({{...}}). Take the one that the model was "
                "published with."
            )
        # answers would run past end tokens that are not numbers
        written = content.get("eos_token_id") if file == GENERATION else None
        ends = written if isinstance(written, list) else [] if written is None else [written]
        if any(isinstance(end, bool) or not isinstance(end, int) for end in ends):
            raise UserError(
                f"{name}: {GENERATION} says eos_token_id {str(written)[:60]!r}; expected the number of a "
                "token, or a list of such numbers. Take the file that the model was published with."
            )
