# SPDX-License-Identifier: Apache-2.0
"""How long a large site takes: to build, to be ready in a real Chromium, to sort and to filter.

    python -m benchmarks.site [--rows N] [--repeats N] [--report FILE]

The rows are the committed ones under further names, so that each has its own page and its own figures. Seconds in the
browser are its own: from the start of navigation until the page says that it is ready, and of one sort or filter until
the next frame is drawn. Needs the extra `publish`, playwright, and a Chromium of the machine's own.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median

import bench
import suites
from bench.instruments.machine import describe
from bench.judge.rows import Row, newest, with_any
from bench.views.site import publish

WANTED = {"build, s": 60.0, "first page, MB": 3.0, "ready, s": 1.0, "sort, ms": 100.0, "filter, ms": 100.0}
AFTER_FRAME = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))"
SORT = f"""async () => {{
  const start = performance.now();
  document.querySelector("th[data-key=memory]").click();
  await {AFTER_FRAME};
  return performance.now() - start;
}}"""
FILTER = f"""async () => {{
  const box = document.getElementById("search"), start = performance.now();
  box.value = box.value ? "" : "int8 transformers";
  box.dispatchEvent(new Event("input"));
  await {AFTER_FRAME};
  return performance.now() - start;
}}"""


def many(wanted: int) -> list[Row]:
    """So many rows: the committed ones of the default suites, each under a name of its own."""
    rows = with_any(newest(bench.read()), suites.DEFAULT)
    numbers = count(1)
    return [replace(row, model=f"{row.model}-{next(numbers)}") for row in islice(cycle(rows), wanted)]


def measured(rows: list[Row], repeats: int) -> dict[str, list[float]]:
    """Samples by what they are of."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {name: [] for name in WANTED}
    with tempfile.TemporaryDirectory() as scratch:
        folder, start = Path(scratch) / "site", time.perf_counter()
        publish.write(folder, dict(publish.files(rows, [], [])))
        found["build, s"].append(time.perf_counter() - start)
        loaded = [folder / "index.html", *(folder / "assets").iterdir()]
        found["first page, MB"].append(sum(path.stat().st_size for path in loaded) / 1e6)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for _ in range(repeats):
                page = browser.new_page()
                page.goto(f"file://{folder / 'index.html'}")
                page.wait_for_selector("html[data-ready]", timeout=120_000)
                found["ready, s"].append(page.evaluate("Number(document.documentElement.dataset.readyMs)") / 1000)
                found["sort, ms"].append(page.evaluate(SORT))
                found["filter, ms"].append(page.evaluate(FILTER))
                page.close()
            browser.close()
    return found


def main() -> int:
    """Build, open, print, write; 1 if a figure is above what is wanted."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    found = measured(many(options.rows), options.repeats)
    called = f"`python -m benchmarks.site --rows {options.rows}`, {time.strftime('%Y-%m-%d', time.gmtime())}"
    where = f"{describe('cpu').device}, headless Chromium, medians of {options.repeats} openings"
    lines = [
        "# A large site\n", f"{called}, {where}.\n",
        "| figure | median | lowest to highest | wanted, at most |", "| --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for name, samples in found.items():
        ends = f"{min(samples):.3g} to {max(samples):.3g}"
        lines.append(f"| {name} | {median(samples):.3g} | {ends} | {WANTED[name]:g} |")
    page = "\n".join(lines) + "\n"
    sys.stdout.write(page)
    if options.report:
        options.report.write_text(page, encoding="utf-8")
    return int(any(median(samples) > WANTED[name] for name, samples in found.items()))


if __name__ == "__main__":
    sys.exit(main())
