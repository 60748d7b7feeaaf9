"""What a browser makes of the page: on a window of a usual size, on a small one and on paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import samples

from onnxlint_q.report import ReportFormat, render

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium to look at the page with")
# Written into the page: its own width, and that of every box that may scroll, each beside the room it has.
MEASURE = """<script>
var boxes = [document.documentElement, ...document.querySelectorAll(".tall")];
document.body.dataset.seen = boxes.map(box => box.scrollWidth + "/" + box.clientWidth).join(" ");
</script></body>"""


def browse(page: str, folder: Path, *options: str) -> str:
    """What Chromium prints when it opens the page."""
    assert BROWSER is not None
    file = folder / "page.html"
    file.write_text(page, "utf-8")
    common = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}")
    done = subprocess.run(
        [BROWSER, *common, *options, file.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def widths(page: str, folder: Path, window: int) -> list[tuple[int, int]]:
    """Width and room of the page, then of each table."""
    told = browse(page.replace("</body>", MEASURE), folder, f"--window-size={window},900", "--dump-dom")
    seen = re.search(r'data-seen="([^"]*)"', told)
    assert seen
    pairs = (pair.split("/") for pair in seen[1].split())
    return [(int(width), int(room)) for width, room in pairs]


@pytest.mark.parametrize("name", ["large", "contested", "hostile"])
def test_the_page_never_scrolls_sideways_and_the_table_fits_a_usual_window(name: str, tmp_path: Path) -> None:
    page = render(samples.ALL[name](), ReportFormat.HTML)
    for window in (500, 1280):
        (width, room), *tables = widths(page, tmp_path, window)
        assert width <= room
        if window == 1280 and name != "hostile":
            assert tables and all(width <= room for width, room in tables)


def test_a_network_of_a_hundred_layers_takes_few_pages(tmp_path: Path) -> None:
    printed = tmp_path / "page.pdf"
    browse(render(samples.large(), ReportFormat.HTML), tmp_path, f"--print-to-pdf={printed}")
    pages = len(re.findall(rb"/Type /Page\b", printed.read_bytes()))
    assert 4 <= pages <= 12
