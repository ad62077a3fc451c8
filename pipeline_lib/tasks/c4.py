"""Documents of C4 as a retain set: a block of settings that tasks share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline_lib.core.blocks import Block, Count, CountOrZero, HubId, PathText, Revision
from pipeline_lib.core.errors import UserError
from pipeline_lib.core.locate import expand, hub_file
from pipeline_lib.data.records import Record
from pipeline_lib.data.texts import document_files, document_records, read_documents


class C4(Block):
    """The first documents of the English C4 (Raffel et al. 2020, arXiv 1910.10683; ODC-By).

    Read from `path` (a file or folder of JSON lines with a field `text`, .gz too), else from
    $PIPELINE_DATA/c4, else one of the hub's 1024 training files, which is downloaded once (320 MB).
    """

    source: Literal["c4"] = "c4"
    n: Count = Field(200, description="Documents")
    hub: HubId = "allenai/c4"
    revision: Revision = "1588ec454efa1a09f29cd18ddd04fe05fc8653a2"
    shard: Annotated[CountOrZero, Field(le=1023)] = 1  # the one that SOUL reads
    path: PathText | None = None

    def place(self) -> tuple[Path, str]:
        """Where the documents are, and a name for that place."""
        if self.path is not None:
            return expand(self.path), self.path
        if shared := self._stand_in():
            return shared, "$PIPELINE_DATA/c4"
        name = f"en/c4-train.{self.shard:05d}-of-01024.json.gz"
        return hub_file(self.hub, self.revision, name), f"{self.hub}@{self.revision}/{name}"

    def _stand_in(self) -> Path | None:
        shared = os.environ.get("PIPELINE_DATA")
        return Path(shared) / "c4" if shared and (Path(shared) / "c4").is_dir() else None

    def reads(self) -> dict[str, Path]:
        """The documents' files on this machine."""
        try:
            place = self._stand_in() if self.path is None else expand(self.path)
        except UserError:  # a variable that is not set
            place = None
        return {file.name: file for file in ([] if place is None else document_files(place))}

    def load(self, prompt_units: int, max_units: int, tokenizer: Any = None) -> tuple[list[Record], str]:
        """(records, origin); see `document_records` for the units and what is passed over."""
        place, origin = self.place()
        return document_records(read_documents(place), self.n, prompt_units, max_units, tokenizer), origin
