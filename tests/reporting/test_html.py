"""The report is whole, says only what the numbers support, and shows hostile answers as harmless text."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline_lib.core.errors import UserError
from pipeline_lib.core.redaction import visible
from pipeline_lib.reporting.catalog import REPORT_NEEDS
from pipeline_lib.reporting.claims import findings
from pipeline_lib.reporting.html import write_report
from pipeline_lib.reporting.inputs import Inputs
from tests.reporting.study import Study, report_of

HOSTILE = (
    "<script>alert(1)</script></style></bdi></dd><img src=x onerror=alert(1)> \" ' &amp; {{ 7 * 7 }} "
    "\u202eesrever\u0000\u0007\ue000 ok"
)


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study's folder and its report."""
    study = Study(tmp_path_factory.mktemp("written") / "demo").write()
    return study.root, report_of(study)


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_report_is_one_file_that_runs_its_own_scripts_alone(written: tuple[Path, str]) -> None:
    _, text = written
    page = Page(text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"iframe", "object", "embed", "link", "form", "base"}
    assert not any(key.startswith("on") or key == "style" for _, attrs in page.tags for key in attrs)
    sources = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert len(sources) == 1 and str(sources[0]).startswith("data:image/svg+xml;base64,")
    policy = next(str(a["content"]) for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    css = re.search(r"<style>(.*?)</style>", text, re.S)
    assert css is not None
    assert f"style-src {hashed(css[1])};" in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 3, "the library of charts, the report's own script and that of the answers"
    assert f"script-src {' '.join(map(hashed, scripts))};" in policy
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert kinds.count(None) == 3 and set(kinds) == {None, "application/json"}
    assert all("src" not in attrs for tag, attrs in page.tags if tag == "script")


def test_a_report_without_charts_and_answers_carries_neither_library(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    needed = [name for name in REPORT_NEEDS if name != "records.jsonl"]
    write_report(study.paths(*needed), root / "report" / "index.html")
    text = (root / "report" / "index.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<script>", text)) == 1 and "vegaEmbed=" not in text
    assert "every-answer" not in text.partition("</style>")[2]


def test_links_lead_to_files_beside_the_report(written: tuple[Path, str]) -> None:
    root, text = written
    page = Page(text)
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a"]
    files = [link for link in links if not link.startswith("#")]
    assert "../metrics.csv" in files and "../tables/main.csv" in files and "../figures/tradeoff.svg" in files
    assert all((root / "report" / link).resolve().is_file() for link in files)
    anchors = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors


def test_hostile_answers_are_shown_as_text(root: Path) -> None:
    text = report_of(Study(root, seeds=(1,), diverged={}, generation=HOSTILE).write())
    page = Page(text)
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert kinds.count(None) == 3, "no more scripts than the report's own"
    assert all(
        "<" not in block
        for block in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
    )
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;/style&gt;&lt;/bdi&gt;" in text
    assert "onerror=alert(1)&gt;" in text and "<img src=x" not in text
    assert "{{ 7 * 7 }}" in page.text and "&#34; &#39; &amp;amp;" in text
    assert "⟨U+202E⟩esrever⟨U+0000⟩⟨U+0007⟩⟨U+E000⟩ ok" in page.text
    assert not set(text) & {"\u202e", "\u0000", "\u0007"}


def test_visible_keeps_ordinary_text() -> None:
    assert visible("Zoë\n\t日本 – “x”") == "Zoë\n\t日本 – “x”"
    assert visible("a\u2028b\u200bc\rd") == "a⟨U+2028⟩b⟨U+200B⟩c⟨U+000D⟩d"


def test_report_shows_rows_answers_and_facts(written: tuple[Path, str]) -> None:
    page = Page(written[1])
    for said in (
        "GradDiff + Sophia (as released)",
        "An answer of original none to question 0.",
        "An answer of NPO sophia to question 30.",
        "36 trained models",
        "forget 40 records in 4 groups",
        "python 3.11.2, torch 2.13.0",
        "abc1234",
        "name: demo",
    ):
        assert said in page.text, said


def _findings(study: Study) -> str:
    found = findings(Inputs(study.paths(*REPORT_NEEDS)), study.task, study.model)
    return "\n".join(line for finding in found for line in (finding.text, *finding.cases))


def test_a_difference_is_claimed_only_with_a_test(root: Path) -> None:
    numbers: dict[tuple[str, str, int, str, str], float] = {}
    optimizers = ("adamw", "signum", "sophia", "sophia_published", "sophia_as_released")
    for number, optimizer in enumerate(optimizers, start=1):
        for seed in (1, 2, 3):
            # The same for all, but noisy: nothing can be claimed; except sophia, 0.3 below all of them.
            noise = 0.001 * (seed * seed * number % 7)
            distance = 0.6 + noise - (0.3 if optimizer == "sophia" else 0)
            numbers["NPO", optimizer, seed, "forget", "ks_statistic"] = distance
            numbers["NPO", optimizer, seed, "forget", "probability"] = 0.4 + noise
            numbers["NPO", optimizer, seed, "utility", "model_utility"] = 0.5 + noise
    said = _findings(Study(root, numbers=numbers).write())
    claimed = "A difference can be claimed in 2 of 6 pairs of rows."
    assert f"NPO, second order against first order: {claimed}" in said
    assert "NPO + Sophia against NPO + AdamW: closer to retrained (difference in KS D −0." in said
    assert "For the other pairs no difference can be claimed." in said
    assert "Diverged, and left out of the means: GradDiff + Signum (1 of 3 seeds, step 23)." in said
    assert "NPO + Sophia (published) 100 %" in said and "Above 90 %" in said


def test_one_seed_claims_nothing(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    said = _findings(study)
    for method in study.methods:
        nothing = "No difference can be claimed. No test was possible: too few seeds"
        assert f"{method}, second order against first order: {nothing}" in said
    assert "closer" not in said
    assert "Every row is <b>one seed</b>" in report_of(study)


def test_missing_inputs_are_refused(root: Path) -> None:
    study = Study(root, seeds=(1,), diverged={}).write()
    names = [name for name in REPORT_NEEDS if name != "suite.yaml"]
    with pytest.raises(UserError, match=r"not given: suite.yaml"):
        write_report(study.paths(*names), root / "report" / "index.html")
    paths = [*study.paths(*REPORT_NEEDS), root / "figures" / "tradeoff.svg"]
    with pytest.raises(UserError, match=r"tradeoff.svg: no such file"):
        write_report(paths, root / "report" / "index.html")
    assert not (root / "report" / "index.html").exists()


def test_diverged_anchors_are_an_error(root: Path) -> None:
    study = Study(root, diverged={("retrained", "none", seed): 3 for seed in (1, 2, 3)}).write()
    with pytest.raises(UserError, match="`retrained` of fictitious, tiny diverged in every seed"):
        _findings(study)
