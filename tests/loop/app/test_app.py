"""The FiftyOne App on a run, driven in headless Chromium with the real mongod.

The App runs in a process of its own, as for a person who typed `gapclose app RUN`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apart import BROWSERS, MONGOD
from make_run import make_run

CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.skipif(not MONGOD.is_file(), reason="FiftyOne has no mongod here"),
]


@pytest.fixture(scope="module")
def app(
    tmp_path_factory: pytest.TempPathFactory, fiftyone_alone: None
) -> Iterator[tuple[str, Path]]:
    """The App's address, and the run that it shows."""
    root = tmp_path_factory.mktemp("app")
    run = make_run(root / "run").path
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = {"HOME": str(root), "FIFTYONE_DATABASE_DIR": str(root / "db")}
    command = [sys.executable, "-m", "gapclose.loop.cli", "app", str(run), "--port", str(port)]
    said = root / "said.txt"  # a pipe would stay open as long as mongod, which outlives the App
    with said.open("w") as out:
        process = subprocess.Popen(
            command, env=os.environ | home, stdout=out, stderr=out, preexec_fn=_listens
        )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not _answers(address):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < until, "the App does not answer"
            time.sleep(0.5)
        yield address, run
    finally:
        ended = _interrupted(process)
    assert ended == 130


def _listens() -> None:
    """In the child: what a shell runs in its background is deaf to Ctrl-C, and so are its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupted(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C, again where one was lost in a callback; an App left behind would disturb others."""
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    return process.wait()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def page(app: tuple[str, Path]) -> Iterator[Any]:
    """The App as it opens; nothing but this machine is asked for anything."""
    from playwright.sync_api import sync_playwright

    address, _ = app
    flags = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(flags))
        page = chromium.new_page(viewport={"width": 1600, "height": 1000})
        page.add_init_script("performance.setResourceTimingBufferSize(5000)")  # of 250
        page.route(
            lambda url: not url.startswith((address, "data:", "blob:")), lambda r: r.abort()
        )
        page.goto(address)
        page.wait_for_selector(".emb-run-card", timeout=90_000)
        yield page
        chromium.close()


def counts(page: Any) -> dict[str, str]:
    """What the map's legend says of each side."""
    said = page.locator(".emb-plot-scene").inner_text()
    return dict(re.findall(r"(real|synthetic)\n([\d,]+(?: / [\d,]+)?)", said))


def choose(page: Any, view: str) -> None:
    """Choose a saved view by its name."""
    page.locator("[data-cy=saved-views-selection-container]").click()
    page.get_by_text(view, exact=True).last.click()


def test_the_workspace_opens_and_the_map_shows_both_sides(
    page: Any, app: tuple[str, Path]
) -> None:
    rows = [json.loads(line) for line in (app[1] / "samples.jsonl").read_text().splitlines()]
    sides = [row["side"] for row in rows]
    for panel in ("Samples", "Histograms", "Embeddings"):
        assert page.get_by_text(panel, exact=True).count(), panel
    advert = page.locator(".MuiPopover-root").get_by_text("Dismiss", exact=True)
    if advert.count():
        advert.first.click()
    page.locator(".emb-run-card").get_by_text("clip_umap", exact=True).click()
    page.get_by_label("Color by").click()
    page.get_by_role("option", name="side", exact=True).click()
    page.get_by_text(f"{len(rows):,} points").wait_for(timeout=30_000)
    page.locator(".emb-plot-scene").get_by_text("synthetic").wait_for(timeout=30_000)
    assert counts(page) == {side: f"{sides.count(side):,}" for side in ("real", "synthetic")}


def test_a_class_of_its_own_view_shows_its_images_and_their_count(
    page: Any, app: tuple[str, Path]
) -> None:
    rows = [json.loads(line) for line in (app[1] / "samples.jsonl").read_text().splitlines()]
    frogs = [row["side"] for row in rows if row["class"] == "frog"]
    choose(page, "frog")
    page.get_by_text(f"{len(frogs)} samples").wait_for(timeout=30_000)
    page.get_by_text(f"{len(frogs)} in view").wait_for(timeout=30_000)
    for side, said in counts(page).items():
        assert said.split(" / ")[0] == str(frogs.count(side))


def test_the_view_of_the_frogs_that_stand_apart_shows_them_and_their_count(
    page: Any, app: tuple[str, Path]
) -> None:
    rows = [json.loads(line) for line in (app[1] / "samples.jsonl").read_text().splitlines()]
    inside = [row for row in rows if 0 in row.get("clusters", ())]
    assert {(row["class"], row["side"]) for row in inside} == {("frog", "synthetic")}
    choose(page, f"frog: only synthetic, green frog ({len(inside)}) #0")
    page.get_by_text(f"{len(inside)} samples").wait_for(timeout=30_000)
    page.get_by_text(f"{len(inside)} in view").wait_for(timeout=30_000)
    assert counts(page)["synthetic"].split(" / ")[0] == str(len(inside))
    # The images themselves: each of these files was asked for and came.
    page.wait_for_function(
        """paths => {
            const came = performance.getEntriesByType("resource")
                .filter(e => e.responseStatus === 200).map(e => decodeURIComponent(e.name));
            return paths.every(path => came.some(name => name.endsWith(path)));
        }""",
        arg=[row["path"] for row in inside],
        timeout=30_000,
    )
