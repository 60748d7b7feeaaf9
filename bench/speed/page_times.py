"""How large the page of each model is, and how long a browser takes until it shows and answers.

    python bench/speed/page_times.py FOLDER [--only NAME ...] [--nodes 5000] [--repeats 5] [-- options of check]

Besides the models of the folder, a chain of residual blocks with so many nodes (`models.py`). Each page is written by a
process of its own and opened by the Chromium of the system, which Playwright drives. Times are those of the browser's
own clock from the start of the navigation, medians: until the document is parsed and the first screen painted
(`domContentLoadedEventEnd`, `first-contentful-paint`), and until everything is loaded and the scripts have run
(`loadEventEnd`). Sheets are those of A4 that printing makes.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
from playwright import sync_api

_SEEN = """() => {
  const [all] = performance.getEntriesByType("navigation");
  const painted = performance.getEntriesByName("first-contentful-paint")[0];
  return [all.domContentLoadedEventEnd, painted ? painted.startTime : NaN, all.loadEventEnd];
}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="names of models without their ending")
    parser.add_argument("--nodes", type=int, default=5000, help="of the chain; 0 for none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("options", nargs="*", help="of check, behind --")
    chosen = parser.parse_args(arguments)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        parser.error("there is no Chromium to open pages with")
    files = [path for path in sorted(chosen.folder.glob("*.onnx")) if not chosen.only or path.stem in chosen.only]
    print(f"{'model':32}{'kB':>9}{'parsed ms':>12}{'painted ms':>12}{'loaded ms':>12}{'sheets':>8}")
    with tempfile.TemporaryDirectory() as folder, sync_api.sync_playwright() as driver:
        if chosen.nodes:
            files.append(Path(models.deep(Path(folder), chosen.nodes)))
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-dev-shm-usage"])
        for model in files:
            page = Path(folder) / f"{model.stem}.html"
            if problem := _write(model, page, chosen.options):
                print(f"{model.stem:32}  no page: {problem}", flush=True)
                continue
            parsed, painted, loaded = (
                statistics.median(times)
                for times in zip(*(_open(chromium, page) for _ in range(chosen.repeats)), strict=True)
            )
            size, sheets = page.stat().st_size / 1000, _sheets(chromium, page)
            print(f"{model.stem:32}{size:9.0f}{parsed:12.0f}{painted:12.0f}{loaded:12.0f}{sheets:8}", flush=True)
        chromium.close()
    return 0


def _write(model: Path, page: Path, options: Sequence[str]) -> str:
    """Why there is no page; empty where there is one."""
    command = [sys.executable, "-m", "onnxlint_q", str(model), "--html", str(page), "--quiet", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if page.is_file() else ended.stderr.strip()


def _open(chromium: Any, page: Path) -> list[float]:
    """Milliseconds until the page is parsed, painted and loaded, with nothing cached."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.goto(page.as_uri())
    opened.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    times: list[float] = opened.evaluate(_SEEN)
    context.close()
    return times


def _sheets(chromium: Any, page: Path) -> int:
    """Of A4."""
    opened = chromium.new_page()
    opened.goto(page.as_uri())
    printed: bytes = opened.pdf(format="A4", prefer_css_page_size=True)
    opened.close()
    return printed.count(b"/Type /Page\n") or printed.count(b"/Type/Page") - printed.count(b"/Type/Pages")


if __name__ == "__main__":
    sys.exit(main())
