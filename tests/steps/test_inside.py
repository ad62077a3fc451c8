"""The step that looks into layers, from model folders to metrics."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.core.files import read_json, read_jsonl, write_json
from pipeline_lib.core.sealing import seal_path
from pipeline_lib.steps import inside
from tests.steps.study import identity, job, run_evaluate, run_finetune, run_score


def look(
    root: Path, data: Path, model: Path, original: Path | None, depth: bool = True, limit: int = 3
) -> Path:
    inputs = {"manifest": data / "manifest.json", "model": model, "original": original}
    asked = {"max_records": limit, "layers": "all"}
    inside.run(
        job(root, inputs, {"rows": "inside.jsonl"}, inside=asked, depth=depth, batch=512, max_length=160)
    )
    assert seal_path(root / "inside.jsonl").is_file()
    return root / "inside.jsonl"


@pytest.fixture(scope="module")
def retrained(tmp_path_factory, data) -> Path:
    return run_finetune(tmp_path_factory.mktemp("retrained"), data, "retrained")


def test_from_model_to_metrics(tmp_path, data, original, retrained) -> None:
    whole = look(tmp_path / "retrained", data, retrained, original)
    rows = read_jsonl(whole)
    assert len(rows) == 3
    assert len({row["group"] for row in rows}) == 2, "spread over the groups"
    own = look(tmp_path / "original", data, original, None)
    assert [row["drop"] for row in read_jsonl(own)] == [[0.0, 0.0]] * 3
    assert len({row["into"] for row in (*rows, *read_jsonl(own))}) == 1, "the same `original`"
    run_evaluate(tmp_path, data, original, None, None)
    for folder, model, ends in ((own, original, 0.0), (whole, retrained, 1.0)):
        who = identity("NPO", "adamw")
        run_score(tmp_path, data, model, tmp_path, who, inside=folder, inside_reference=whole)
        found = {row["metric"]: row["value"] for row in read_json(tmp_path / "metrics.json")["metrics"]}
        assert found["depth_score"] == ends
        assert found["lens_log_probability"] < 0
    assert found["lens_knowledge"] == 0.0
    assert found["depth_unscored"] < 1


def test_the_lens_alone(tmp_path, data, original) -> None:
    (row,) = read_jsonl(look(tmp_path, data, original, None, depth=False, limit=1))
    assert "drop" not in row


def test_lost_models(tmp_path, data, original) -> None:
    write_json(tmp_path / "lost/run.json", {**read_json(original / "run.json"), "status": "diverged"})
    assert read_jsonl(look(tmp_path, data, tmp_path / "lost", original)) == []
    rows = read_jsonl(look(tmp_path, data, original, tmp_path / "lost"))
    assert rows and all("drop" not in row for row in rows), "no `original` whose layers could be patched"
