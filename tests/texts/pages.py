"""Which pages are held to it: the README and the page of every reference run."""

from __future__ import annotations

from pathlib import Path

from tests.paths import REPO
from tests.texts.page import Page
from tests.texts.tables import Library


def pages(library: Library) -> list[Page]:
    return [Page(path, library) for path in paths()]


def paths() -> list[Path]:
    return [REPO / "README.md", *sorted((REPO / "results" / "reference").glob("*/README.md"))]
