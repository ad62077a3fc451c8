"""The page that lists studies: what each is, how far it is, and a link to its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

from pipeline_lib.reporting.page import page_of

READS = ("template/index.html",)
UNKNOWN = "–"
PART = 1 << 16  # characters of a report that are read at once
LONGEST = 300  # characters of a finding


@dataclass(frozen=True)
class Listed:
    """A line of the page. `link`: relative to the page, empty where there is nothing to open."""

    name: str
    state: str
    link: str = ""
    written: str = UNKNOWN
    tasks: str = UNKNOWN
    models: str = UNKNOWN
    rows: str = UNKNOWN
    seeds: str = UNKNOWN
    finding: str = ""


def index_page(folder: str, studies: Sequence[Listed]) -> str:
    """The page of these studies."""
    return page_of("index.html", folder=folder, studies=studies, now=moment(datetime.now(UTC).timestamp()))


def moment(seconds: float) -> str:
    """A time in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def first_finding(report: Path) -> str:
    """The text of a report's first finding; what comes after it is not read. Empty where there is none."""
    page = _Finding()
    with open(report, encoding="utf-8", errors="replace") as handle:
        while not page.done and (part := handle.read(PART)):
            page.feed(part)
    text = " ".join(page.text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


class _Finding(HTMLParser):
    """The first item of the section `findings`, without the cases below it."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self._place = "", "before"

    @property
    def done(self) -> bool:
        """Whether the item is behind."""
        return self._place == "after"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section" and ("id", "findings") in attrs:
            self._place = "section"
        elif self._place == "section" and tag == "li":
            self._place = "item"
        elif self._place == "item" and tag in ("ul", "li"):
            self._place = "after"

    def handle_endtag(self, tag: str) -> None:
        if self._place == "item" and tag == "li":
            self._place = "after"

    def handle_data(self, data: str) -> None:
        if self._place == "item":
            self.text += data
