"""Hashes of files on this machine: the identity of data and models that a study did not make.

A file is read once. Its hash is kept in a small file, under the marks that an edit changes: size, time of the
last change of content, time of the last change of anything, and inode. Other marks with the same content give
the same hash. A kept hash only saves time: where the file of hashes is lost or damaged, or two processes
write it at once, files are read a second time.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.files import atomic_path, sha256

KEPT = Path(".snakemake/contents.json")
SETTLED = 2.0  # seconds: a second edit within the resolution of a file system's clock leaves the same marks
DIGITS = 16  # of a hash that stands for a file or folder


class Contents:
    """Hashes of files, kept at `kept`. One object sees each file as it was when it was first asked about
    it."""

    def __init__(self, kept: Path = KEPT) -> None:
        self._kept = kept
        self._files, self._known = _read(kept)
        self._now: dict[str, str] = {}

    def identity(self, name: str, files: Mapping[str, Path]) -> str | None:
        """One hash of these files (name within what they belong to -> path); None: they were never seen.

        `name` says what they are together. Files that are not on this machine now keep the identity that
        they had when they last were: a study can be inspected and continued on a machine without its data.
        A single missing file among others counts as a change.
        """
        if not any(path.is_file() for path in files.values()):
            return self._known.get(name)
        if name not in self._now:
            lines = "".join(f"{self._sha256(path)}  {part}\n" for part, path in sorted(files.items()))
            self._now[name] = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:DIGITS]
            if self._known.get(name) != self._now[name]:
                self._known[name] = self._now[name]
                self._keep()
        return self._now[name]

    def _sha256(self, path: Path) -> str:
        key, marks = str(path.absolute()), _marks(path)
        if marks is None:
            return "absent"
        if (found := self._files.get(key)) and found[:-1] == marks:
            return found[-1]
        try:
            digest = sha256(path)
            while marks != (marks := _marks(path)):  # the file was written to meanwhile
                digest = sha256(path)
        except OSError:
            return "unreadable"
        if marks is not None and time.time() - marks[2] / 1e9 > SETTLED:
            self._files[key] = [*marks, digest]
            self._keep()
        return digest

    def _keep(self) -> None:
        files, known = _read(self._kept)  # another process may have written since
        text = json.dumps({"files": files | self._files, "known": known | self._known}, indent=1)
        with suppress(OSError, UserError), atomic_path(self._kept) as temporary:
            temporary.write_text(text)


def _marks(path: Path) -> list[int] | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino] if path.is_file() else None


def _read(kept: Path) -> tuple[dict[str, list[Any]], dict[str, str]]:
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        content = json.loads(kept.read_text())
        files, known = content["files"], content["known"]
        right = all(len(entry) == 5 and isinstance(entry[-1], str) for entry in files.values())
        if right and all(isinstance(digest, str) for digest in known.values()):
            return files, known
    return {}, {}
