"""Model folders of strangers: nothing in them runs, and nothing outside them is read."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import atomic_path
from pipeline_lib.core.untrusted import check_model_folder, inside
from pipeline_lib.models.checks import check_folder, without_orders
from pipeline_lib.models.encoder import Encoder, load_encoder
from pipeline_lib.models.encoder_settings import FolderEmbedder
from pipeline_lib.models.hub import DOWNLOADED
from pipeline_lib.models.scratch import build_scratch
from pipeline_lib.models.settings import FolderModel, ScratchModel
from pipeline_lib.models.source import load_folder, load_source
from pipeline_lib.models.tokenizer import TokenizerOf, load_tokenizer

TINY = ScratchModel(
    source="scratch",
    vocab_size=300,
    hidden_size=16,
    intermediate_size=16,
    layers=1,
    heads=2,
    kv_heads=2,
    max_length=64,
)
REVISION = "ab" * 20


def bomb(mark: Path) -> bytes:
    """A pickle that makes a folder where it is opened."""
    return f"cos\nmkdir\n(V{mark}\ntR.".encode()


@pytest.fixture(scope="module")
def made() -> Any:
    return build_scratch(TINY, ["Who wrote it? Nobody did."] * 3, seed=0)


@pytest.fixture
def folder(made: Any, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    for part in made:
        part.save_pretrained(path)
    return path


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What is there only if something of the folder ran."""
    return tmp_path / "ran"


