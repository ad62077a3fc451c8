"""The documentation as a site: all pages are in it, links lead somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from pipeline_lib.metrics import by_module
from tests.paths import REPO

CONFIG = yaml.safe_load((REPO / "mkdocs.yml").read_text(encoding="utf-8"))
TOOL = REPO / ".venv-docs" / "bin" / "mkdocs"
LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"^```.*?^```[ \t]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def load(name: str) -> ModuleType:
    """A module of .ci/, where MkDocs finds it."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, REPO / ".ci" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


PAGES, HOOK = load("docs_pages"), load("docs_hook")


def entries(nav: Any) -> Iterator[str]:
    """The pages that the navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(part)


def written() -> dict[str, Path]:
    """Page of the site -> the Markdown file that a person wrote."""
    docs = REPO / "docs"
    pages = {path.relative_to(docs).as_posix(): path for path in docs.rglob("*.md")}
    return pages | {uri: REPO / path for uri, path in HOOK.outside().items()}


# --- without the tools ------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation_once_and_every_entry_is_a_page() -> None:
    named = list(entries(CONFIG["nav"]))
    made = {*written(), *PAGES.suite_keys(REPO), *PAGES.library_pages(REPO)}
    assert sorted(named) == sorted(made), "mkdocs.yml and the pages differ"


def test_nothing_is_loaded_from_elsewhere_by_the_settings() -> None:
    theme, extra = CONFIG["theme"], CONFIG["extra"]
    assert theme["font"] is False and "offline" in CONFIG["plugins"] and CONFIG["strict"] is True
    assert any("iframe-worker" in script for script in extra["polyfills"]), (
        "else the plugin loads one from a host"
    )
    for name in [*extra["polyfills"], *CONFIG["extra_css"], *CONFIG.get("extra_javascript", [])]:
        assert (REPO / "docs" / name).is_file(), f"{name} is no file of docs/"
        assert "//" not in re.sub(r"^\s*//.*", "", (REPO / "docs" / name).read_text(), flags=re.MULTILINE)


def test_the_tools_are_pinned_and_no_part_of_the_library_s_environment() -> None:
    lines = (REPO / ".ci" / "docs-requirements.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line) for line in pins)
    assert {"mkdocs", "mkdocs-material", "mkdocstrings-python"} <= {line.partition("==")[0] for line in pins}
    assert "mkdocs" not in (REPO / "requirements.lock").read_text()
    assert {"/site/", "/.venv-docs/"} <= set((REPO / ".gitignore").read_text().splitlines())


def test_the_ci_builds_the_site() -> None:
    (job,) = yaml.safe_load((REPO / ".github/workflows/docs.yml").read_text())["jobs"].values()
    assert "make docs" in [step.get("run") for step in job["steps"]]
    assert "docs-tools" in (REPO / ".ci" / "run").read_text(), "then the test below builds it"


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = [re.sub(r"<!--.*?-->", "", head) for head in re.findall(r"^#+ (.*)", text, re.MULTILINE)]
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head) for head in heads]
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("uri", sorted(written()))
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(uri: str) -> None:
    path = written()[uri]
    for target in LINK.findall(CODE.sub("``", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        led = (path.parent / name).resolve() if name else path
        assert led.exists() and led.is_relative_to(REPO), f"{path}: {target}"
        if anchor and led.suffix == ".md":
            assert anchor in anchors(led), f"{path}: {target}; headings: {sorted(anchors(led))}"


@pytest.mark.parametrize(
    ("uri", "text", "adapted"),
    [
        ("paper.md", "[s](../config/paper.yaml#x)", "[s](repository:config/paper.yaml#x)"),
        ("paper.md", "[m](metrics.md#a)", "[m](metrics.md#a)"),
        ("stages/ask.md", "[r](../../results/reference/demo/README.md)", "[r](../runs/demo.md)"),
        ("index.md", "[d](docs/start.md) and [c](config/README.md)", "[d](start.md) and [c](suites.md)"),
        ("index.md", "[f](results/reference/demo)", "[f](runs/demo.md)"),
        (
            "index.md",
            "![p](results/reference/demo/figures/tradeoff.png)",
            "![p](pictures/results/reference/demo/figures/tradeoff.png)",
        ),
        ("paper.md", "[a](https://x.org/y) [b](#z)", "[a](https://x.org/y) [b](#z)"),
        ("paper.md", "`[s](../config/paper.yaml)`<!--=x[a=b]--> n", "`[s](../config/paper.yaml)` n"),
        ("paper.md", "<!--settings 1: a-->\n| a |\n<!--numbers\nx = y\n-->\n", "| a |\n"),
        ("paper.md", "```sh\n- a <!--b-->\n```", "```sh\n- a <!--b-->\n```"),
        ("paper.md", "These:\n- a\n  more\n- b\n\nEnd\n1. c", "These:\n\n- a\n  more\n- b\n\nEnd\n\n1. c"),
    ],
)  # fmt: skip
def test_our_markdown_becomes_that_of_the_site(uri: str, text: str, adapted: str) -> None:
    assert HOOK.adapted(text, uri) == adapted


def test_a_link_to_nothing_is_a_warning_which_stops_a_strict_build(caplog: pytest.LogCaptureFixture) -> None:
    HOOK.adapted("[s](../config/papers.yaml)", "paper.md")
    assert "docs/paper.md: the link to ../config/papers.yaml leads nowhere" in caplog.text


def test_the_repository_s_files_are_read_where_the_ci_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    page = type("Page", (), {"file": type("File", (), {"dest_uri": "stages/ask.html"})})
    link = f'<a href="{HOOK.REPOSITORY}config/core.yaml">'
    assert HOOK.on_post_page(link, page=page) == '<a href="../../config/core.yaml">'
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://hub.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "us/it")
    assert (
        HOOK.on_post_page(link, page=page)
        == '<a href="https://hub.example/us/it/blob/main/config/core.yaml">'
    )


def test_every_key_of_a_suite_is_on_its_page_with_its_default() -> None:
    (text,) = PAGES.suite_keys(REPO).values()
    assert "## NPO\n" in text and "| `beta` | number above 0 | `0.1` |" in text
    assert "## Task tofu\n" in text and "| `suite` |" in text
    links = set(re.findall(r"\]\(#([\w-]+)\)", text))
    assert links <= {head.lower().replace(" ", "-") for head in re.findall(r"^## (.*)", text, re.MULTILINE)}


def test_the_library_s_pages_name_every_objective_and_what_is_public() -> None:
    pages = PAGES.library_pages(REPO)
    rooms = {path.stem for path in (REPO / "pipeline_lib/objectives").glob("[a-z]*.py")}
    assert {f"::: pipeline_lib.objectives.{room}" for room in rooms} <= set(
        pages["api/objectives.md"].splitlines()
    )
    assert "- Request" in pages["api/removal.md"] and "- forget" in pages["api/removal.md"]


def test_the_glossary_s_metrics_are_metrics() -> None:
    text = (REPO / "docs" / "glossary.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\|[^|]*\| (`[^|]*`) \|[^|]*\|$", text, re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    known = {metric.name for metrics in by_module().values() for metric in metrics}
    assert len(named) > 15 and named <= known, named - known


# --- with the tools ---------------------------------------------------------------------------------------


class Loaded(HTMLParser):
    """What a page loads by itself, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given.get("href") or "")
        elif given.get("src"):
            self.loads.append(given["src"] or "")


@functools.cache
def built(page: Path) -> Loaded:
    found = Loaded()
    found.feed(page.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a page that is missing, a dead link or anchor fails here."""
    if not TOOL.is_file():
        pytest.skip("the site's tools are not installed: make docs-tools")
    folder = tmp_path_factory.mktemp("site")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    done = subprocess.run(
        [TOOL, "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPO,
        env={**environment, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(written())
    for page in pages:
        for name in built(page).loads:
            assert not re.match(r"(?:[a-z]+:)?//", name), f"{page}: {name}"
            assert (
                name.startswith("data:")
                or page.name == "404.html"
                or (page.parent / name.split("?")[0]).exists()
            )
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8"))


def test_marks_are_gone_and_links_to_the_repository_lead_somewhere(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert "<!--" not in text.partition("<article")[2].partition("</article>")[0]
    for page in site.rglob("*.html"):
        assert not [link for link in built(page).links if link.startswith(HOOK.REPOSITORY)]


def test_search_needs_no_server(site: Path) -> None:
    assert "extraction strength" in (site / "search" / "search_index.js").read_text(encoding="utf-8").lower()
    assert any("iframe-worker" in name for name in built(site / "metrics.html").loads)
