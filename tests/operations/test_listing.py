"""results/index.html: every study with its state, harmless whatever it holds, written as one ends."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline_lib import __main__ as command
from pipeline_lib.core.errors import UserError
from pipeline_lib.operations import listing
from pipeline_lib.operations.listing import write_index
from pipeline_lib.operations.running import Running
from pipeline_lib.reporting.index import first_finding
from pipeline_lib.study import dump_suite, parse_suite
from pipeline_lib.study.graph import Graph
from tests.operations.status.study import Files
from tests.reporting.test_html import HOSTILE
from tests.study.suites import small

ITEM = (
    '<section id="findings">\n<h2>x</h2>\n<ul>\n<li>{}\n<ul>\n<li>a case</li>\n</ul>\n</li>\n<li>b</li></ul>'
)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.inside = True
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag != "table"

    def handle_data(self, data: str) -> None:
        if self.inside and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


def study(results: Path, name: str, done: int | None = None, finding: str = "") -> Files:
    """A study of which so many jobs are done (None: all), with a report where there is a finding."""
    suite = parse_suite(small(suite=re.sub(r"\W", "", name) or "x"))
    files = Files(results / name, suite)
    for job in Graph(suite).study()[:done]:
        files.write(job.result, json.dumps({"status": "ok", "request": 0}))
    files.write("suite.yaml", dump_suite(suite))
    if finding:
        files.write("report/index.html", ITEM.format(finding))
    return files


def page_of(results: Path) -> _Page:
    return _Page(write_index(results).read_text(encoding="utf-8"))


def test_every_study_is_listed_with_its_state_and_a_link(tmp_path: Path) -> None:
    whole = study(tmp_path, "whole", finding="No row is like <b>retrained</b>.")
    begun = study(tmp_path, "begun", done=4)
    begun.log("unlearn authors/tiny/NPO/adamw/seed0", "error: no such split\n")
    kept = study(tmp_path, "kept", done=0)
    kept.write("metrics.csv", "x\n")
    kept.write("costs.csv", "task,status\nauthors,ok\nauthors,ok\nauthors,diverged\n")
    (tmp_path / "no-study").mkdir()
    page = page_of(tmp_path)
    states = {row[0]: row for row in page.rows[1:]}
    assert list(states) == ["begun", "kept", "whole"]
    jobs = len(begun.jobs)
    assert states["whole"][1] == f"complete: {jobs} jobs"
    assert states["begun"][1] == f"unfinished: 4 of {jobs} jobs done, 1 failed, {jobs - 5} missing"
    assert states["kept"][1] == "complete, small files only: 3 models, 1 diverged"
    assert states["whole"][3:] == ["authors", "tiny", "11", "0, 1", "No row is like retrained."]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", states["whole"][2]) and states["begun"][2] == "–"
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == ["whole/report/index.html"]
    assert whole.out.joinpath("report/index.html") == tmp_path / str(links[0])


def test_hostile_names_and_findings_stay_text(tmp_path: Path) -> None:
    name = "javascript:alert(1) <img src=x onerror=alert(1)>\u202e"
    escaped = HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace("\u0000", "")
    study(tmp_path, name, finding=escaped)
    broken = tmp_path / "<script>alert(1)<"
    broken.mkdir()
    (broken / "suite.yaml").write_text("suite: '<script>alert(1)</script>'\n")
    text = write_index(tmp_path).read_text(encoding="utf-8")
    page = _Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "link", "base", "form", "svg"}
    assert not any(key.startswith("on") or key == "style" for _, attrs in page.tags for key in attrs)
    assert next(str(attrs["href"]) for tag, attrs in page.tags if tag == "a").startswith("javascript%3Aalert")
    assert "⟨U+202E⟩" in text and not set(text) & {"\u202e", "\u0007"}
    assert any(row[-1].startswith("<script>alert(1)</script>") for row in page.rows), "the finding, as text"
    assert any("not readable by this version" in row[1] for row in page.rows if len(row) > 1)
    policy = next(str(a["content"]) for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    css = re.search(r"<style>(.*?)</style>", text, re.S)
    assert css is not None
    digest = base64.b64encode(hashlib.sha256(css[1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_a_finding_is_read_however_large_the_figure_before_it_is(tmp_path: Path) -> None:
    report = tmp_path / "index.html"
    figure = f'<img src="data:image/svg+xml;base64,{"A" * 300_000}" alt="of comparisons">'
    report.write_text(figure + ITEM.format("A <b>first</b>\nfinding &amp; more: " + "x" * 400) + "y" * 10**6)
    found = first_finding(report)
    assert found.startswith("A first finding & more: xxx") and found.endswith("...") and len(found) == 300
    report.write_text("<p>of an earlier version</p>")
    assert first_finding(report) == ""


def test_a_study_renews_the_page_as_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study(Path("results"), "small", done=3)
    running = Running(parse_suite(small()))
    running.end()
    assert capsys.readouterr().out.endswith("All studies of this folder: results/index.html\n")
    assert "small" in Path("results/index.html").read_text()


def test_a_call_for_some_files_of_a_study_says_nothing_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results/small/data").mkdir(parents=True)
    Running(parse_suite(small())).end()
    assert "index.html" not in capsys.readouterr().out


def test_a_page_that_cannot_be_written_fails_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study(Path("results"), "small", done=3)
    running = Running(parse_suite(small()))

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(listing, "write_text", refuse)
        running.end()
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("results/index.html was not written: [Errno 30] Read-only file system")
    assert "write it by `unlearning index results`" in said
    assert not Path("results/index.html").exists()
    if os.getuid():  # root writes everywhere
        Path("results").chmod(0o555)
        running.end()
        Path("results").chmod(0o755)
        assert "results/index.html was not written" in capsys.readouterr().out


def test_the_command_writes_it_and_refuses_other_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(["index"]) == 1
    assert "results: expected a folder with results folders of studies" in capsys.readouterr().err
    study(Path("results"), "small")
    assert command.main(["index"]) == 0
    assert capsys.readouterr().out == "index written: results/index.html\n"
    with pytest.raises(UserError, match="name the folder that it lies in: results"):
        write_index(Path("results/small"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no study"):
        write_index(Path("empty"))
