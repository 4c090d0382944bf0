"""The book that `make book` has built: every page is opened in a browser that has no network.

It leaves three screenshots in out/: of the front page, of a notebook and of the two-hop explorer.
"""

import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from test_lab import CHROMIUM, HOUSE, browser

pytestmark = pytest.mark.slow

BOOK = HOUSE / "out" / "book"
EXPLORER = BOOK / "notebooks" / "book" / "two_hops.html"
KEPT = {"index.html": "front", "notebooks/00_quickstart.html": "notebook"}
# What is wrong with a page, and what else has to be compared with other pages.
LOOK = r"""() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const prose = (document.querySelector("article") || document.body).cloneNode(true);
  for (const code of prose.querySelectorAll("pre, code, math, script, style")) code.remove();
  return {
    links: all("a[href]").map((link) => link.href),
    ids: all("[id]").map((element) => element.id),
    wrong: [
      ...all("img").filter((image) => !image.naturalWidth).map((image) => `image ${image.src}`),
      ...all("script[type*=widget]").map(() => "a widget that waits for a kernel"),
      ...all(".cell_output .output").filter((output) => !output.innerText.trim()
        && !output.querySelector("img, svg, table, iframe")).map(() => "an empty output"),
      ...(prose.textContent.match(/\$\$|\\(frac|sqrt|sum|text|cdot)\b/g) || []),
      ...(document.documentElement.scrollWidth > innerWidth ? ["wider than the window"] : []),
    ],
  };
}"""


def file_of(address: str) -> Path:
    """The file of a file:// address."""
    return Path(unquote(urlparse(address).path))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of a browser; errors and requests of what it opens are in `page.noticed`."""
    if not (BOOK / "index.html").exists():
        pytest.skip("there is no book in out/book: `make book` builds it")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium to open the book in")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing")
    with (
        playwright.sync_playwright() as play,
        browser(play, tmp_path_factory.mktemp("book")) as page,
    ):
        page.noticed = []
        page.on("pageerror", lambda error: page.noticed.append(f"script: {error}"))
        page.on("requestfailed", lambda request: page.noticed.append(f"failed: {request.url}"))
        page.on("request", lambda request: page.noticed.extend(from_elsewhere(request.url)))
        yield page


def from_elsewhere(address: str) -> list[str]:
    """What a page must not load: anything but files and data."""
    return [] if re.match("(file|data|blob|about):", address) else [f"from elsewhere: {address}"]


def test_no_image_link_or_frame_of_any_page_is_broken(page):
    wrong, links, ids = [], {}, {}
    for path in sorted(BOOK.rglob("*.html")):
        page.noticed.clear()
        page.goto(path.as_uri())
        found, name = page.evaluate(LOOK), path.relative_to(BOOK)
        for frame in page.frames[1:]:
            if not frame.locator("[data-hops]").count():
                found["wrong"].append(f"an empty frame: {frame.url}")
        if str(name) in KEPT:
            page.screenshot(path=HOUSE / "out" / f"book_{KEPT[str(name)]}.png")
        wrong += [f"{name}: {each}" for each in [*found["wrong"], *page.noticed]]
        ids[path] = {"", *found["ids"]}
        links |= {link: name for link in found["links"]}
    for link, name in links.items():
        address, anchor = urldefrag(link)
        if address.startswith("file:"):
            target = file_of(address)
            if not target.is_file():
                wrong.append(f"{name}: there is no {address}")
            elif target in ids and unquote(anchor) not in ids[target]:
                wrong.append(f"{name}: nothing in {address} has the name {anchor}")
    assert len(ids) > 30 and not wrong, "\n".join(wrong)


def test_the_explorer_needs_no_kernel_and_no_mouse(page):
    page.goto(EXPLORER.as_uri())
    shown = page.locator("section:visible")
    tinted = re.compile("background: rgb")
    word, said = shown.locator("[data-input]").nth(2), shown.locator(".minidream-said")
    word.focus()
    assert tinted.search(shown.locator("[data-cell]").first.get_attribute("style"))
    assert tinted.search(shown.locator("[data-query]").first.get_attribute("style"))
    assert word.text_content() in said.text_content() and "attend to it most" in said.text_content()
    shown.locator("[data-query]").nth(3).focus()
    assert said.text_content().startswith("Query 3 has")
    assert tinted.search(word.get_attribute("style"))
    shown.locator("[data-cell]").first.focus()
    page.keyboard.press("ArrowRight")
    assert said.text_content().startswith("cell (0, 1) comes from")
    page.screenshot(path=HOUSE / "out" / "book_explorer.png")
    page.locator("select").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("section").nth(1).is_visible()
    assert not page.locator("section").first.is_visible()
