# SPDX-License-Identifier: Apache-2.0
"""The site in a real headless Chromium: opened from disk, without a network, with and without JavaScript."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import make_cell, make_record, memory_samples, quality_samples, sample, speed_samples
from judged import FP16, INT4, INT8

from bench.judge.rows import newest
from bench.records.record import Record, Unit
from bench.views.site import publish

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("jinja2")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
    pytest.mark.alone,
]

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<img src=x onerror=document.title='pwned'>"
BITS = {"fp16": 16.0, "int8": 8.0, "int4": 4.5}


def counted(record: Record) -> Record:
    """With the bits of its own precision."""
    bits = sample("linear_bits", BITS[record.cell.precision], Unit.BIT)
    found = tuple(bits if m.name == "linear_bits" else m for m in record.measurements)
    return record.model_copy(update={"measurements": found})


def another(name: str, *, weights: int, itl_s: float) -> list[Record]:
    """A 16-bit row of another model."""
    return [
        make_record(make_cell("memory", model=name), measurements=memory_samples(weights=weights)),
        make_record(make_cell("throughput", model=name), measurements=speed_samples(itl_s=[itl_s] * 4)),
        make_record(make_cell("quality", model=name), measurements=quality_samples({"t": [1.0] * 60 + [0.0] * 40})),
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five rows of three models: `tiny` at three precisions, a faster and a larger one, and a hostile text."""
    folder = tmp_path_factory.mktemp("site") / "site"
    odd = make_record(make_cell("memory", model="odd"), measurements=memory_samples(weights=3000))
    odd = odd.model_copy(update={"machine": odd.machine.model_copy(update={"name": HOSTILE})})
    records = [*map(counted, [*FP16, *INT8, *INT4]), *another("quick", weights=700, itl_s=0.025), odd]
    publish.write(folder, dict(publish.files(newest(records), [], [])))
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


