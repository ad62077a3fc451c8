"""Pretrained models: from the hub at a pinned commit, a local folder, or a GGUF file.

Weights are always loaded as fp32 and only from safetensors or GGUF: neither can run code when it is opened,
as pickles (.bin, .pt) can. Code that comes with a repository is never run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import sha256
from pipeline_lib.core.locate import expand
from pipeline_lib.core.system_errors import explained
from pipeline_lib.core.untrusted import check_content
from pipeline_lib.models.architectures import check_architecture
from pipeline_lib.models.attention import attention_of
from pipeline_lib.models.checks import check_folder
from pipeline_lib.models.ends import as_written, named_ends, publish_ends, without_end
from pipeline_lib.models.hub import download, first_line, local_copy
from pipeline_lib.models.loaded import check_loaded, check_nothing_left, check_shapes, configuration
from pipeline_lib.models.weights import stored_tensors, weight_hashes

if TYPE_CHECKING:
    import torch

    from pipeline_lib.models.settings import PretrainedModel

SINGLE_DIGITS = ("smollm", "starcoder", "refact", "command-r")  # GGUF's rules of single digits, then GPT-2's


def load_source(settings: PretrainedModel):
    """(model, tokenizer, origin) of a model of the hub, a folder or a GGUF file.

    `origin` says what was really read: kind, id and revision or path, SHA-256 of each weight file. A
    local copy that was read in place of a hub id has `stands_in_for`.
    """
    model, tokenizer, origin = (
        _from_hub(settings.id, settings.revision)
        if settings.source == "hub"
        else _from_path(settings.source, settings.path)
    )
    from pipeline_lib.models.forward import check_selected_logits

    try:
        check_selected_logits(model)
    except ValueError as error:
        name = settings.id if settings.source == "hub" else settings.path
        raise UserError(f"{name}: {error}. Choose another model.") from error
    return model, tokenizer, origin


def load_folder(folder: Path, dtype: torch.dtype | None = None, name: str | None = None):
    """(model, tokenizer) of a folder in the layout of transformers, fp32 unless `dtype` says otherwise.

    `name` is what error messages call it.
    """
    name = name or str(folder)
    return _load(folder, name, dtype, configuration(check_folder(folder, name), folder, name))


def load_gguf(path: Path):
    """(model, tokenizer) of a GGUF file, its quantised weights widened to fp32."""
    from transformers import GgufConfig

    check_gguf(path)
    splitting = _gguf_pre_tokenizer(path)
    model, tokenizer = _load(
        path.parent, str(path), None, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True)
    )
    if splitting in SINGLE_DIGITS:
        # transformers does not know these rules and falls back to GPT-2's, which tokenises "\n\n1" and
        # two spaces before a digit in ways that the model never saw.
        from tokenizers import pre_tokenizers

        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return model, tokenizer


def _from_path(kind: str, written: str):
    """A folder or GGUF file. The origin has the path as the suite spells it, the same on every machine."""
    path = expand(written)
    model, tokenizer = load_gguf(path) if kind == "gguf" else load_folder(path)
    hashes = {path.name: sha256(path)} if kind == "gguf" else weight_hashes(path)
    return model, tokenizer, {"kind": kind, "path": written, "sha256": hashes}


def _from_hub(model_id: str, revision: str):
    if local := local_copy(model_id):
        model, tokenizer, origin = _from_path("gguf" if local.endswith(".gguf") else "folder", local)
        return model, tokenizer, {**origin, "stands_in_for": f"{model_id}@{revision}"}
    folder = download(model_id, revision)
    model, tokenizer = load_folder(folder, name=f"{model_id}@{revision}")
    hashes = weight_hashes(folder)
    return model, tokenizer, {"kind": "hub", "id": model_id, "revision": revision, "sha256": hashes}


def check_gguf(path: Path) -> None:
    """`UserError` for a missing file, a part of a split one, and a file of another kind."""
    if not path.is_file():
        cure = "It is a folder; name the .gguf file in it." if path.is_dir() else "Check its path."
        raise UserError(f"{path}: no such GGUF file. {cure}")
    check_content(path, str(path))
    if part := re.search(r"-(\d{5})-of-(\d{5})\.gguf$", path.name):
        raise UserError(
            f"{path}: is part {int(part[1])} of {int(part[2])} of a GGUF file that was split; expected a "
            "whole one. Put the parts together with llama.cpp: `llama-gguf-split --merge` with the first "
            "part and a new name, and use that file."
        )
    with open(path, "rb") as file:
        begins = file.read(4)
    if begins != b"GGUF":
        raise UserError(
            f"{path}: is not a GGUF file: it begins with {begins!r}, expected b'GGUF'. For a folder of "
            "transformers use `source: folder`; else download it again."
        )


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


def _load(folder: Path, name: str, dtype: torch.dtype | None, config: Any = None, **gguf: Any):
    """`config`: the checked configuration of a folder; a GGUF file brings its own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    only_here = {"local_files_only": True, "trust_remote_code": False}
    file = {"gguf_file": gguf["gguf_file"]} if gguf else {}
    try:
        config = config or AutoConfig.from_pretrained(folder, **only_here, **file)
        check_architecture(config.to_dict(), name)
        tokenizer = AutoTokenizer.from_pretrained(folder, config=config, **only_here, **file)
    except UserError:
        raise
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise UserError(
            f"{name}: its tokenizer cannot be loaded: {first_line(error)}. Copy the files of the model's own "
            "tokenizer again."
        ) from error
    stored = {} if gguf else stored_tensors(folder, name)
    if stored:
        check_shapes(config, stored, name)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype or torch.float32,
            attn_implementation=attention_of(config),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by their names
            use_safetensors=not gguf,
            **only_here,
            **gguf,
        )
    except Exception as error:  # safetensors, transformers and gguf each have their own
        told = explained(error) or f"{first_line(error)}. If a file is damaged, copy it again."
        raise UserError(f"{name}: the model cannot be loaded: {told}") from error
    model, report = loaded
    check_loaded(model, report, name)
    if stored:
        check_nothing_left(report, stored, name)
    # transformers reads an output embedding with weights of its own although config.json says that they are
    # the input embedding's, and leaves that setting: whoever ties weights later, or reads a copy with an
    # older version, would lose them.
    head = model.get_output_embeddings()
    if head is not None and head.weight is not model.get_input_embeddings().weight:
        model.config.tie_word_embeddings = False
    _settle_tokens(model, tokenizer, name)
    return model.eval(), tokenizer


