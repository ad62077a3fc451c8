"""Text encoders (classifiers, sentence embedders): from the hub at a pinned commit or from a folder.

Weights are fp32 and come from safetensors only; code that a repository brings along is never run.

Shapes: B texts, T tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand
from pipeline_lib.core.untrusted import check_model_folder
from pipeline_lib.data.batching import Example, collate, token_budget_batches
from pipeline_lib.models.architectures import check_not_quantised
from pipeline_lib.models.attention import attention_of
from pipeline_lib.models.checks import read_config, without_orders
from pipeline_lib.models.encoder_settings import EncoderSettings
from pipeline_lib.models.hub import first_line, hub_folder
from pipeline_lib.models.loaded import check_finite_weights, configuration
from pipeline_lib.models.memory import halve_on_out_of_memory
from pipeline_lib.models.products import use_fast_products
from pipeline_lib.models.weights import check_types, stored_tensors, weight_hashes

MAX_TOKENS_PER_BATCH = 8192  # padded; results do not depend on it beyond rounding


@dataclass(frozen=True)
class Encoder:
    """`name` says which weights these are; `limit`: most tokens of a text, control tokens included."""

    model: Any
    tokenizer: Any
    name: str
    folder: Path
    limit: int

    def tokenize(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Tokens of each text, cut to `limit`, and whether something was cut."""
        tokens: list[list[int]] = self.tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
        cut = [len(ids) > self.limit for ids in tokens]
        for i, (ids, text) in enumerate(zip(tokens, texts, strict=True)):
            if cut[i]:  # again, so that the closing control token stays
                tokens[i] = self.tokenizer(text, truncation=True, max_length=self.limit)["input_ids"]
            if not ids:
                raise UserError(f"{self.name}: its tokenizer makes no token of text number {i + 1}: {text!r}")
        return tokens, cut

    @torch.inference_mode()
    def run(
        self, tokens: Sequence[Sequence[int]], compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> list[torch.Tensor]:
        """`compute(input_ids (B, T), attention_mask (B, T))` gives one row a text; rows in the order given.

        Texts of similar length share a batch; padding is on the right and masked.
        """
        device = next(self.model.parameters()).device

        def run_batch(examples: Sequence[Example]) -> list[torch.Tensor]:
            batch = collate(examples, self.tokenizer.pad_token_id).to(device)
            return list(compute(batch.input_ids, batch.attention_mask).float().cpu())

        rows: dict[int, torch.Tensor] = {}
        examples = [Example(tuple(ids), 0, i) for i, ids in enumerate(tokens)]
        for batch in token_budget_batches(examples, MAX_TOKENS_PER_BATCH):
            results = halve_on_out_of_memory(batch, run_batch)
            rows.update(zip((example.index for example in batch), results, strict=True))
        return [rows[i] for i in range(len(tokens))]


def load_encoder(
    settings: EncoderSettings, auto_class: str, device: torch.device | str, unused: tuple[str, ...] = ()
) -> Encoder:
    """The encoder of these settings, on `device`.

    `auto_class` names the class of transformers that reads it. Weights that begin with one of `unused` may be
    absent. A folder under $PIPELINE_MODELS stands in for a hub id and is taken at its word.
    """
    if settings.source == "hub":
        folder = hub_folder(settings.id, settings.revision)
        name = f"{settings.id}@{settings.revision[:12]}"
    else:
        folder, name = expand(settings.path), settings.path
        if not folder.is_dir():
            raise UserError(f"{name}: no such folder. Check the path of the model.")
    if not (folder / "config.json").is_file():
        raise UserError(f"{name}: expected a model folder at {folder}, found no config.json in it")
    check_model_folder(folder, name)
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{name}: holds no safetensors weights. Other formats can run code when opened and are never "
            "loaded: choose a revision that has safetensors, or convert the model where you trust it."
        )
    if settings.source == "folder":  # the weights are the identity, wherever the folder lies
        digest = hashlib.sha256("".join(weight_hashes(folder).values()).encode()).hexdigest()
        name = f"{folder.resolve().name}@{digest[:12]}"
    model, tokenizer = _load(folder, name, auto_class, unused)
    if tokenizer.pad_token_id is None:
        raise UserError(f"{name}: its tokenizer has no padding token, so texts cannot share a batch")
    model.config.pad_token_id = tokenizer.pad_token_id  # decoders look for the last token before padding
    model = use_fast_products(model.to(device)).eval()
    return Encoder(model, tokenizer, name, folder, _token_limit(model, tokenizer))


def _load(folder: Path, name: str, auto_class: str, unused: tuple[str, ...]):
    import transformers

    content = read_config(folder, name)
    check_not_quantised(content, name)
    check_types(stored_tensors(folder, name), name)
    config = configuration(without_orders(content), folder, name)
    only_here = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, config=config, **only_here)
        loaded: Any = getattr(transformers, auto_class).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention_of(config, auto_class),
            use_safetensors=True,
            output_loading_info=True,
            **only_here,
        )
    except Exception as error:  # transformers, tokenizers and safetensors each have their own
        raise UserError(f"{name}: cannot be loaded as {auto_class}: {first_line(error)}") from error
    model, report = loaded
    if missing := sorted(key for key in report["missing_keys"] if not key.startswith(unused)):
        # transformers would fill these with random numbers and continue.
        raise UserError(
            f"{name}: {len(missing)} weights that {auto_class} needs are not in its files, the first is "
            f"{missing[0]}. It was made for another purpose; choose another model."
        )
    check_finite_weights(model, name)
    return model, tokenizer


def _token_limit(model, tokenizer) -> int:
    """Most tokens of a text: what the tokenizer says, and at most the model's number of positions."""
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    for module_name, module in model.named_modules():
        table = module_name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding)
        if table and module.padding_idx is not None:  # RoBERTa and similar models count from padding_idx + 1
            positions = module.num_embeddings - module.padding_idx - 1
    return min(int(tokenizer.model_max_length), positions)
