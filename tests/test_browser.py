"""The pages in a real browser: what it logs, shows on hovering and on focus, and how it fits.

An installed Chromium is driven; none is downloaded. MSFT_NEEDS_BROWSER=1 makes its absence an
error, as in .ci/run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_kit import HOSTILE, StandIn
from test_compare import write_run

import msft_core
from msft_core.engine.compare import write_page

LONG = [f"soft-coated_wheaten_terrier_of_the_long-haired_kind_{number}" for number in range(7)]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    needed = os.environ.get("MSFT_NEEDS_BROWSER") == "1"
    if found is None and not needed:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    assert found, "MSFT_NEEDS_BROWSER=1, but no Chromium is installed"
    sync_api = pytest.importorskip("playwright.sync_api") if not needed else None
    if sync_api is None:
        from playwright import sync_api
    with sync_api.sync_playwright() as playwright:
        # Inside a container there is no namespace for its sandbox.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of two classes, and one of many with long and hostile names."""
    written = {}
    skipped = [{"split": "train", "id": HOSTILE[0] + "/\udce9.jpg", "reason": "not an image"}]
    for name, run in {
        "two": {"images_count": 48},
        "many": {
            "classes": [*HOSTILE, *LONG],
            "images_count": 140,
            "epochs": 60,
            "skipped": skipped,
        },
    }.items():
        folder = tmp_path_factory.mktemp(name)
        stand_in = StandIn(folder, **run).write_folder(warnings=["one", "two"])  # type: ignore[arg-type]
        written[name] = stand_in.pages.report(folder / "report.html")
    return written


@pytest.fixture
def show(browser: Any) -> Iterator[Any]:
    """Open a page, and fail where the browser complained or asked for anything else."""
    complaints: list[str] = []
    contexts = []

    def opened(path: Path, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))

        def requested(request: Any) -> None:
            if not request.url.startswith(("file:", "data:")):
                complaints.append(request.url)

        page.on("request", requested)
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("width", [360, 1600])
@pytest.mark.parametrize("name", ["two", "many"])
def test_a_report_fits_the_window_without_scrolling_sideways(
    pages: dict[str, Path], show: Any, name: str, width: int
) -> None:
    page = show(pages[name], width)
    _require_fitting(page)


def _require_fitting(page: Any) -> None:
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    # What does not fit scrolls in a box of its own, and nothing is cut off at the window's edge.
    beyond = page.evaluate(
        """[...document.querySelectorAll('main *, header *')].filter(one =>
            !one.closest('.scroll, .spot, .unseen, pre')
            && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"""
    )
    assert beyond == []


def test_hovering_over_a_chart_shows_the_values_of_an_epoch(
    pages: dict[str, Path], show: Any
) -> None:
    page = show(pages["two"])
    spot = page.locator(".chart").first.locator(".spot").nth(2)
    tip = spot.locator(".tip")
    assert not tip.is_visible()
    spot.hover()
    assert tip.is_visible()
    text = tip.inner_text()
    assert "epoch 3" in text
    assert "training" in text
    assert "0.3333" in text
    assert "0.4" in text
    page.mouse.move(0, 0)
    assert not tip.is_visible()


def test_the_keyboard_reaches_the_same_values(pages: dict[str, Path], show: Any) -> None:
    page = show(pages["two"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.get_attribute("aria-label") == "epoch 2: training 0.5, validation 0.6"
    assert focused.locator(".tip").is_visible()


def test_a_value_is_never_shown_beyond_the_edge_of_a_narrow_window(
    pages: dict[str, Path], show: Any
) -> None:
    page = show(pages["many"], 360)
    edges = page.evaluate(
        """[...document.querySelectorAll('.spot[tabindex]')].map(spot => {
            spot.focus();
            const box = spot.querySelector('.tip').getBoundingClientRect();
            return [box.left, box.right];
        })"""
    )
    assert len(edges) > 50
    assert min(left for left, _ in edges) >= 0
    assert max(right for _, right in edges) <= 360


def test_a_long_run_has_few_stops_for_the_keyboard(pages: dict[str, Path], show: Any) -> None:
    chart = show(pages["many"]).locator(".chart").first
    assert chart.locator(".spot").count() == 60
    assert chart.locator(".spot[tabindex]").count() <= 31


def test_light_and_dark_follow_the_system(pages: dict[str, Path], show: Any) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = show(pages["two"], scheme=scheme)
        colours[scheme] = page.evaluate(
            """[getComputedStyle(document.body).backgroundColor,
                getComputedStyle(document.querySelector('.plot svg text')).fill]"""
        )
    (paper, ink), (dark, light) = colours["light"], colours["dark"]
    assert _brightness(paper) > 200 > _brightness(ink)
    assert _brightness(dark) < 60 < _brightness(light)


def _brightness(colour: str) -> float:
    return sum(map(float, colour.removeprefix("rgb(").removesuffix(")").split(","))) / 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["two", "many"])
def test_axe_finds_nothing_of_level_a_and_aa(
    pages: dict[str, Path], show: Any, name: str, scheme: str
) -> None:
    page = show(pages[name], scheme=scheme)
    _require_accessible(page)


def _require_accessible(page: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}}).response
    assert found["passes"]
    assert [
        (one["id"], one["nodes"][0]["html"][:200], one["nodes"][0]["failureSummary"])
        for one in found["violations"]
    ] == []


def test_it_prints_all_of_its_parts(pages: dict[str, Path], show: Any, tmp_path: Path) -> None:
    page = show(pages["two"], scheme="dark")
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.emulate_media(media="print")
    assert _brightness(page.evaluate("getComputedStyle(document.body).backgroundColor")) > 200
    assert not page.locator("nav").is_visible()
    assert page.locator("details.config pre").is_visible()


def test_hostile_names_are_shown_as_they_are(pages: dict[str, Path], show: Any) -> None:
    page = show(pages["many"])
    text = page.locator("main").inner_text()
    assert HOSTILE[0] in text
    assert "{{ 7 * 7 }}" in text
    assert "\\udce9" in text
    assert page.evaluate("document.querySelectorAll('script').length") == 0
    assert page.evaluate("document.querySelectorAll('img:not([src^=data])').length") == 0


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about runs with long and hostile names."""
    folder = tmp_path_factory.mktemp("comparison")
    names = [LONG[0], *(name.replace("/", "-")[:200] for name in HOSTILE)]
    runs = [write_run(folder / name, [True, bool(n % 2)]) for n, name in enumerate(names)]
    return write_page(msft_core.compare(runs), folder / "compare.html")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1600, "dark")])
def test_a_comparison_fits_the_window_and_axe_finds_nothing(
    comparison: Path, show: Any, width: int, scheme: str
) -> None:
    page = show(comparison, width, scheme)
    _require_fitting(page)
    _require_accessible(page)
