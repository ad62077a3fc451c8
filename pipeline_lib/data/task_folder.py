"""The folder of a prepared task, as steps read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import read_object, sha256
from pipeline_lib.data.records import Record, read_records


def load_splits(data_dir: Path | str, names: Sequence[str]) -> dict[str, list[Record]]:
    """Read splits that `prepare_task` wrote; raises `UserError` with the name of one that changed since."""
    folder = Path(data_dir)
    if not (folder / "manifest.json").is_file():
        raise UserError(
            f"{folder}: expected a folder of prepared data with a manifest.json; prepare the data first"
        )
    described = read_object(folder / "manifest.json", "splits")["splits"]
    splits = {}
    for name in names:
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            present = sorted(path.stem for path in folder.glob("*.jsonl"))
            raise UserError(f"{folder}: no split {name!r}; it has {', '.join(present)}")
        noted = described.get(name) if isinstance(described, dict) else None
        if not isinstance(noted, dict) or noted.get("sha256") != sha256(path):
            raise UserError(
                f"{path}: is not the file that was prepared (its sha256 is not that of manifest.json); it "
                "was edited, cut or replaced. Prepare the data anew: give the same snakemake command with "
                f"`--forcerun {folder / 'manifest.json'}`; whatever depends on them runs again."
            )
        splits[name] = read_records(path)
    return splits
