"""An explorer in a real JupyterLab: a slider is moved in a browser, and the kernel answers.

Everything else about widgets is tested without a browser. This test covers what the others cannot:
that the browser finds the widgets, that a move reaches the kernel, and that the scripts of an
interactive page run. It leaves a screenshot in out/explorer.png.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

HOUSE = Path(__file__).parents[1]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PATIENCE = (
    40  # seconds for any one thing to happen; on an idle machine all together takes half of it
)
TOKEN = "only-this-test"

EXPLORER = """
import torch
from PIL import Image
from minidream.probe import Trace
patches = [(0, row, column) for row in range(2) for column in range(3)]
inputs = ["<s>", "a", "red", "circle", *patches, 0, 1]
weights = torch.rand(3, 2, 2, len(inputs), generator=torch.Generator().manual_seed(0))
weights /= weights.sum(dim=-1, keepdim=True)
trace = Trace(weights, inputs, [Image.new("RGB", (30, 20), "red")])
trace.explore()
"""
PAGE = """
from minidream.plots import hover_two_hops
hops = torch.rand(len(inputs), 2, 3, generator=torch.Generator().manual_seed(1))
hover_two_hops(trace.images[0], hops / hops.sum(dim=0), inputs)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def jupyterlab(folder: Path):
    """A JupyterLab that serves a folder and keeps its own files there; yields its address.

    It ends with the block, and so do its kernels.
    """
    port, own, log = free_port(), folder / "jupyter", folder / "server.log"
    news = (
        own / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    )
    news.parent.mkdir(parents=True)
    news.write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False}), encoding="utf-8"
    )  # else it asks, over the notebook
    environment = {
        f"JUPYTER_{name}_DIR": str(own / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    } | {"IPYTHONDIR": str(own / "ipython")}
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={TOKEN}",
        f"--LabApp.workspaces_dir={own / 'workspaces'}",
        f"--LabApp.user_settings_dir={own / 'settings'}",
    ]
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    with log.open("w", encoding="utf-8") as file:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdout=file, stderr=file
        )
    try:
        while not answers(f"{address}/api?token={TOKEN}"):
            assert server.poll() is None and time.monotonic() < end, (
                f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}"
            )
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()  # it shuts its kernels down, and waits for them
        try:
            server.wait(timeout=15)
        except subprocess.TimeoutExpired:
            server.kill()  # its kernels notice
            server.wait()


def answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def browser(play, folder: Path):
    """A page of a Chromium that has never run before; it is closed with the block."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--no-first-run",
    ]
    context = play.chromium.launch_persistent_context(
        folder / "browser",
        executable_path=CHROMIUM,
        headless=True,
        args=flags,
        viewport={"width": 1250, "height": 1000},
    )
    context.set_default_timeout(1000 * PATIENCE)
    try:
        yield context.pages[0]
    finally:
        context.close()


@pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium to open JupyterLab in (.ci/run installs one)"
)
def test_a_slider_that_is_moved_in_jupyterlab_brings_another_picture(tmp_path):
    playwright = pytest.importorskip(
        "playwright.sync_api",
        reason="playwright, which drives the browser, is missing: it is in the extra `test`",
    )
    playwright.expect.set_options(timeout=1000 * PATIENCE)
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source.strip()) for source in (EXPLORER, PAGE)]
    )
    book.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(book, tmp_path / "explorer.ipynb")
    with (
        jupyterlab(tmp_path) as address,
        playwright.sync_playwright() as play,
        browser(play, tmp_path) as page,
    ):
        page.goto(f"{address}/lab/tree/explorer.ipynb?token={TOKEN}")
        page.get_by_text("| Idle").wait_for()  # the kernel is there
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

        picture, readouts = page.locator("img.widget-image"), page.locator(".widget-readout")
        picture.wait_for()
        playwright.expect(readouts).to_have_text(["mean", "mean", "all"])
        source, pixels = picture.get_attribute("src"), picture.screenshot()
        page.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        playwright.expect(picture).not_to_have_attribute("src", source)
        playwright.expect(readouts).to_have_text(["0", "mean", "all"])
        assert picture.screenshot() != pixels

        words, cells = page.locator("[data-input]"), page.locator("[data-cell]")
        tinted = re.compile("background: rgb")
        words.nth(2).hover()
        playwright.expect(cells.first).to_have_attribute("style", tinted)
        cells.first.focus()
        page.keyboard.press("ArrowRight")
        playwright.expect(cells.nth(1)).to_be_focused()
        playwright.expect(words.nth(2)).to_have_attribute("style", tinted)
        playwright.expect(page.locator(".minidream-said")).to_contain_text("cell (0, 1) comes from")

        (HOUSE / "out").mkdir(exist_ok=True)
        page.screenshot(path=HOUSE / "out" / "explorer.png")