Opened = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser, site: Path) -> Iterator[Opened]:
    """Opens a page of the site in a context without a network; fails on any console error or foreign request."""
    contexts, complaints = [], []

    def open_page(name: str | Path = "index.html", state: str = "", **options: Any) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith("file:") else None)
        page.goto(f"file://{site / name}{state}")
        if Path(name).name == "index.html" and options.get("java_script_enabled", True):
            page.wait_for_selector("html[data-ready=yes]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def models(page: Page) -> list[str]:
    """Model and precision of the rows on the page, in their order."""
    rows = page.locator("#rows tbody tr:visible")
    return [
        row.locator("th a").inner_text().removesuffix(" (random weights)") + " " + row.locator("td").first.inner_text()
        for row in rows.all()
    ]


def test_every_row_stands_in_a_real_table(opened: Opened) -> None:
    """In the order of rows, with no script needed to find one."""
    page = opened()
    assert models(page) == [
        "odd fake-fp16", "quick fake-fp16", "tiny fake-fp16", "tiny fake-int8", "tiny fake-int4",
    ]  # fmt: skip
    assert page.inner_text("#status") == "5 rows, 5 keep the limits"


def test_several_words_are_searched_together(opened: Opened) -> None:
    """Both must stand in a row, in any order."""
    page = opened()
    page.fill("#search", "int8 tiny")
    assert models(page) == ["tiny fake-int8"]
    page.fill("#search", "nothing of that")
    assert page.inner_text("#status") == "0 rows, 0 keep the limits"


def test_a_click_on_a_heading_sorts_by_the_number(opened: Opened) -> None:
    """Not by its letters: 1,400 bytes before 4,140."""
    page = opened()
    for way in ("ascending", "descending"):
        page.click("th[data-key=decode]")
        page.wait_for_selector(f"th[data-key=decode][aria-sort={way}]")
    assert models(page)[:2] == ["quick fake-fp16", "tiny fake-int4"]


def test_a_figure_that_is_not_known_stands_last_whichever_way(opened: Opened) -> None:
    """`odd` was never decoded with."""
    page = opened()
    for way in ("ascending", "descending"):
        page.click("th[data-key=decode]")
        page.wait_for_selector(f"th[data-key=decode][aria-sort={way}]")
        assert models(page)[-1] == "odd fake-fp16"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The front page of 320 rows, more than it shows at once."""
    folder = tmp_path_factory.mktemp("large") / "site"
    (row,) = newest(another("many", weights=700, itl_s=0.025))
    rows = [replace(row, model=f"m{number:03}") for number in range(320)]
    publish.write(folder, dict(takewhile(lambda file: not file[0].startswith("model/"), publish.files(rows, [], []))))
    return folder


def test_of_many_rows_those_of_one_page_are_shown_and_all_are_found(opened: Opened, large: Path) -> None:
    """Searched, sorted, chosen across pages, and printed as a whole."""
    page = opened(large / "index.html")
    count = "document.querySelectorAll('#rows tbody tr').length"
    assert (page.evaluate(count), page.inner_text("#status")) == (100, "320 rows, 320 keep the limits")
    page.click("tr[id*=m000] button.pick")
    page.fill("#search", "m319")
    assert models(page) == ["m319 fake-fp16"]
    page.click("button.pick")
    page.fill("#search", "")
    assert [text.split(" ")[0] for text in page.locator("#chosen li").all_inner_texts()] == ["m000", "m319"]
    assert page.locator("tr.picked").count() == 1  # the other one is on another page
    for way in ("ascending", "descending"):
        page.click("th[data-key=model]")
        page.wait_for_selector(f"th[data-key=model][aria-sort={way}]")
    assert models(page)[0] == "m319 fake-fp16"
    assert page.locator("tr.picked").get_attribute("id") == page.locator("#rows tbody tr").first.get_attribute("id")
    page.keyboard.press("Control+f")  # then the browser searches the page: every row is on it
    assert page.evaluate(count) == 320
    page.click("th[data-key=model]")
    assert page.evaluate(count) == 100
    page.keyboard.press("Control+f")
    page.fill("#search", "m31")
    assert len(models(page)) == 10
    page.fill("#search", "")
    assert page.evaluate(count) == 100
    for event, shown in (("beforeprint", 320), ("afterprint", 100)):
        page.evaluate("event => dispatchEvent(new Event(event))", event)
        assert page.evaluate(count) == shown


@pytest.mark.parametrize("lost", ["dataTables.min.js", "site.js"])
def test_a_script_that_does_not_come_leaves_the_table_as_it_is(browser: Browser, site: Path, lost: str) -> None:
    """The rows that waited for it are shown."""
    page = browser.new_page()
    page.route(f"**/{lost}", lambda route: route.abort())
    page.goto(f"file://{site / 'index.html'}")
    assert page.locator("#rows tbody tr:visible").count() == 5
    page.close()


def test_limits_dim_what_is_not_proved_to_keep_them(opened: Opened) -> None:
    """At most 1 % of loss: int4 is worse; a row whose memory is too much, and one that is too slow."""
    page = opened()
    page.fill("#loss", "1")
    assert page.locator("tr.dim").evaluate_all("rows => rows.map(row => row.dataset.precision)") == ["int4"]
    page.fill("#loss", "")
    page.fill("#decode", "15")
    assert page.inner_text("#status") == "5 rows, 2 keep the limits"
    page.fill("#decode", "")
    page.fill("#memory", "0.0000018")
    assert page.inner_text("#status") == "5 rows, 2 keep the limits"


def test_a_precision_and_a_preset_show_what_they_cost(opened: Opened) -> None:
    """int4 alone, with its ratios to 16 bits."""
    page = opened()
    page.select_option("#precision", "int4")
    page.click("[data-preset=p]")
    assert models(page) == ["tiny fake-int4"]
    titles = [text.strip() for text in page.locator("#rows thead th:visible").all_inner_texts()]
    assert titles == ["model", "precision", "loss against 16 bits", "weights", "peak", "decode"]
    assert "0.30x" in page.locator("#rows tbody tr").first.inner_text()


def test_a_price_fills_the_cost_of_a_million_tokens(opened: Opened) -> None:
    """0.72 an hour at 10 tokens/s: 20."""
    page = opened()
    page.click("[data-preset=e]")
    page.fill("#price", "0.72")
    page.fill("#search", "tiny fp16")
    assert "20.0" in page.locator("#rows tbody tr").first.inner_text()


def test_rows_are_chosen_and_copied(opened: Opened) -> None:
    """Across filters, as Markdown, LaTeX and CSV."""
    page = opened()
    page.fill("#search", "int8")
    page.click("button.pick")
    page.fill("#search", "quick")
    page.click("button.pick")
    page.click("[data-copy=csv]")
    page.wait_for_function("document.getElementById('text').value !== ''")
    lines = page.input_value("#text").splitlines()
    assert lines[0] == 'model,precision,device,"memory, GB",decode tok/s,loss against 16 bits,score'
    assert [line.split(" ")[0] for line in lines[1:]] == ["quick", "tiny"]
    page.click("[data-copy=markdown]")
    page.wait_for_function("document.getElementById('text').value.startsWith('|')")
    assert page.input_value("#text").splitlines()[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    page.click("[data-copy=latex]")
    page.wait_for_function("document.getElementById('text').value.startsWith('\\\\begin')")
    assert "0.5 \\%" in page.input_value("#text")


def test_the_address_holds_the_whole_state(opened: Opened) -> None:
    """Opened again it shows the same."""
    page = opened()
    page.select_option("#precision", "fp16")
    page.fill("#memory", "0.003")
    page.click("[data-preset=e]")
    page.click("th[data-key=memory]")
    page.click("button.pick")
    state = page.evaluate("location.hash")
    before = (models(page), page.inner_text("#status"), page.inner_text("#chosen"))
    again = opened(state=state)
    assert (models(again), again.inner_text("#status"), again.inner_text("#chosen")) == before
    assert again.locator("[data-preset=e]").get_attribute("aria-pressed") == "true"


def test_the_plot_tells_a_row_and_chooses_it(opened: Opened) -> None:
    """Hovering over the point of `quick` tells it, a click chooses its row."""
    page = opened()
    page.wait_for_selector("#plot canvas")
    x, y = page.evaluate(
        """() => {
          const view = document.getElementById("plot").view, row = document.querySelector("tr[id*=quick]");
          const box = document.querySelector("#plot canvas").getBoundingClientRect(), origin = view.origin();
          return [box.x + origin[0] + view.scale("x")(Number(row.dataset.memory)),
                  box.y + origin[1] + view.scale("y")(Number(row.dataset.decode))];
        }"""
    )
    page.mouse.move(x + 1, y + 1)
    page.wait_for_selector("#tip:visible")
    assert page.inner_text("#tip").splitlines()[0] == "row: quick (random weights) fake-fp16"
    page.mouse.click(x + 1, y + 1)
    assert page.locator("tr.picked").get_attribute("id") == page.locator("tr[id*=quick]").get_attribute("id")


def test_it_is_read_without_javascript(opened: Opened) -> None:
    """The table is whole, no control that would do nothing is shown."""
    page = opened(java_script_enabled=False)
    assert page.locator("#rows tbody tr").count() == 5
    assert not page.locator("#controls").is_visible()
    assert not page.locator("#figure").is_visible()


def test_it_is_used_by_keyboard_alone(opened: Opened) -> None:
    """Tab reaches the skip link, every control and every row's button; Enter presses it."""
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"device", "precision", "memory", "decode", "loss", "price", "search", "reset", "pick"} <= reached
    page.focus("button.pick")
    page.keyboard.press("Enter")
    assert page.locator("tr.picked").count() == 1


