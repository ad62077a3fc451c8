"""Which architectures are taken, from a config.json alone; each refusal has its own reason."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers

from pipeline_lib.core.errors import UserError
from pipeline_lib.models import architectures
from pipeline_lib.models.architectures import CAUSAL, RECURRENT, check_architecture
from pipeline_lib.models.attention import attends_to_all, attention_of
from tests.models.families import FAMILIES, family_config

RECURRENT_WORDS = "carries a running state from token to token"
SEEING, TRANSLATING = "reads images or sound", "is an encoder with a decoder"
MASKED, UNKNOWN = "fills gaps in a text", "not one that the installed transformers knows"

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mamba": ({"model_type": "mamba", "architectures": ["MambaForCausalLM"]}, RECURRENT_WORDS),
    "mamba2": ({"model_type": "mamba2"}, RECURRENT_WORDS),
    "rwkv": ({"model_type": "rwkv"}, RECURRENT_WORDS),
    "rwkv7, unknown to transformers": ({"model_type": "rwkv7"}, RECURRENT_WORDS),
    "recurrent gemma": ({"model_type": "recurrent_gemma"}, RECURRENT_WORDS),
    "jamba": ({"model_type": "jamba"}, RECURRENT_WORDS),
    "qwen3 next": ({"model_type": "qwen3_next"}, RECURRENT_WORDS),
    "layers of another kind": (
        {"model_type": "llama", "layer_types": ["linear_attention", "full_attention"]},
        RECURRENT_WORDS,
    ),
    "t5": ({"model_type": "t5", "is_encoder_decoder": True}, TRANSLATING),
    "bart": ({"model_type": "bart"}, TRANSLATING),
    "whisper": ({"model_type": "whisper"}, TRANSLATING),
    "bert": ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, MASKED),
    "roberta": ({"model_type": "roberta"}, MASKED),
    "modernbert": ({"model_type": "modernbert"}, MASKED),
    "xlm-roberta": ({"model_type": "xlm-roberta"}, MASKED),
    "llava": ({"model_type": "llava", "vision_config": {"hidden_size": 4}}, SEEING),
    "gemma3 with images": (
        {"model_type": "gemma3", "vision_config": {"hidden_size": 4}},
        SEEING,
    ),
    "qwen2-vl": ({"model_type": "qwen2_vl"}, SEEING),
    "mllama": ({"model_type": "mllama"}, SEEING),
    "a llama with a tower": ({"model_type": "llama", "mm_vision_tower": "openai/clip"}, SEEING),
    "a classifier": (
        {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
        "was saved as LlamaForSequenceClassification, without the output embedding",
    ),
    "unknown": ({"model_type": "brand_new"}, UNKNOWN),
    "an encoder of images": ({"model_type": "vit"}, UNKNOWN),
    "empty": ({}, "names no architecture.*an empty config.json"),
    "no type": ({"hidden_size": 4}, "names no architecture.*found None"),
    "GPTQ": (
        {"model_type": "llama", "quantization_config": {"quant_method": "gptq", "bits": 4}},
        r"quantised \(GPTQ, 4 bits.*unquantised original",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    config, words = REFUSED[case]
    with pytest.raises(UserError, match=rf"^the-model: .*{words}") as error:
        check_architecture(config, "the-model")
    if "quantised" not in words and "names no" not in words:
        assert str(config["model_type"]) in str(error.value)
        assert "Choose a decoder of text, such as Llama" in str(error.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_taken(name: str) -> None:
    check_architecture(family_config(name, 96).to_dict(), name)


def test_needs_no_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from pipeline_lib.models.checks import check_folder\n"
        "from pipeline_lib.models.architectures import check_architecture\n"
        "check_architecture({'model_type': 'llama'}, 'm')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_tables_are_those_of_transformers() -> None:
    from transformers.models.auto import modeling_auto

    known = architectures._known()
    assert set(known) == {CAUSAL, architectures.MASKED, *architectures.TRANSLATING, *architectures.SEEING}
    for table in known.keys() - set(architectures.SEEING):
        assert known[table] == frozenset(getattr(modeling_auto, table))
    seeing = [frozenset(getattr(modeling_auto, table)) for table in architectures.SEEING]
    assert frozenset().union(*(known[table] for table in architectures.SEEING)) == frozenset().union(*seeing)


def test_what_transformers_calls_stateful_is_refused() -> None:
    """Its classes say so themselves; their source is read, since to import them all takes minutes."""
    models = Path(transformers.__file__).parent / "models"
    stateful = {
        match[1]
        for file in models.glob("*/modeling_*.py")
        for match in re.finditer(r"models/(\w+)/modeling", str(file))
        if re.search(r"^    _is_stateful = True", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    known = architectures._known()
    texts = {kind for kind in known[CAUSAL] if kind.removesuffix("_text").replace("-", "_") in stateful}
    assert len(texts) > 15
    seeing = {kind for table in architectures.SEEING for kind in known.get(table, ())}
    assert texts <= RECURRENT | seeing


def test_attention_is_fused_where_the_architecture_has_it_and_it_does_the_same() -> None:
    kinds = {name: attention_of(family_config(name, 96)) for name in FAMILIES}
    eager = {name for name, kind in kinds.items() if kind == "eager"}
    assert set(kinds.values()) == {"sdpa", "eager"}
    assert eager == {
        "gemma2", "gemma3 capped", "gpt neo", "gptj", "codegen", "bloom", "mpt", "gpt-oss", "xglm"
    }  # fmt: skip


def test_windows_are_seen() -> None:
    found = {name for name in FAMILIES if not attends_to_all(family_config(name, 96))}
    assert found == {
        "mistral", "ministral", "qwen2 moe", "gemma2", "gemma3", "gemma3 capped", "gpt neo", "olmo3",
        "starcoder2", "cohere2", "gpt-oss",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "all_of_it"),
    [
        ({}, True),
        ({"sliding_window": None, "attention_chunk_size": None}, True),
        ({"sliding_window": 64}, False),
        ({"attention_chunk_size": 64}, False),
        ({"layer_types": ["full_attention", "full_attention"]}, True),
        ({"layer_types": ["full_attention", "chunked_attention"]}, False),
        ({"attention_layers": ["global", "global"]}, True),
        ({"attention_layers": ["global", "local"]}, False),
    ],
)
def test_each_way_to_limit_attention_is_seen_alone(settings: dict[str, Any], all_of_it: bool) -> None:
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(**settings))
    assert attends_to_all(config) == all_of_it
