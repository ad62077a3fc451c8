"""The folder of a prepared task, as steps read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.data.records import Record, read_records
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json


def load_splits(data_dir: Path | str, names: Sequence[str]) -> dict[str, list[Record]]:
    """Read splits that `prepare_task` wrote."""
    folder = Path(data_dir)
    if not (folder / "manifest.json").is_file():
        raise UserError(
            f"{folder}: expected a folder of prepared data with a manifest.json; prepare the data first"
        )
    present = sorted(path.stem for path in folder.glob("*.jsonl"))
    for name in names:
        if name not in present:
            raise UserError(f"{folder}: no split {name!r}; it has {', '.join(present)}")
    described = read_json(folder / "manifest.json")["splits"]
    splits = {}
    for name in names:
        path = folder / f"{name}.jsonl"
        splits[name] = read_records(path)
        if len(splits[name]) != described[name]["n"]:
            raise UserError(
                f"{path}: {len(splits[name])} records, but {described[name]['n']} were prepared: the file is "
                f"cut. Delete the folder {folder} and give the same command again."
            )
    return splits
