"""The report's charts, tables and answers, clicked and typed into in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reporting.staged import write_relearned
from tests.reporting.study import Study, report_of
from tests.reporting.test_html import HOSTILE
from tests.security.devtools import Page

DRAWN = ("forest", "tradeoff", "recovery")
LIVE = "document.querySelectorAll('figure.live').length === document.querySelectorAll('.chart-data').length"
PHONE = 390  # pixels
LARGEST = 3_000_000  # bytes of a report without its images
CONTRAST = 4.5  # of text to its ground (WCAG 2.2, 1.4.3)

# Every text that is shown, and how much its colour differs from the ground under it.
FAINT = """(() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => parts(text).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || ["SCRIPT", "OPTION"].includes(element.tagName)) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < %s) faint.push([element.tagName, element.className, element.textContent.slice(0, 40), ratio]);
  }
  return faint;
})()"""


def written(study: Study) -> Path:
    """The report with its tables, and the figures that have charts."""
    report_of(study, DRAWN, "steps.jsonl")
    return study.root / "report" / "index.html"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(write_relearned(tmp_path_factory.mktemp("relearned") / "demo"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with Page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    """The report as it opens on a light screen."""
    browser.events.clear()
    browser.size(1280)
    browser.media()
    browser.open(report).until(LIVE)
    return browser


def texts(page: Page, selector: str) -> list[str]:
    """The texts of what is shown of a selector."""
    shown = f"[...document.querySelectorAll({json.dumps(selector)})].filter((one) => one.checkVisibility())"
    return page.of(f"{shown}.map((one) => one.textContent)")


def click(page: Page, selector: str) -> None:
    page.of(f"document.querySelector({json.dumps(selector)}).click()")


def choose(page: Page, label: str, option: str) -> None:
    page.of(f"""(() => {{
      const select = [...document.querySelectorAll("label")]
        .find((one) => one.textContent.startsWith("{label}")).querySelector("select");
      select.value = [...select.options].find((one) => one.textContent === "{option}").value;
      select.dispatchEvent(new Event("change"));
    }})()""")


def test_nothing_is_refused_and_nothing_is_asked_for(page: Page) -> None:
    assert page.asked() == []
    assert page.refused() == []
    assert page.of("document.querySelectorAll('.chart canvas').length") == 3


def test_a_table_sorts_by_a_column_and_back(page: Page) -> None:
    first = "#table-main-task-1 tbody th[scope=row]"
    column = "#table-main-task-1 thead th:nth-child(2)"
    before = texts(page, first)
    numbers = f"{first} + td"

    def gaps() -> list[float]:
        return [float(re.match(r"[\d.]+", text)[0]) for text in texts(page, numbers)]  # type: ignore[index]

    for state in ("ascending", "descending"):
        click(page, f"{column} button")
        assert page.of(f"document.querySelector('{column}').getAttribute('aria-sort')") == state
        assert gaps() == sorted(gaps(), reverse=state == "descending")
        assert texts(page, first) != before
    click(page, f"{column} button")
    assert texts(page, first) == before


def test_a_table_is_filtered_and_copied_as_it_is_shown(page: Page) -> None:
    page.of("document.execCommand = () => { window.copied = document.activeElement.value; return true; }")
    page.of("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    place = "#table-main-task-1"
    page.type(f"{place} .tools input", "sophia")
    assert texts(page, f"{place} tbody th") == ["NPO + Sophia", "NPO + Sophia, then relearn"]
    assert texts(page, f"{place} .said") == ["2 of 8 rows"]
    click(page, f"{place} .tools button:nth-of-type(1)")
    page.until("window.copied")
    head, *lines = page.of("window.copied").splitlines()
    assert head.startswith("Row,Gap") and [line.split(",")[0] for line in lines] == [
        "NPO + Sophia",
        '"NPO + Sophia',
    ]
    page.of("window.copied = ''")
    click(page, f"{place} .tools button:nth-of-type(2)")
    page.until("window.copied")
    latex = page.of("window.copied")
    assert latex.startswith("\\begin{tabular}{lr") and "NPO + Sophia & " in latex and "−" not in latex


def test_the_legend_takes_a_row_out_of_the_chart(page: Page) -> None:
    draw = "document.querySelector('#figure-tradeoff canvas').toDataURL()"
    before, entry = page.of(draw), "#figure-tradeoff .legend button:nth-of-type(3)"
    click(page, entry)
    assert page.of(f"document.querySelector('{entry}').getAttribute('aria-pressed')") == "false"
    page.until(f"{draw} !== {json.dumps(before)}")
    without = page.of(draw)
    click(page, entry)
    page.until(f"{draw} !== {json.dumps(without)}")


def test_lines_of_seeds_are_shown_on_demand(page: Page) -> None:
    draw = "document.querySelector('#figure-recovery canvas').toDataURL()"
    before = page.of(draw)
    click(page, "#figure-recovery .legend input")
    page.until(f"{draw} !== {json.dumps(before)}")


def test_the_pointer_is_told_exact_values(page: Page) -> None:
    box = page.of("""(() => {
      const chart = document.querySelector("#figure-forest canvas");
      chart.scrollIntoView({ block: "center" });
      const { left, top, width, height } = chart.getBoundingClientRect();
      return [left, top, width, height];
    })()""")
    left, top, width, height = box
    for across in range(20, int(width), 6):
        for down in (0.35, 0.4, 0.45, 0.5, 0.55):
            page.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + across, y=top + down * height)
            if told := texts(page, ".tip"):
                assert "Row NPO + Sophia" in told[0] and "Against NPO + AdamW" in told[0]
                assert re.search(r"Difference -?[−\d.]+", told[0])
                return
    raise AssertionError("nothing was told")


def test_answers_are_searched_chosen_and_held_side_by_side(page: Page) -> None:
    place = "#every-answer"
    assert len(texts(page, f"{place} article")) == 10
    click(page, f"{place} > button")
    assert len(texts(page, f"{place} article")) == 20
    choose(page, "Row", "NPO + Sophia")
    page.type(f"{place} input", "question 33")
    (article,) = texts(page, f"{place} article")
    assert "Where was author 33 born?" in article and "true answer: In Town 33." in article
    assert texts(page, f"{place} h5") == ["before (original)", "after", "after, then relearn"]
    assert texts(page, f"{place} article del") == ["original", "none"]
    assert texts(page, f"{place} article ins") == ["NPO", "sophia"] * 2
    assert page.of(f"document.querySelectorAll('{place} meter').length") == 3
    choose(page, "Row", "retrained")
    assert texts(page, f"{place} article ins") == ["retrained"] * 2


def test_the_largest_gaps_come_first_on_demand(page: Page) -> None:
    choose(page, "Order", "largest gap first")
    shown = texts(page, "#every-answer .beside > div:nth-child(2) .likelihood")
    gaps = [abs(float(text.split("gap ")[1].replace("−", "-"))) for text in shown]
    assert len(gaps) == 10 and gaps == sorted(gaps, reverse=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_is_read_on_light_and_dark(page: Page, scheme: str) -> None:
    page.media(scheme=scheme)
    page.size(PHONE, 844)
    page.until(f"document.querySelector('#figure-tradeoff canvas').clientWidth <= {PHONE}")
    assert page.of("document.documentElement.scrollWidth") <= PHONE
    ground = page.of("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 25, 29)"}[scheme]
    assert page.of(FAINT % CONTRAST) == []
    pixel = (
        "[...document.querySelector('#figure-forest canvas').getContext('2d').getImageData(1, 1, 1, 1).data]"
    )
    page.until(f"{pixel}.join() === '{'255,255,255,255' if scheme == 'light' else '22,25,29,255'}'")


def test_paper_has_the_static_figures(page: Page) -> None:
    pictures = "#figure-tradeoff > img"
    shown = f"document.querySelector('{pictures}').checkVisibility()"
    assert not page.of(shown)
    page.media("print")
    assert page.of(shown)
    for hidden in (".charts", ".tools", "#every-answer"):
        assert not page.of(f"document.querySelector('{hidden}').checkVisibility()"), hidden
    assert page.call("Page.printToPDF")["data"]


def test_the_keyboard_reaches_and_uses_every_kind_of_control(page: Page) -> None:
    seen: dict[str, Any] = {}
    for _ in range(400):
        page.key("Tab", 9)
        kind = page.of("""(() => {
          const at = document.activeElement;
          const place = ["thead", ".legend", ".tools", "#every-answer"].find((one) => at.closest(one));
          return place ? `${place} ${at.tagName}` : "";
        })()""")
        if kind == "thead BUTTON" and kind not in seen:
            page.key("Enter", 13)
            state = "document.activeElement.closest('th').getAttribute('aria-sort')"
            assert page.of(state) == "ascending"
        seen[kind] = True
        if {"thead BUTTON", ".legend BUTTON", ".tools INPUT", ".tools BUTTON", ".tools SELECT"} <= set(seen):
            return
    raise AssertionError(f"only reached: {sorted(seen)}")


def test_without_scripts_it_is_the_page_of_old(browser: Page, report: Path) -> None:
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.call("Page.navigate", url=report.absolute().as_uri())
        browser.until("document.readyState === 'complete' && document.querySelector('#suite') !== null")
        assert browser.of("document.querySelector('#figure-tradeoff > img').checkVisibility()")
        assert not browser.of("document.querySelector('#every-answer').checkVisibility()")
        assert browser.of("document.querySelectorAll('.tools, thead button, canvas').length") == 0
        assert texts(browser, "details.sample summary")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_hostile_answers_stay_text_when_they_are_searched(browser: Page, tmp_path: Path) -> None:
    report = written(write_relearned(tmp_path / "demo", generation=HOSTILE))
    browser.events.clear()
    browser.of("window.alert = () => { window.ran = true; }")
    browser.open(report).until(LIVE)
    browser.type("#every-answer input", "<script>")
    articles = texts(browser, "#every-answer article")
    assert articles and all(
        "<script>alert(1)</script>" in one and "⟨U+202E⟩esrever" in one for one in articles
    )
    assert browser.of("document.querySelectorAll('#every-answer :is(article script, img)').length") == 0
    assert browser.of("window.ran") is None
    assert browser.asked() == [] and browser.refused() == []


def test_a_report_without_its_images_stays_within_its_size(report: Path) -> None:
    text = re.sub(r"data:image/[^\"]*", "", report.read_text(encoding="utf-8"))
    assert 900_000 < len(text.encode()) < LARGEST
