"""Every kind of page as a browser has it: what it asks for, what it does, who can read it, and what it is on paper."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import samples
import test_compare_reports
import test_depth_chart
import test_diff_reports
import test_drawing
import test_inspect_reports
import test_mending_reports

from onnxlint_q.finding import Suppression, Suppressor
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.compare import render as render_comparison
from onnxlint_q.report.diff import render as render_diff
from onnxlint_q.report.fix import render as render_fixed
from onnxlint_q.report.inspect import render as render_inspection
from onnxlint_q.report.quantize import render as render_quantized
from onnxlint_q.workflow.results import Run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api: Any = pytest.importorskip("playwright.sync_api", reason="no Playwright to drive a browser with")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to look at the page with"),
    pytest.mark.filterwarnings("default"),  # what a browser's driver warns of is not ours
]


def drawn() -> Run:
    """A model with a finding that is drawn."""
    (model,) = samples.chained().models
    return Run((replace(model, pictures={model.findings[0].fingerprint: test_drawing.picture()}),))


def known() -> Run:
    """A model with a finding that somebody knows of."""
    (model,) = samples.small().models
    why = Suppression(Suppressor.CONFIGURATION, "[[suppress]] 1 of onnxlint-q.toml", "accepted until 2.1")
    return Run((replace(model, suppressed=(replace(model.findings[0], suppression=why),)),))


OTHERS = ("compare", "compared", "fix", "quantize", "inspect", "diff")
MADE = {**samples.ALL, "drawn": drawn, "known": known}
PAGES: dict[str, Callable[[], str]] = {
    **{
        name: lambda make=make: render(make(), ReportFormat.HTML)  # type: ignore[misc]
        for name, make in MADE.items()
    },
    "compare": lambda: render_comparison(test_compare_reports.comparison(), ReportFormat.HTML),
    "compared": lambda: render_comparison(test_compare_reports.BROKEN, ReportFormat.HTML),
    "fix": lambda: render_fixed(test_mending_reports.fixed(), ReportFormat.HTML),
    "quantize": lambda: render_quantized(test_mending_reports.quantized(), ReportFormat.HTML),
    "diff": lambda: render_diff(test_diff_reports.changes(), ReportFormat.HTML),
    "inspect": lambda: render_inspection(test_inspect_reports.inspection(), ReportFormat.HTML),
}
KINDS = (
    "large",
    "known",
    "compared",
    "drawn",
    "hostile",
    "quantised",
    "empty",
    "compare",
    "fix",
    "quantize",
    "inspect",
    "diff",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """A page in a window of its own, with what it complained of and asked for."""

    def __init__(self, browser: Any, file: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = file.as_uri()
        self.page.goto(self.address)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    made: list[Opened] = []

    def open_page(name: str, text: str | None = None, **options: Any) -> Opened:
        file = tmp_path / f"{name}.html"
        file.write_text(PAGES[name]() if text is None else text, "utf-8")
        made.append(Opened(browser, file, **options))
        return made[-1]

    yield open_page
    for one in made:
        one.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_and_complains_of_nothing(name: str, opened: Callable[..., Opened]) -> None:
    one = opened(name)
    assert one.asked == [one.address]
    assert one.said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_anybody_can_read_it(name: str, scheme: str, opened: Callable[..., Opened]) -> None:
    axe: Any = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe to judge the page with")
    one = opened(name, color_scheme=scheme)
    one.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    found = axe.Axe().run(one.page).response["violations"]
    assert [f"{rule['id']}: {node['html'][:300]}" for rule in found for node in rule["nodes"]] == []


@pytest.mark.parametrize("window", [400, 1280, 1920])
@pytest.mark.parametrize("name", KINDS)
def test_a_page_never_scrolls_sideways(name: str, window: int, opened: Callable[..., Opened]) -> None:
    one = opened(name, viewport={"width": window, "height": 900})
    width = one.page.evaluate("document.documentElement.scrollWidth")
    assert width <= window


@pytest.mark.parametrize("name", ["large", "contested", "drawn", "compare", "diff"])
def test_tables_fit_a_usual_window(name: str, opened: Callable[..., Opened]) -> None:
    one = opened(name, viewport={"width": 1280, "height": 900})
    boxes = one.page.evaluate("[...document.querySelectorAll('.tall')].map(box => [box.scrollWidth, box.clientWidth])")
    assert boxes and all(width <= room for width, room in boxes)


def column(one: Opened, number: int) -> list[str]:
    """The cells of a column of the layer table that are to be seen."""
    path = f"section:has(#m-1-table) tbody tr:not([hidden]) > :nth-child({number})"
    return [cell.strip() for cell in one.page.locator(path).all_inner_texts()]


def test_the_layer_table_sorts_and_filters(opened: Callable[..., Opened]) -> None:
    one = opened("large")
    table = one.page.locator("section:has(#m-1-table)")
    heading = table.locator("th[data-key]", has_text="range")
    heading.locator("[role=button]").click()
    ascending = [float(cell) for cell in column(one, 4)]
    assert ascending == sorted(ascending) and heading.get_attribute("aria-sort") == "ascending"
    heading.locator("[role=button]").press("Enter")
    assert [float(cell) for cell in column(one, 4)] == sorted(ascending, reverse=True)
    table.locator("input[type=search]").fill("depthwise")
    shown = column(one, 2)
    assert 0 < len(shown) < len(ascending) and all("depthwise" in name for name in shown)
    assert table.locator("[role=status]").inner_text() == f"{len(shown)} of {len(ascending)} rows"


def test_links_lead_where_they_say_and_open_what_is_closed(opened: Callable[..., Opened]) -> None:
    one = opened("large")
    finding = samples.large().models[0].findings[20]
    one.page.goto(f"{one.address}#f-{finding.fingerprint}")
    place = one.page.locator(f"#f-{finding.fingerprint}")
    assert place.locator("summary").first.is_visible()
    place.locator("a", has_text="in the layer table").click()
    row = one.page.locator("tr:target")
    assert finding.location.node in row.inner_text().replace("\n", "")
    row.locator("a").first.click()
    assert "-s-" in one.page.evaluate("location.hash")
    one.page.locator("svg a:has(.flag)").first.click()
    assert one.page.evaluate("location.hash").startswith("#f-")


def test_it_reads_without_script(opened: Callable[..., Opened]) -> None:
    one = opened("large", java_script_enabled=False)
    assert one.page.locator(".card .call").first.is_visible()
    assert one.page.locator("section:has(#m-1-table) tbody tr").count() == 113
    assert not one.page.locator("button.copy").first.is_visible()


def test_the_theme_can_be_changed_and_a_call_copied(opened: Callable[..., Opened]) -> None:
    one = opened("remedied", permissions=["clipboard-read", "clipboard-write"], color_scheme="light")
    before = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    one.page.locator("button.theme").click()
    assert one.page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    one.page.locator(".steps button.copy").first.click()
    text = one.page.locator(".steps pre").first.inner_text()
    assert one.page.evaluate("navigator.clipboard.readText()").strip() == text.strip()


def test_paper_has_whole_names_and_few_sheets(opened: Callable[..., Opened]) -> None:
    one = opened("large")
    sheets = one.page.pdf().count(b"/Type /Page\n")
    assert 3 <= sheets <= 12
    one.page.emulate_media(media="print")
    assert one.page.evaluate(
        "[...document.querySelectorAll('pre, .tall')].every(box => box.scrollWidth <= box.clientWidth + 1)"
    )


def test_a_model_of_five_thousand_nodes_opens_at_once(opened: Callable[..., Opened]) -> None:
    text = render(Run((test_depth_chart.deep(1250),)), ReportFormat.HTML)
    started = time.process_time()
    one = opened("large", text)
    took = one.page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    assert time.process_time() - started < 5 and took < 3000  # under a second on an idle machine
