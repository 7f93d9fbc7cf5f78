"""The site, built and opened in headless Chromium: it loads cleanly, from nowhere else, and reads well in
light, in dark and on a phone.
"""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import numpy as np
import pandas as pd
import pypdf
import pytest
import yaml
from PIL import Image
from written import write_table

from prefbook.figures import clusters, distinguishability, explorer, ranking
from prefbook.ledger.tables import Tables
from prefbook.publishing import notebooks as publish
from prefbook.publishing import pdf, site
from prefbook.publishing.scoreboard import Scoreboard
from prefbook.running.runs import Run
from prefdyn.errors import PrefdynError
from prefdyn.theory.ranking import dpo_threshold, idealized_log_ratio

pytestmark = pytest.mark.site

ROOT = Path(__file__).parents[3]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}


# The browser --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def address(html: Path) -> Iterator[str]:
    """The site's address on a local server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@dataclass
class Visit:
    """What was seen of one page."""

    url: str
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


ASKED = Path(__file__).with_name("asked.js").read_text(encoding="utf-8")
COLOURS = ["color-contrast", "link-in-text-block"]
SCROLLING = ["scrollable-region-focusable"]


def visit(context: Any, url: str, address: str, rules: list[str] | None = None) -> tuple[Any, Visit]:
    """Open a page, wait for its formulas and colours and run axe-core's rules; requests to elsewhere are
    noted and go nowhere.
    """
    seen = Visit(url)
    page = context.new_page()

    def route(request: Any) -> None:
        inside = request.request.url.startswith((address, "data:", "blob:"))
        if not inside:
            seen.foreign.append(request.request.url)
        request.continue_() if inside else request.abort()

    page.route("**/*", route)
    page.on("console", lambda message: seen.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on(
        "response",
        lambda response: (
            seen.errors.append(f"{response.status} {response.url}") if response.status >= 400 else None
        ),
    )
    page.goto(url, wait_until="load", timeout=120_000)
    page.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise; }")
    page.evaluate("async () => { await document.fonts.ready; }")
    page.evaluate(ASKED)
    page.evaluate("() => asked.settled()")
    seen.facts = page.evaluate("() => asked.facts()") | {"poor": page.evaluate("() => asked.contrast()")}
    page.evaluate(AXE)
    seen.facts["barriers"] = page.evaluate("(rules) => asked.barriers(rules)", rules)
    seen.facts["small"] = page.evaluate("() => asked.small()")
    seen.facts["clipped"] = page.evaluate("() => asked.clipped()")
    return page, seen


def every(
    browser: Any, address: str, names: list[str], rules: list[str] | None, **device: Any
) -> dict[str, Visit]:
    """Pages by name as one device shows them, each visited once."""
    context = browser.new_context(**device)
    seen = {}
    for name in names:
        page, seen[name] = visit(context, f"{address}{name}.html", address, rules)
        page.close()
    context.close()
    return seen


@pytest.fixture(scope="session")
def visits(browser: Any, address: str) -> dict[str, Visit]:
    """Every page of the table of contents, and the search, on a screen by day."""
    screen = {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}
    return every(browser, address, [*PAGES, "index", "search", "genindex"], None, **screen)


@pytest.fixture(scope="session")
def nights(browser: Any, address: str) -> dict[str, Visit]:
    """Every page of the table of contents on a phone in the dark."""
    return every(browser, address, PAGES, [*COLOURS, *SCROLLING], color_scheme="dark", **PHONE)


# What holds of every page -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PAGES, "index", "search", "genindex"])
def test_page_loads_without_error_or_outside_request(visits: dict[str, Visit], name: str) -> None:
    assert visits[name].errors == []
    assert visits[name].foreign == []
    assert visits[name].facts["title"]


@pytest.mark.parametrize("name", PAGES)
def test_formulas_are_typeset(visits: dict[str, Visit], name: str) -> None:
    facts = visits[name].facts
    assert facts["unset"] == [] and facts["merrors"] == [] and facts["raw"] == []
    if name == "book/distinguishability":
        assert facts["formulas"] > 0


@pytest.mark.parametrize("name", PAGES)
def test_images_say_what_they_show(visits: dict[str, Visit], name: str) -> None:
    facts = visits[name].facts
    for words in facts["images"] + facts["drawings"]:
        assert len(words) > 3 and not words.startswith("..") and not words.endswith((".png", ".svg")), (
            f"alternative text: {words!r}"
        )


@pytest.mark.parametrize("name", PAGES)
def test_solutions_are_folded(visits: dict[str, Visit], name: str) -> None:
    assert all(visits[name].facts["folded"])


def test_links_lead_somewhere(visits: dict[str, Visit], html: Path, address: str) -> None:
    ids = {seen.url: set(seen.facts["ids"]) for seen in visits.values()}
    broken = []
    for seen in visits.values():
        for link in seen.facts["links"]:
            target, anchor = urldefrag(link)
            if not target.startswith(address):
                continue
            path = html / unquote(urlsplit(target).path).lstrip("/")
            if not (path.is_file() or (path / "index.html").is_file()):
                broken.append(f"{seen.url} -> {link}: no such page")
            elif anchor and target in ids and unquote(anchor) not in ids[target]:
                broken.append(f"{seen.url} -> {link}: no such anchor")
    assert broken == []


@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_page_bars_nobody(visits: dict[str, Visit], name: str) -> None:
    assert visits[name].facts["barriers"] == []


@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_page_is_light(visits: dict[str, Visit], name: str) -> None:
    assert 100_000 < visits[name].facts["bytes"] < 3 * 2**20


def test_site_holds_one_mathjax(html: Path) -> None:
    assert [path.name for path in (html / "_static" / "mathjax").glob("*.js")] == ["tex-chtml.js"]


def test_only_the_search_loads_its_index(html: Path) -> None:
    loading = [page.name for page in html.rglob("*.html") if "searchindex.js" in page.read_text("utf-8")]
    assert loading == ["search.html"]


def test_root_is_the_first_page(browser: Any, address: str, visits: dict[str, Visit]) -> None:
    root, first = visits["index"].facts, visits[PAGES[0]].facts
    assert root["title"] == first["title"] and root["formulas"] == first["formulas"]
    targets = [{urldefrag(link).url for link in facts["links"]} for facts in (root, first)]
    assert targets[0] - targets[1] <= {f"{address}index.html"}, "its links lead where those of the page lead"
    page = browser.new_page()
    page.goto(address)
    page.get_by_role("link", name="What is learned first?").first.click()
    page.wait_for_url(f"{address}book/distinguishability.html")
    page.close()


def test_site_points_at_no_repository(html: Path) -> None:
    for name in PAGES:
        text = (html / f"{name}.html").read_text(encoding="utf-8")
        assert "executablebooks/jupyter-book" not in text and "mybinder.org" not in text


# What a reader does -------------------------------------------------------------------------------


def test_words_are_painted_before_the_formulas_come(browser: Any, address: str) -> None:
    page = browser.new_page()
    held: list[Any] = []
    page.route("**/mathjax/**", lambda route: held.append(route))
    page.goto(f"{address}book/notation.html", wait_until="commit")
    page.wait_for_function(
        "performance.getEntriesByName('first-contentful-paint').length > 0", timeout=60_000
    )
    assert page.get_by_role("heading", name="Notation").is_visible()
    assert held and page.locator("mjx-container").count() == 0
    for route in held:
        route.abort()
    page.close()


def test_search_finds_a_word(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}book/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("distinguishability")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=distinguishability")
    page.locator('#search-results li a[href*="book/distinguishability.html"]').first.wait_for()
    page.close()


def test_search_of_a_site_on_disk_shows_words_too(browser: Any, address: str, html: Path) -> None:
    """Around the same finds as where it is served, and a page may fetch those that it found."""
    links = []
    for place in (address, f"{html.as_uri()}/"):
        page = browser.new_page()
        page.goto(f"{place}search.html?q=distinguishability")
        page.locator("#search-results li p.context").nth(9).wait_for()
        finds = page.locator("#search-results li:has(p.context)")
        links.append([find.get_attribute("href") for find in finds.locator("> a").all()[:9]])
        chapter = finds.filter(has_text="What is learned first?").first
        assert "distinguishability" in chapter.locator("p.context").inner_text()
        page.close()
    assert links[0] == links[1]


def test_notebook_is_downloaded_by_keyboard(
    browser: Any, address: str, html: Path, executed_chapters: dict[str, Run]
) -> None:
    page = browser.new_page()
    for name, run in executed_chapters.items():
        page.goto(f"{address}book/{name}.html")
        page.get_by_role("button", name="Download this page").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowDown")
        link = page.evaluate("document.activeElement.href")
        assert link == f"{address}_sources/book/{name}.ipynb"
        file = html / "_sources" / "book" / f"{name}.ipynb"
        notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        assert any(cell.get("outputs") for cell in notebook.cells)
        assert file.stat().st_size < 2 * 2**20
        assert str(run.folder) not in file.read_text(encoding="utf-8")
    page.close()


def test_solutions_open_by_keyboard(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}book/distinguishability.html")
    solution = page.locator(".solution.dropdown").first
    solution.locator("button.toggle-button").focus()
    page.keyboard.press("Enter")
    assert "toggle-hidden" not in str(solution.get_attribute("class"))
    page.close()


def test_focus_is_visible(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}book/index.html")
    page.evaluate(ASKED)
    stops = []
    for _ in range(40):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("() => asked.focused()"))
    assert len({words for _, words, _ in stops}) > 20
    assert [stop for stop in stops if stop[0] != "BODY" and not stop[2]] == []
    page.close()


FOLDED = """<article><section style="display: none"><div class="math" style="overflow-x: auto">
<div style="width: 3000px">wide</div></div></section></article><script>%s</script>"""


def test_what_scrolls_can_be_reached_once_it_is_unfolded(browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1000, "height": 600})
    page.set_content(FOLDED % (ROOT / "book" / "_static" / "reach.js").read_text(encoding="utf-8"))
    box = page.locator(".math")
    for display, width, stop in (("none", 1000, None), ("block", 1000, "0"), ("block", 4000, None)):
        page.locator("section").evaluate("(part, display) => { part.style.display = display; }", display)
        page.set_viewport_size({"width": width, "height": 600})
        page.wait_for_timeout(200)
        assert box.get_attribute("tabindex") == stop
    page.close()


def test_pages_of_the_library_hold_no_words_of_pythons_own(html: Path) -> None:
    pages = list((html / "book" / "api").glob("*.html"))
    assert len(pages) == 7
    assert not [page.name for page in pages if "Alias for field number" in page.read_text(encoding="utf-8")]


# Sizes and colours --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(nights: dict[str, Visit], name: str) -> None:
    facts = nights[name].facts
    assert facts["room"] <= 390
    assert facts["width"] <= facts["room"]
    assert facts["articleWidth"] <= facts["articleRoom"]
    assert facts["clipped"] == []
    assert facts["squeezed"] == []
    assert facts["small"] == []


@pytest.mark.parametrize("name", PAGES)
def test_text_stands_out_on_light(visits: dict[str, Visit], name: str) -> None:
    assert visits[name].facts["theme"] == "light"
    assert visits[name].facts["poor"] == []


@pytest.mark.parametrize("name", PAGES)
def test_text_stands_out_and_what_scrolls_has_the_focus_on_a_dark_phone(
    nights: dict[str, Visit], name: str
) -> None:
    assert nights[name].facts["theme"] == "dark"
    assert nights[name].facts["poor"] == []
    assert nights[name].facts["barriers"] == []


# Maps of statements -------------------------------------------------------------------------------


def test_points_of_a_map_show_their_statements(browser: Any) -> None:
    points = "".join(
        f'<use href="#dot" x="{x}" y="{y}"><title>{name}</title></use>'
        for name, x, y in (("left", 20, 50), ("right", 120, 50), ("above", 20, 10))
    )
    drawing = f'<svg width="200" height="100"><defs><circle id="dot" r="8"/></defs>{points}</svg>'
    page = browser.new_page()
    page.set_content(
        f'<figure class="statement-map">{drawing}<output>choose</output></figure><a href="#">next</a>'
    )
    page.add_script_tag(path=ROOT / "book" / "_static" / "tooltips.js")
    shown = page.locator("output")
    assert shown.inner_text() == "choose"
    page.locator("use").nth(1).hover()
    assert shown.inner_text() == "right"
    page.locator("use").nth(0).click()
    assert shown.inner_text() == "left"
    for key, statement in (("ArrowUp", "above"), ("ArrowDown", "left"), ("ArrowRight", "right")):
        page.keyboard.press(key)
        assert shown.inner_text() == statement
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "next"
    page.close()


# Two clouds to drag, and behaviours that say who they are ------------------------------------------


def test_steps_on_two_clouds_are_those_of_the_equation(browser: Any) -> None:
    drawn = distinguishability.boundary_explorer(Tables(ROOT), None)
    page = browser.new_page()
    page.set_content(drawn)
    said, handles = page.locator(".said"), page.locator(".handle")
    assert said.inner_text().startswith("After 0 steps: δ = 2.00, loss 0.693, 50% answered correctly")
    page.get_by_text("ten steps").click()
    page.get_by_text("one step").click()
    given = json.loads(re.search(r"const given = (.*);", drawn)[1])  # type: ignore[index]
    g = (np.array(given["offsets"]) + np.array(given["means"])[:, None]).reshape(-1, 2)
    s = np.repeat([1, -1], len(g) // 2)
    rate = float(page.locator("label output").inner_text())
    assert float(page.locator("label input").get_attribute("aria-valuetext")) == rate
    u = np.zeros(2)
    for _ in range(11):
        u += rate * (s / (1 + np.exp(2 * s * (g @ u)))) @ g / len(s)
    loss = np.log1p(np.exp(-2 * s * (g @ u))).mean()
    right = (s * (g @ (np.array(given["start"]) + 2 * u)) >= 0).mean()
    told = re.match(r"After 11 steps: δ = 2.00, loss ([\d.]+), (\d+)%", said.inner_text())
    # The slider tells its rate, 0.05 times a power of 1.25, to two digits.
    assert told and float(told[1]) == pytest.approx(loss, abs=5e-3) and int(told[2]) == round(100 * right)

    handles.nth(0).focus()
    page.keyboard.press("ArrowUp")
    assert said.inner_text().startswith("After 0 steps: δ = 2.10, loss 0.693")
    box = handles.nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 40)
    page.mouse.up()
    apart = float(re.search(r"δ = ([\d.]+)", said.inner_text())[1])  # type: ignore[index]
    assert apart > 2.4
    page.get_by_text("begin again").click()
    assert "δ = 2.00" in said.inner_text()
    page.close()


def test_finger_drags_a_cloud_and_scrolls_the_page_from_anywhere_else(browser: Any) -> None:
    page = browser.new_page(**PHONE)
    page.set_content(distinguishability.boundary_explorer(Tables(ROOT), None) + "<p style='height: 3000px'>")
    finger = page.context.new_cdp_session(page)

    def swipe(x: float, y: float) -> None:
        """A finger that goes up."""
        finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for up in range(10, 130, 10):
            there = {"type": "touchMove", "touchPoints": [{"x": x, "y": y - up}]}
            finger.send("Input.dispatchTouchEvent", there)
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_timeout(300)

    handle, drawing = page.locator(".handle").nth(0).bounding_box(), page.locator("svg").bounding_box()
    swipe(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    assert page.evaluate("scrollY") == 0
    assert float(re.search(r"δ = ([\d.]+)", page.locator(".said").inner_text())[1]) > 3  # type: ignore[index]
    swipe(drawing["x"] + 5, drawing["y"] + drawing["height"] - 5)
    assert page.evaluate("scrollY") > 0
    page.close()


def test_sliders_show_where_each_promise_speaks(browser: Any, tmp_path: Path) -> None:
    write_table(pd.DataFrame({"Q": [500.0], "seed": [0]}), tmp_path / "bound_of_the_data.csv")
    page = browser.new_page()
    page.set_content(clusters.bounds_explorer(Tables(tmp_path), None))
    said, sliders = page.locator(".said"), page.locator("input")
    assert said.inner_text().startswith("With 501 samples of each of 32 clusters")
    assert said.inner_text().count("which says nothing") == 3
    for where, silent in (("200", 0), ("90", 1)):  # 10¹¹ samples, and some hundred thousand
        sliders.nth(0).evaluate("(slider, to) => { slider.value = to; }", where)
        sliders.nth(0).dispatch_event("input")
        assert said.inner_text().count("which says nothing") == silent
    sliders.nth(1).evaluate("slider => { slider.value = 0; }")
    sliders.nth(1).dispatch_event("input")
    assert "of each of 2 clusters" in said.inner_text()
    assert [slider.get_attribute("aria-valuetext") for slider in sliders.all()] == [
        output.inner_text() for output in page.locator("output").all()
    ]
    page.close()


def test_behaviours_say_who_they_are_by_pointer_and_by_key(browser: Any) -> None:
    content = {
        "names": ["first", "second", "third"],
        "delta": [1.0, 3.0, 2.0],
        "colours": ["#000000"] * 3,
        "outcomes": {"fall": [0.1, 0.2, None], "accuracy": [0.5, 0.6, 0.7]},
    }
    page = browser.new_page()
    page.set_content(explorer.rendered("behaviours.html", "behaviours", content))
    who, points = page.locator(".who"), page.locator("circle")
    points.nth(1).hover()
    assert who.inner_text() == "second: δ 3, fall 0.2"
    points.nth(0).focus()
    page.keyboard.press("ArrowRight")  # the third has no fall, and is passed over
    assert who.inner_text() == "second: δ 3, fall 0.2" and not points.nth(2).is_visible()
    page.locator("select").select_option("accuracy")
    points.nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert who.inner_text() == "third: δ 2, accuracy 0.7"
    page.close()


# A pair's beta, c and alpha -----------------------------------------------------------------------


def test_sliders_move_the_optimum_and_the_threshold(browser: Any) -> None:
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(ranking.threshold_explorer(Tables(ROOT), None))
    said, sliders = page.locator(".said"), page.locator("input")

    def told(beta: int, c: int, alpha: int) -> tuple[str, float, float]:
        for slider, value in zip(sliders.all(), (beta, c, alpha), strict=True):
            slider.fill(str(value))
        found = re.match(r".* the pair (\w+) by ([\d.]+) nats.* at most ([\d.e-]+) nats", said.inner_text())
        assert found
        return found[1], float(found[2]), float(found[3])

    for place, beta in ((0, 0.01), (2, 0.1), (4, 1.0), (6, 10.0)):
        for c in (-20, 0, 20, 60):
            for percent in (50, 75, 100):
                side, far, loss = told(place, c, percent)
                optimum = float(idealized_log_ratio(-c, percent / 100, beta))
                assert side == ("right" if optimum > 0 else "wrong")
                assert far == pytest.approx(abs(optimum), abs=0.051)  # told to a tenth of a nat
                assert loss == pytest.approx(float(dpo_threshold(c, beta)), rel=0.05)  # to two digits
    assert errors == []
    page.close()


# The interactive figure on noise ------------------------------------------------------------------


def test_sliders_move_the_boundary_and_the_curve(browser: Any) -> None:
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(explorer.noise_explorer(draws=50))
    said = page.locator(".said")
    rate, kappa, angle = (page.locator("input").nth(i) for i in range(3))

    def move(slider: Any, key: str, times: int) -> str:
        slider.focus()
        for _ in range(times):
            page.keyboard.press(key)
        return said.inner_text()

    assert "0 of 50 labels are wrong" in move(rate, "ArrowLeft", 4)
    assert page.locator("svg").count() == 2
    loose = page.locator("polyline").nth(1).get_attribute("points")
    clean = move(kappa, "ArrowRight", 3)
    assert (
        "100% of new points do" in move(angle, "ArrowRight", 3)
        and "100% of these points" in said.inner_text()
    ), clean
    assert page.locator("polyline").nth(1).get_attribute("points") != loose
    assert page.locator("polyline").nth(0).get_attribute("points") == loose, (
        "the dashed curve is where the sliders started"
    )
    assert (
        "50 of 50 labels are wrong" in move(rate, "ArrowRight", 20)
        and " 0% of these points" in said.inner_text()
    )
    assert rate.get_attribute("aria-valuetext") == "1.00"
    assert errors == []
    page.close()


# What is published --------------------------------------------------------------------------------


def test_published_notebook_is_lighter_and_names_no_folder(tmp_path: Path) -> None:
    seed = np.random.default_rng(0)
    picture = np.full((300, 400, 3), 255, np.uint8)
    for colour in ((0, 114, 178), (213, 94, 0), (17, 17, 17)):
        for x, y in seed.integers(0, 280, (40, 2)):
            picture[x : x + 6, y : y + 6] = colour
    drawn = io.BytesIO()
    Image.fromarray(picture).save(drawn, "PNG", compress_level=0)
    small = publish.lighter(drawn.getvalue())
    assert len(small) < len(drawn.getvalue()) / 3
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(small)).convert("RGB")), picture)
    assert publish.lighter(small) == small or len(publish.lighter(small)) <= len(small)

    cells = [
        nbformat.v4.new_code_cell(
            'data = "sample"', metadata={"tags": ["injected-parameters"], "papermill": {}}
        ),
        nbformat.v4.new_code_cell(
            'output = "mine"',
            outputs=[
                nbformat.v4.new_output(
                    "display_data", {"image/png": base64.b64encode(drawn.getvalue()).decode()}
                )
            ],
        ),
    ]
    source, target = tmp_path / "source.ipynb", tmp_path / "target.ipynb"
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=cells, metadata={"papermill": {"input_path": "/tmp/secret"}, "prefdyn": {"key": "secret"}}
        ),
        source,
    )
    publish.notebook(source, target)
    made = nbformat.read(target, as_version=4)
    assert [cell.source for cell in made.cells] == ['data = "sample"', 'output = "mine"']
    assert base64.b64decode(made.cells[1].outputs[0].data["image/png"]) == small
    assert "secret" not in target.read_text(encoding="utf-8")


PRINTED = """<html><head><title>T</title></head><body><article class="bd-article"><section id="top">
<h1>%s</h1><p>Words of %s.</p><a href="%s">onward</a>
<div class="solution dropdown"><p>the solution</p></div><details class="hide"><pre>code</pre></details>
<svg><defs><circle id="dot" r="2"></circle></defs><use href="#dot"></use></svg>
</section></article></body></html>"""


def test_pages_become_one_file(tmp_path: Path, browser: Any) -> None:
    folder = tmp_path / "the site" / "html" / "book"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(PRINTED % ("First page", "one", "second.html#top"))
    (folder / "second.html").write_text(PRINTED % ("Second page", "two", "https://example.org/"))
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n  - chapters:\n      - file: book/second\n"
    )
    made = pdf.build(tmp_path, folder.parent / "index.html")
    assert made == tmp_path / "the site" / "book.pdf" and [
        path.name for path in sorted(folder.iterdir())
    ] == ["index.html", "second.html"]
    reader = pypdf.PdfReader(made)
    words = "\n".join(page.extract_text() for page in reader.pages)
    assert words.count("the solution") == 2 and "code" not in words
    assert [entry.title for entry in reader.outline] == ["First page", "Second page"]
    targets = [note.get_object() for page in reader.pages for note in page.get("/Annots", [])]
    assert [str(note["/A"]["/URI"]) for note in targets if "/A" in note and "/URI" in note["/A"]] == [
        "https://example.org/"
    ]
    assert len(targets) == 2, "the other link leads to the second page"


def test_pages_are_printed_with_their_formulas(html: Path, browser: Any, tmp_path: Path) -> None:
    some = ["book/index", "book/read", "book/notation"]
    chapters = "".join(f"      - file: {name}\n" for name in some[1:])
    (tmp_path / "_toc.yml").write_text(f"format: jb-book\nroot: {some[0]}\nparts:\n  - chapters:\n{chapters}")
    reader = pypdf.PdfReader(pdf.build(tmp_path, html / "index.html"))
    pages = [page.extract_text() for page in reader.pages]
    assert [number for number, words in enumerate(pages, 1) if len(words.strip()) < 5] == []
    assert re.findall(r".{0,30}(?:\\\(|\\\[|\$\$|\\frac|\{eq\}).{0,30}", "\n".join(pages)) == []
    titles = [
        re.search(r"^# (.*)$", (ROOT / f"{name}.md").read_text(encoding="utf-8"), re.M)[1]  # type: ignore[index]
        for name in some
    ]
    assert [entry.title for entry in reader.outline if not isinstance(entry, list)] == titles


def test_no_chromium_is_said_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PrefdynError, match="no Chromium on this machine"):
        pdf.find_browser()


# The scoreboard's filter --------------------------------------------------------------------------


@pytest.fixture
def scores(root: Path, leave: Callable[..., None], browser: Any) -> Iterator[Any]:
    """A page with a scoreboard of two empirical claims, of which only E-1 was measured."""
    leave(root / "results" / "reference" / "first", rise=(1, -1, 3, 9))
    claims = root / "book" / "claims.yml"
    text = claims.read_text(encoding="utf-8")
    claims.write_text("other2025".join(text.rsplit("someone2024", 1)), encoding="utf-8")
    page = browser.new_page()
    page.set_content(Scoreboard({"other2025": "The other paper"}, root).html("empirical"))
    page.add_style_tag(path=ROOT / "book" / "_static" / "scoreboard.css")
    yield page
    page.close()


def test_filter_shows_the_claims_of_a_paper_and_a_verdict_and_says_how_many(scores: Any) -> None:
    shown, said = scores.locator("tbody:visible"), scores.get_by_role("status")
    assert shown.count() == 2 and not scores.locator("form").is_visible()
    assert scores.locator("tbody tr:visible").count() == 5, "without the script the table is whole"
    scores.add_script_tag(path=ROOT / "book" / "_static" / "scoreboard.js")
    assert said.inner_text() == "2 claims"

    paper, verdict = scores.get_by_label("Paper"), scores.get_by_label("Verdict")
    scores.keyboard.press("Tab")
    assert scores.evaluate("document.activeElement.name") == "paper"
    scores.keyboard.type("The other")  # chooses as one types
    assert paper.input_value() == "other2025"
    assert [node.get_attribute("id") for node in shown.all()] == ["claim-e-2"]
    assert said.inner_text() == "1 of 2 claims"

    paper.select_option("")
    for word, count in (("inconclusive", 1), ("supported", 0), ("not run", 1)):
        verdict.select_option(f"0 {word}")
        assert shown.count() == count
    verdict.select_option("")
    assert shown.count() == 2 and said.inner_text() == "2 claims"


def test_statistics_of_a_claim_unfold_by_keyboard_and_by_link(scores: Any) -> None:
    scores.add_script_tag(path=ROOT / "book" / "_static" / "scoreboard.js")
    rows = scores.locator("tbody tr:visible")
    assert rows.count() == 2
    button = scores.get_by_role("button", name="how it is measured").first
    button.focus()
    scores.keyboard.press("Enter")
    assert rows.count() == 4 and scores.get_by_role("button", name="fold").first.is_visible()
    scores.evaluate("location.hash = '#claim-e-2'")
    scores.wait_for_function("!document.querySelector('#claim-e-2').classList.contains('folded')")
    assert rows.count() == 5


# Building -----------------------------------------------------------------------------------------


def test_second_build_has_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def pretend(stage: Path) -> None:
        calls.append(stage)
        (stage / "_build" / "html" / "book").mkdir(parents=True)
        (stage / "_build" / "html" / "book" / "index.html").write_text("made")

    monkeypatch.setattr(site, "_jupyter_book", pretend)
    notebook = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("first words")]), notebook)
    (tmp_path / "points.csv").write_text("# seeds: 0\nseed\n0\n")
    (tmp_path / "mine.csv").write_text("what\nelse\n")
    for _ in range(2):
        assert site.build(ROOT, {"distinguishability": notebook}, tmp_path / "out").read_text() == "made"
    assert len(calls) == 1
    staged = tmp_path / "out" / "site" / "book"
    assert (staged / "distinguishability.ipynb").is_file() and not (staged / "distinguishability.md").exists()
    notebook.write_text(notebook.read_text().replace("first words", "other words"))
    site.build(ROOT, {"distinguishability": notebook}, tmp_path / "out")
    assert len(calls) == 2
    laid = tmp_path / "out" / "site" / "_build" / "runs" / "distinguishability" / "points.csv"
    assert laid.read_text() == "# seeds: 0\nseed\n0\n" and [*laid.parent.iterdir()] == [laid]
    (tmp_path / "mine.csv").write_text("what\nnot\n")
    site.build(ROOT, {"distinguishability": notebook}, tmp_path / "out")
    assert len(calls) == 2, "nothing of the site is made of that"
    (tmp_path / "points.csv").write_text("# seeds: 1\nseed\n1\n")
    site.build(ROOT, {"distinguishability": notebook}, tmp_path / "out")
    assert len(calls) == 3, "another table is another scoreboard"


BUILDING = """
import sys, time
from pathlib import Path
from prefbook.publishing import site

