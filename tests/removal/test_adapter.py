"""The adapter that a removal leaves: on the model before it gives the model after."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from pipeline_lib.models.adapters import attach, detach
from pipeline_lib.removal.adapter import adapted
from tests.models.families import family_model
from tests.tiny import VOCAB, tiny_model

TOKENS = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 11, 12]])
RANK, COMMIT = 3, "c" * 40


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_on_the_model_before_it_gives_the_model_after(family: str, tmp_path: Path) -> None:
    """GPT-2's weights lie transposed. The adapter's own scale is not that of the training."""
    from peft import PeftModel

    before = tiny_model() if family == "llama" else family_model("gpt2", VOCAB)
    after, kept, untouched = (copy.deepcopy(before) for _ in range(3))
    attach(after, rank=RANK, alpha=8.0, dropout=0.0, target="all-linear", seed=5)
    with torch.no_grad():
        for parameter in after.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    detach(after, merge=True)
    adapted(before, after, RANK, f"some/model@{COMMIT}").save_pretrained(
        tmp_path, save_embedding_layers=False
    )
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == ("some/model", COMMIT)
    loaded = PeftModel.from_pretrained(kept, tmp_path)
    with torch.no_grad():
        aim, plain = after(TOKENS).logits, loaded.base_model.model
        assert not torch.allclose(untouched.eval()(TOKENS).logits, aim, atol=0.05)
        torch.testing.assert_close(plain.eval()(TOKENS).logits, aim, atol=2e-4, rtol=1e-4)
