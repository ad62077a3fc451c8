"""Prepared data that a test writes or changes, with a manifest that fits, as `prepare_task` leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.core.files import read_json, sha256, write_json
from pipeline_lib.data.records import Record, write_records


def put_split(folder: Path, name: str, records: Sequence[Record]) -> None:
    """Write a split and note it in the manifest, which is made where there is none."""
    write_records(folder / f"{name}.jsonl", records)
    path = folder / "manifest.json"
    manifest = read_json(path) if path.is_file() else {"splits": {}}
    manifest["splits"][name] = {"n": len(records), "sha256": sha256(folder / f"{name}.jsonl")}
    write_json(path, manifest)