@pytest.mark.parametrize(
    ("options", "background"),
    [({"color_scheme": "light"}, "rgb(255, 255, 255)"), ({"color_scheme": "dark"}, "rgb(17, 21, 26)")],
)
def test_light_and_dark_follow_the_reader(opened: Opened, options: dict[str, Any], background: str) -> None:
    """Without a button."""
    assert opened(**options).evaluate("getComputedStyle(document.body).backgroundColor") == background


def test_a_phone_scrolls_the_table_and_not_the_page(opened: Opened) -> None:
    """Nothing is wider than the screen."""
    page = opened(viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_paper_gets_the_table_alone(opened: Opened) -> None:
    """No controls, no plot, nothing cut off."""
    page = opened()
    page.emulate_media(media="print")
    assert not page.locator("#controls").is_visible()
    assert page.locator("#rows").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflow") == "visible"


def test_a_model_s_page_holds_its_figures_and_the_command(opened: Opened) -> None:
    """Reached from its row."""
    page = opened()
    page.click("text=quick")
    page.wait_for_selector("h1:has-text('quick')")
    said = page.inner_text("main")
    assert "how to measure it again" in said and "--model quick" in said
    assert "samples behind each figure" in said and "age" in said


def test_text_of_a_record_is_text(opened: Opened) -> None:
    """An image with a handler in a machine's name."""
    page = opened("device/cpu-test.html")
    assert page.title() == "cpu-test"
    assert page.locator("img").count() == 0