def _settle_tokens(model, tokenizer, name: str) -> None:
    """Make model and tokenizer agree on their control tokens, and make decoding greedy and plain."""
    from transformers import GenerationConfig

    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: {without_end(tokenizer, named_ends(model, tokenizer))}")
    rows = model.get_input_embeddings().num_embeddings
    # A control token without a row in the model is harmless as long as no text becomes it;
    # transformers adds one to some GGUF vocabularies, and Llama 2 often has such a pad token.
    added = [i for i, token in tokenizer.added_tokens_decoder.items() if not token.special]
    needed = max([tokenizer.vocab_size, tokenizer.eos_token_id + 1, *(i + 1 for i in added)])
    if needed > rows:
        raise UserError(
            f"{name}: the tokenizer has {needed} tokens but the model only {rows}; "
            "they do not belong together"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = tokenizer.eos_token
    ends = publish_ends(model, tokenizer)  # before they are overwritten
    ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad")}
    for key, value in ids.items():
        setattr(model.config, key, value)
    # An embedding with a padding index gets no gradient for that row: an end token that is also padding
    # would not learn. Padding itself is masked and needs no padding index.
    model.get_input_embeddings().padding_idx = None
    # A published generation_config may have a temperature or a repetition penalty, which would change
    # every generation. Its end tokens stay.
    model.generation_config = GenerationConfig(**{**ids, "eos_token_id": as_written(ends)})