def add(path: Path, **entries: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_the_bomb_works(mark: Path) -> None:
    import_module("pickle").loads(bomb(mark))
    assert mark.is_dir()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt", "model.pkl"])
def test_pickled_weights_are_refused(folder: Path, mark: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(bomb(mark))
    with pytest.raises(UserError, match=r"pickles|safetensors"):
        load_source(FolderModel(source="folder", path=str(folder)))
    assert not mark.exists()


def test_pickles_beside_safetensors_are_never_opened(folder: Path, mark: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "vocab.pkl", "tokenizer.pickle"):
        (folder / name).write_bytes(bomb(mark))
    load_folder(folder)
    assert not mark.exists()


def test_code_in_a_model_folder_never_runs(folder: Path, mark: Path) -> None:
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nclass Model: pass\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    classes = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "evil.Model")
    add(folder / "config.json", auto_map=classes)
    add(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Model", "evil.Model"]})
    model, _ = load_folder(folder)  # a known architecture: its own class is used
    assert type(model).__module__.startswith("transformers.")
    add(folder / "config.json", model_type="evil", architectures=["Model"])
    with pytest.raises(UserError):
        load_folder(folder)
    assert not mark.exists()


ORDERS: dict[str, Any] = {
    "attn_implementation": "somebody/evil-kernel",
    "_attn_implementation": "somebody/evil-kernel",
    "_attn_implementation_internal": "flash_attention_2",
    "experts_implementation": "somebody/evil-kernel",
    "use_kernels": True,
    "kernel_config": {"kernel_mapping": {"RMSNorm": "somebody/evil-kernel:RMSNorm"}},
    "fusion_config": {"patch_embeddings": True},
    "transformers_weights": "adapter.safetensors",
    "distributed_config": {"tp_size": 2},
    "auto_map": {"AutoConfig": "somebody/evil--code.Config"},
    "trust_remote_code": True,
    "name_or_path": "somebody/evil",
    "tp_plan": {"layers.*": "rowwise"},
}


@pytest.mark.parametrize("order", ORDERS)
def test_what_a_config_orders_is_not_done(folder: Path, made: Any, order: str) -> None:
    """Attention, kernels, other files and code are chosen here, not by a stranger's config.json."""
    add(folder / "config.json", **{order: ORDERS[order]})
    content = check_folder(folder, "m")
    assert order not in content
    model, _ = load_folder(folder)
    assert model.config._attn_implementation == "sdpa"
    assert "evil" not in json.dumps(model.config.to_dict())
    for name, value in made[0].state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_orders_are_taken_out_at_every_depth() -> None:
    deep = {"a": 1, "text_config": {"b": 2, "_attn_implementation": "x", "more": [{"auto_map": {}, "c": 3}]}}
    assert without_orders(deep) == {"a": 1, "text_config": {"b": 2, "more": [{"c": 3}]}}


def encoder(folder: Path) -> Encoder:
    return load_encoder(FolderEmbedder(source="folder", path=str(folder)), "AutoModel", "cpu")


def test_an_encoder_takes_no_orders_either(folder: Path) -> None:
    for file, changes in (("config.json", {"attn_implementation": "somebody/evil-kernel"}),):
        add(folder / file, **changes)
    found = encoder(folder)
    assert found.model.config._attn_implementation == "sdpa"
    add(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(UserError, match="quantised"):
        encoder(folder)


def test_nothing_is_allocated_for_absurd_sizes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused before a model is made, even one without memory."""

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was made")

    monkeypatch.setattr("pipeline_lib.models.source.check_shapes", never)
    for key, value in (("vocab_size", 10**9), ("hidden_size", 10**7), ("num_hidden_layers", 10**6)):
        before = json.loads((folder / "config.json").read_text())
        add(folder / "config.json", **{key: value})
        with pytest.raises(
            UserError, match=f"config.json says {value} layers|config.json says {key} {value}"
        ):
            load_folder(folder)
        (folder / "config.json").write_text(json.dumps(before))


def test_the_hub_is_asked_for_no_pickle_and_no_code() -> None:
    endings = {pattern.rpartition(".")[2] for pattern in DOWNLOADED}
    assert endings == {"safetensors", "json", "jinja", "txt", "model"}
    assert all(pattern.startswith("*.") for pattern in DOWNLOADED)


# --- links and names that lead out ---------------------------------------------------------------


def test_a_whole_folder_and_links_within_it_are_fine(folder: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "model.safetensors").rename(folder / "weights" / "a")
    (folder / "model.safetensors").symlink_to("weights/a")
    check_model_folder(folder)
    aside = folder.parent / "alias"
    aside.symlink_to(folder)  # the folder itself may be a link
    check_model_folder(aside)


def test_links_of_the_hubs_cache_are_fine(tmp_path: Path) -> None:
    repository = tmp_path / "models--some--model"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / ("0" * 64)).write_text("{}")
    (snapshot / "config.json").symlink_to(f"../../blobs/{'0' * 64}")
    check_model_folder(snapshot)
    (snapshot / "tokenizer.json").symlink_to("../../blobs/../../passwords")
    with pytest.raises(UserError, match="leads out"):
        check_model_folder(snapshot)


def test_only_the_models_own_place_in_the_hubs_cache_is_fine(folder: Path, tmp_path: Path) -> None:
    """Not a folder that is merely named as the cache's, another model's, or one behind a link."""
    name = "0" * 64
    for place in (
        tmp_path / "blobs",
        tmp_path / "models--other--model" / "blobs",
        folder / ".." / "x" / "blobs",
    ):
        place.mkdir(parents=True)
        (place / name).write_text("{}")
        link = folder / "tokenizer_config.json"
        link.unlink()
        link.symlink_to(place.resolve() / name)
        with pytest.raises(UserError, match="leads out"):
            check_model_folder(folder)
        snapshot = tmp_path / f"models--{len(place.parts)}{place.parts[-2]}" / "snapshots" / REVISION
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").symlink_to(place.resolve() / name)
        with pytest.raises(UserError, match="leads out"):
            check_model_folder(snapshot)
        (snapshot.parent.parent / "blobs").symlink_to(place.resolve())
        with pytest.raises(UserError, match="leads out"):
            check_model_folder(snapshot)


@pytest.mark.parametrize("target", ["/etc/passwd", "../../elsewhere", "tokenizer.json"])
def test_a_link_out_of_a_model_folder_is_refused(folder: Path, target: str) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(target)  # the last one leads to itself
    with pytest.raises(UserError, match=r"tokenizer\.json is a link that leads out of the folder"):
        check_model_folder(folder)


@pytest.mark.parametrize(
    "shard", ["../x.safetensors", "/etc/x.safetensors", "pytorch_model.bin", "a/b.safetensors"]
)
def test_an_index_that_names_other_files_is_refused(folder: Path, shard: str) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    check_model_folder(folder)
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": shard}}))
    with pytest.raises(UserError, match="nothing else"):
        check_model_folder(folder)
    index.write_text("[]")
    with pytest.raises(UserError, match="weight_map"):
        check_model_folder(folder)


def test_an_adapter_beside_the_weights_is_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(UserError, match="holds an adapter"):
        check_model_folder(folder)


def test_files_of_a_task_lie_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.jsonl").write_text("{}")
    (tmp_path / "data" / "forget.jsonl").symlink_to(tmp_path / "secret.jsonl")
    for name in ("forget.jsonl", "../secret.jsonl", "/etc/passwd"):
        with pytest.raises(UserError, match="leads out of its folder"):
            inside(tmp_path / "data", name)
    assert inside(tmp_path / "data", "retain.jsonl") == tmp_path / "data" / "retain.jsonl"


def test_writing_over_a_link_leaves_its_target_alone(tmp_path: Path) -> None:
    """A checkpoint or model folder that someone replaced by a link: the link goes, what it named stays."""
    target = tmp_path / "precious"
    target.mkdir()
    (target / "file").write_text("old")
    inner = tmp_path / "checkpoint"
    inner.mkdir()
    (inner / "tensors").symlink_to(target / "file")
    (inner / "more").symlink_to(target)
    with atomic_path(inner) as temporary:
        temporary.mkdir()
        (temporary / "tensors").write_text("new")
    assert (target / "file").read_text() == "old"
    assert not (inner / "tensors").is_symlink() and not (inner / "more").exists()


@pytest.mark.parametrize("reader", ["model", "tokenizer", "encoder"])
def test_every_reader_of_a_folder_looks_for_links(folder: Path, reader: str) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").symlink_to("/etc/hostname")
    readers = {
        "model": lambda: load_folder(folder),
        "tokenizer": lambda: load_tokenizer(TokenizerOf(path=str(folder))),
        "encoder": lambda: encoder(folder),
    }
    with pytest.raises(UserError, match="leads out of the folder"):
        readers[reader]()