def pretend(stage):
    with open(stage.parents[1] / "order", "a") as order:
        order.write(f"{sys.argv[3]} begins, ")
        order.flush()
        time.sleep(2)
        (stage / "_build" / "html" / "book").mkdir(parents=True)
        for name in ("book/index.html", "other.html"):
            (stage / "_build" / "html" / name).write_text(sys.argv[3])
        order.write(f"{sys.argv[3]} ends, ")

site._jupyter_book = pretend
site.build(Path(sys.argv[1]), {"distinguishability": Path(sys.argv[2])}, Path(sys.argv[1], "out"))
"""


def test_second_of_two_builds_waits_for_the_first(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "book", tmp_path / "book")
    for name in site.SETTINGS:
        shutil.copy(ROOT / name, tmp_path)
    processes = []
    for name in ("a", "b", "c"):
        notebook = tmp_path / name / "page.ipynb"
        notebook.parent.mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(name)]), notebook)
        command = [sys.executable, "-c", BUILDING, tmp_path, notebook, name]
        processes.append(subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    order = (tmp_path / "order").read_text().strip(", ").split(", ")
    assert [f"{first.split()[0]} ends" for first in order[::2]] == order[1::2]
    html = tmp_path / "out" / "html"
    assert {(html / name).read_text() for name in ("index.html", "other.html")} == {order[-1][0]}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["html", "site"]
    assert any("another process is making" in text for text in said)


def test_warning_stops_the_build_and_is_shown(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "book" / "_static")
    shutil.copy(ROOT / "book" / "references.bib", tmp_path / "book")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (tmp_path / "book" / "index.md").write_text("# Title\n\nSee {doc}`nowhere`.\n")
    with pytest.raises(PrefdynError, match=r"index\.md:3: WARNING: unknown document: 'nowhere'"):
        site.build(tmp_path, {})
    assert not (tmp_path / "_build" / "html").exists()


def test_missing_notebook_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrefdynError, match=r"absent\.ipynb: no such file"):
        site.build(ROOT, {"distinguishability": tmp_path / "absent.ipynb"}, tmp_path / "out")
