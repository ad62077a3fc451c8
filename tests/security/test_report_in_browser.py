"""Hostile answers, questions and paths in the report, opened in a real browser: they stay text.

The first test shows that the same payloads do run where nothing escapes them, so that their silence in the
report means something.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline_lib.core.files import write_json
from pipeline_lib.core.sealing import write_sealed_jsonl
from pipeline_lib.reporting.catalog import FIGURES, REPORT_NEEDS, TABLES
from pipeline_lib.reporting.figures import draw_figure
from pipeline_lib.reporting.html import write_report
from pipeline_lib.reporting.tables import write_table
from tests.reporting.study import Study
from tests.security.chromium import dom, listening

MARK = "pwned"
BIDI = "\u202eevil\u2066\u200f\u200b\ufeff"


def payloads(server: str) -> list[str]:
    """Markup that marks the page, or asks the server, where it is taken for markup."""
    run = f"document.documentElement.dataset.{MARK}=1"
    return [
        f"<script>{run}</script>",
        f'<img src="{server}/image" onerror="{run}">',
        f"</bdi></dd></dl></details></pre></section><svg onload={run}>",
        f'"><img src=x onerror={run}>',
        f"' onmouseover='{run}' autofocus onfocus='{run}' x='",
        f"</title></style></script><script>{run}</script>",
        f"<style>@import url({server}/style);body{{background:url({server}/css)}}</style>",
        f'<link rel="stylesheet" href="{server}/link"><base href="{server}/">',
        f'<iframe srcdoc="<script>parent.{run}</script>"></iframe><iframe src="{server}/frame"></iframe>',
        f'<meta http-equiv="refresh" content="0;url={server}/refresh">',
        f'<form action="{server}/form"><input name=a></form><object data="{server}/object"></object>',
        f'<a href="javascript:{run}" ping="{server}/ping">here</a>',
        f"&lt;script&gt;{run}&lt;/script&gt; &#60;img src=x onerror={run}&#62;",
        "<!-- <![CDATA[ ]]> --> {{ 7 * 7 }} {% raw %} ${7*7} `code`",
        f"{BIDI}\x00\x07\x1b[31m\ue000",
    ]


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def hostile_report(folder: Path, texts: list[str]) -> Path:
    """The report of a study whose every free text is hostile: what a model, a data set or a path can say."""
    everything = "\n".join(texts)
    question = "".join(texts).encode(errors="replace").decode()
    compared = [{"first": "sophia", "second": "adamw", "question": question}]
    study = Study(folder, seeds=(1,), diverged={}, generation=everything, comparisons=compared).write()
    for path in study.paths("records.jsonl"):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for number, row in enumerate(rows):
            row["prompt"] = row["answer"] = texts[number % len(texts)]
            if "generation" in row:
                row["generation"] = texts[number % len(texts)] + row["id"]
        write_sealed_jsonl(path, rows)
    for path in study.paths("manifest.json"):
        write_json(path, {**json.loads(path.read_text()), "origin": question, "source": question})
    for path in study.paths("run.json"):
        run = json.loads(path.read_text())
        versions = {question: question}
        write_json(path, {**run, "device": question, "git_commit": question, "versions": versions})
    for name, item in TABLES.items():
        outputs = [folder / "tables" / f"{name}.{form}" for form in ("csv", "md", "tex")]
        write_table(name, study.paths(*item.needs), *outputs)
    draw_figure(
        "tradeoff",
        study.paths(*FIGURES["tradeoff"].needs),
        folder / "figures/t.svg",
        folder / "figures/t.png",
    )
    (folder / "figures/t.svg").rename(folder / "figures/tradeoff.svg")
    made = [path for part in ("tables", "figures") for path in sorted((folder / part).glob("*.[cs]*"))]
    write_report([*study.paths(*REPORT_NEEDS), *made], folder / "report" / "index.html")
    return folder / "report" / "index.html"


def test_the_payloads_run_where_nothing_escapes_them(tmp_path: Path) -> None:
    with listening() as (server, asked):
        bare = "".join(f"<p>{text}</p>" for text in payloads(server)[:8])
        page = tmp_path / "bare.html"
        page.write_text(f"<!doctype html><html><body>{bare}</body></html>", encoding="utf-8")
        text, _ = dom(page, tmp_path / "profile")
    assert f'data-{MARK}="1"' in text
    assert "/image" in asked


def test_nothing_hostile_runs_loads_or_hides_in_the_report(tmp_path: Path) -> None:
    with listening() as (server, asked):
        texts = payloads(server)
        report = hostile_report(tmp_path / "demo", texts)
        text, console = dom(report, tmp_path / "profile")
    assert asked == [], "the report asked the network"
    assert console == "", "the browser refused something, so it was on the page as markup"
    page = _Tags(text)
    forbidden = {"iframe", "object", "embed", "link", "base", "svg"}
    assert not page.names & forbidden
    assert page.names >= {"canvas", "meter"}, "charts and answers were shown"
    forms = {(name, value) for tag, name, value in page.attributes if tag == "form"}
    assert forms == {("class", "vega-bindings")}, (
        "the charts' own empty ones, which the policy lets send nothing"
    )
    kinds = [value for tag, name, value in page.attributes if (tag, name) == ("script", "type")]
    assert report.read_text(encoding="utf-8").count("<script>") == 3 and set(kinds) == {"application/json"}
    for tag, name, value in page.attributes:
        styled = name == "style" and tag not in ("canvas", "i", "div")  # set by the report's own scripts
        hidden = name in ("ping", "srcdoc", f"data-{MARK}")
        assert not name.startswith("on") and not styled and not hidden, (tag, name)
        if name in ("href", "src"):
            assert not re.match(r"\s*(javascript|https?|//|data:text)", value), (tag, name, value)
    for shown in (
        "&lt;script&gt;",
        "&lt;iframe srcdoc=",
        "{{ 7 * 7 }}",
        "⟨U+202E⟩evil⟨U+2066⟩⟨U+200F⟩⟨U+200B⟩",
    ):
        assert shown in text, shown
    assert not set(text) & set(BIDI.replace("evil", "") + "\x00\x07\x1b"), "characters that hide what is said"


def test_the_report_needs_no_network(tmp_path: Path) -> None:
    """Everything is in the file or beside it: no address in it leads away."""
    report = hostile_report(tmp_path / "demo", ["an answer"])
    page = _Tags(report.read_text(encoding="utf-8"))
    links = [value for _, name, value in page.attributes if name in ("href", "src", "action", "srcset")]
    assert links and not [
        link for link in links if re.match(r"[a-z]+:(?!image/svg)", link.removeprefix("data:"))
    ]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
