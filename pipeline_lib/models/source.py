"""Pretrained models: from the hub at a pinned commit, a local folder, or a GGUF file.

Weights are always loaded as fp32 and only from safetensors or GGUF: neither can run code when it is
opened, as pickles (.bin, .pt) can. Code that a repository brings along is never run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.data.locate import expand
from pipeline_lib.errors import UserError
from pipeline_lib.faults import explained
from pipeline_lib.files import sha256
from pipeline_lib.models.hub import check_pinned, download, first_line, local_copy
from pipeline_lib.untrusted import check_model_folder

if TYPE_CHECKING:
    import torch

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r")  # GGUF names: digits alone, then GPT-2's rule
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def load_source(settings: dict[str, Any]):
    """(model, tokenizer, origin) for a suite's `source`: "hub", "folder" or "gguf".

    `origin` says what was really read: kind, id and revision or path, SHA-256 of each weight file. A
    local copy that stood in for a hub id carries `stands_in_for`.
    """
    kind = settings["source"]
    if kind == "hub":
        model, tokenizer, origin = _from_hub(settings["id"], settings["revision"])
    elif kind in ("folder", "gguf"):
        model, tokenizer, origin = _from_path(kind, settings["path"])
    else:
        raise UserError(f"model source must be 'hub', 'folder' or 'gguf', found {kind!r}")
    from pipeline_lib.models.forward import check_selected_logits

    try:
        check_selected_logits(model)
    except ValueError as error:
        name = settings.get("id") or settings["path"]
        raise UserError(f"{name}: {error}. Choose another model.") from error
    return model, tokenizer, origin


def load_folder(folder: Path, dtype: torch.dtype | None = None, name: str | None = None):
    """(model, tokenizer) of a folder in the layout of transformers, fp32 unless `dtype` says otherwise.

    `name` is what error messages call it.
    """
    name = name or str(folder)
    if not folder.is_dir():
        cure = "It is a file; use `source: gguf`." if folder.is_file() else "Check the path of the model."
        raise UserError(f"{name}: no such folder. {cure}")
    if not (folder / "config.json").is_file():
        raise UserError(f"{name}: not a model folder, config.json is missing")
    check_model_folder(folder, name)
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        if pickles:
            raise UserError(
                f"{name}: its weights are pickles ({pickles[0]}), which can run code when opened and are "
                "never loaded. Convert them to safetensors (load the model with transformers where you "
                "trust it, then `save_pretrained`) and use the new folder."
            )
        raise UserError(f"{name}: holds no weights; expected model.safetensors or its shards")
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise UserError(
            f"{name}: holds no tokenizer; expected one of {', '.join(TOKENIZER_FILES)}. "
            "Copy the files of the model's own tokenizer into the folder."
        )
    return _load(folder, name, dtype)


def load_gguf(path: Path):
    """(model, tokenizer) of a GGUF file, its quantised weights widened to fp32."""
    from transformers import GgufConfig

    if not path.is_file():
        cure = "It is a folder; name the .gguf file in it." if path.is_dir() else "Check its path."
        raise UserError(f"{path}: no such GGUF file. {cure}")
    splitting = _gguf_pre_tokenizer(path)
    model, tokenizer = _load(
        path.parent, str(path), None, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True)
    )
    if splitting in SINGLE_DIGITS:
        # transformers does not know these rules and falls back to GPT-2's, which tokenises "\n\n1" and
        # two spaces before a digit as the model never saw them.
        from tokenizers import pre_tokenizers

        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return model, tokenizer


def weight_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every safetensors file of a folder, by file name."""
    return {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def _from_path(kind: str, written: str):
    """A folder or GGUF file. The origin keeps the path as the suite spells it, alike on every machine."""
    path = expand(written)
    if kind == "gguf":
        model, tokenizer = load_gguf(path)
        hashes = {path.name: sha256(path)}
    else:
        model, tokenizer = load_folder(path)
        hashes = weight_hashes(path)
    return model, tokenizer, {"kind": kind, "path": written, "sha256": hashes}


def _from_hub(model_id: str, revision: str):
    check_pinned(model_id, revision)
    if local := local_copy(model_id):
        model, tokenizer, origin = _from_path("gguf" if local.endswith(".gguf") else "folder", local)
        return model, tokenizer, {**origin, "stands_in_for": f"{model_id}@{revision}"}
    folder = download(model_id, revision)
    model, tokenizer = load_folder(folder, name=f"{model_id}@{revision}")
    origin = {"kind": "hub", "id": model_id, "revision": revision, "sha256": weight_hashes(folder)}
    return model, tokenizer, origin


def _gguf_pre_tokenizer(path: Path) -> str | None:
    """The rule by which the file's tokenizer cuts text before merging (`tokenizer.ggml.pre`)."""
    from gguf import GGUFReader

    try:
        field = GGUFReader(path).get_field("tokenizer.ggml.pre")
    except Exception as error:  # a reader of binary files fails in as many ways as files break
        raise UserError(
            f"{path}: not a readable GGUF file ({first_line(error)}). Download it again."
        ) from error
    return field.contents() if field else None


def _load(folder: Path, name: str, dtype: torch.dtype | None, **gguf: Any):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    only_here = {"local_files_only": True, "trust_remote_code": False}
    try:
        file = {"gguf_file": gguf["gguf_file"]} if gguf else {}
        tokenizer = AutoTokenizer.from_pretrained(folder, **only_here, **file)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise UserError(f"{name}: its tokenizer cannot be loaded: {first_line(error)}") from error
    weights = {} if gguf else {"use_safetensors": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype or torch.float32,
            attn_implementation="sdpa",
            output_loading_info=True,
            **only_here,
            **weights,
            **gguf,
        )
    except Exception as error:  # safetensors, transformers and gguf each have their own
        told = explained(error) or f"{first_line(error)}. If a file is damaged, copy it again."
        raise UserError(f"{name}: the model cannot be loaded: {told}") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        # transformers would fill these with random numbers and go on.
        raise UserError(f"{name}: {len(missing)} weights are not in its files, the first is {missing[0]}")
    _settle_tokens(model, tokenizer, name)
    return model.eval(), tokenizer


def _settle_tokens(model, tokenizer, name: str) -> None:
    """Make model and tokenizer agree on their control tokens, and decoding greedy and plain."""
    from transformers import GenerationConfig

    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: its tokenizer has no end token; a model could not learn where answers end")
    rows = model.get_input_embeddings().num_embeddings
    # A control token that the model has no row for is harmless as long as no text becomes it;
    # transformers adds one to some GGUF vocabularies, and Llama 2 is often given such a pad token.
    added = [i for i, token in tokenizer.added_tokens_decoder.items() if not token.special]
    needed = max([tokenizer.vocab_size, tokenizer.eos_token_id + 1, *(i + 1 for i in added)])
    if needed > rows:
        raise UserError(
            f"{name}: the tokenizer has {needed} tokens but the model only {rows}; "
            "they do not belong together"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = tokenizer.eos_token
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    for key, value in ids.items():
        setattr(model.config, key, value)
    # An embedding with a padding index gets no gradient for that row. Where padding is the end token,
    # the end token would not learn; padding itself is masked and needs no such care.
    model.get_input_embeddings().padding_idx = None
    # A published generation_config may bring a temperature or a repetition penalty, which would bend
    # the scores of every generation.
    model.generation_config = GenerationConfig(**ids)
