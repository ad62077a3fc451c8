"""Which pages are held to it: the README, the page of every reference run, and docs/."""

from __future__ import annotations

from pathlib import Path

from tests.paths import REPO
from tests.texts.page import Page
from tests.texts.tables import Library

GENERATED = {"metrics.md"}  # from the declarations of the metrics; another test holds it to them


def pages(library: Library) -> list[Page]:
    return [Page(path, library) for path in paths()]


def paths() -> list[Path]:
    docs = [path for path in sorted((REPO / "docs").rglob("*.md")) if path.name not in GENERATED]
    runs = sorted((REPO / "results" / "reference").glob("*/README.md"))
    return [REPO / "README.md", REPO / "config" / "README.md", *runs, *docs]
