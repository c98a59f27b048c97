"""The FiftyOne App on a run, driven in headless Chromium with the real mongod.

The App runs in a process of its own, as for a person who typed `gapclose app RUN`. It is asked
over HTTP, too, by who has its token and who does not.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from apart import BROWSERS, MONGOD
from make_run import make_run

from gapclose.loop.app.viewer import dataset_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A server, asked by whoever has a cookie or none."""

    address: str
    cookie: str | None = None

    def get(self, path: str, query: dict[str, str] | None = None, **headers: str) -> Answer:
        return self.raw(f"{path}?{urlencode(query)}" if query else path, headers)

    def post(self, path: str, data: dict[str, Any], **headers: str) -> Answer:
        kind = {"content-type": "application/json"}
        return self.raw(path, kind | headers, json.dumps(data).encode())

    def raw(
        self, target: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        cookie = {"cookie": self.cookie} if self.cookie else {}
        # Not urllib, which follows and mends what it is given.
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=30)
        method = "GET" if body is None else "POST"
        connection.request(method, target, body, {**cookie, **(headers or {})})
        with contextlib.closing(connection), connection.getresponse() as answer:
            return Answer(
                status=answer.status,
                headers={key.lower(): value for key, value in answer.getheaders()},
                body=answer.read(),
            )


CHROMIUM = next((path for path in map(shutil.which, BROWSERS) if path), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MONGOD.is_file(), reason="FiftyOne has no mongod here"),
]


@pytest.fixture(scope="module")
def app(
    tmp_path_factory: pytest.TempPathFactory, fiftyone_alone: None
) -> Iterator[tuple[str, Path]]:
    """The address that the App printed, and the run that it shows."""
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
    try:
        until = time.monotonic() + 120
        while (url := printed_address(said.read_text())) is None:
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < until, "the App does not open"
            time.sleep(0.5)
        assert url.startswith(f"http://127.0.0.1:{port}/?token=")
        yield url, run
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


def printed_address(said: str) -> str | None:
    found = re.search(r"^open (\S+) in a browser", said, re.MULTILINE)
    return found[1] if found else None


@pytest.fixture(scope="module")
def page(app: tuple[str, Path]) -> Iterator[Any]:
    """The App as it opens; nothing but this machine is asked for anything."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    url, _ = app
    address = url.partition("?")[0]
    flags = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(flags))
        page = chromium.new_page(viewport={"width": 1600, "height": 1000})
        page.add_init_script("performance.setResourceTimingBufferSize(5000)")  # of 250
        page.route(
            lambda url: not url.startswith((address, "data:", "blob:")), lambda r: r.abort()
        )
        page.goto(url)
        page.wait_for_selector(".emb-run-card", timeout=90_000)
        yield page
        chromium.close()


@pytest.fixture(scope="module")
def entered(app: tuple[str, Path]) -> Asked:
    """What a browser has after the printed address: the server's own, and its cookie."""
    address, _, token = app[0].partition("/?token=")
    answer = Asked(address=address).get("/", query={"token": token})
    assert answer.status == 200
    return Asked(address=address, cookie=answer.headers["set-cookie"].partition(";")[0])


def test_without_the_token_it_tells_nothing(app: tuple[str, Path], entered: Asked) -> None:
    image = str(next((app[1] / "images").rglob("*.png")))
    anybody = Asked(address=entered.address)
    for asked in (
        anybody.get("/"),
        anybody.get("/media", query={"filepath": "/etc/hostname"}),
        anybody.get("/media", query={"filepath": image}),
        anybody.get("/", query={"token": "x"}),
        anybody.post("/graphql", {"query": "{ uid }"}),
        anybody.post("/events", {}),
    ):
        assert asked.status == 403
        assert asked.body.startswith(b"refused: ")
        assert asked.body.count(b"\n") == 1


def test_with_the_token_it_reads_the_images_that_the_run_shows_and_no_other_file(
    app: tuple[str, Path], entered: Asked, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in (app[1] / "samples.jsonl").read_text().splitlines()]
    for row in (rows[0], rows[-1]):
        path = app[1] / row["path"]
        read = entered.get("/media", query={"filepath": str(path)})
        assert (read.status, read.body) == (200, path.read_bytes())
    assert {rows[0]["side"], rows[-1]["side"]} == {"real", "synthetic"}
    (tmp_path / "other.png").write_bytes(path.read_bytes())
    for other in ("/etc/hostname", f"{app[1]}/config.yaml", str(tmp_path / "other.png")):
        for name in ("/media", "/media%0a", "/media/"):  # FiftyOne's route matches the second, too
            assert entered.get(name, query={"filepath": other}).status == 403
        assert entered.raw(f"/media?filepath={path}&filepath={other}").status == 403


def test_another_origin_or_name_gets_nothing_even_with_the_cookie(entered: Asked) -> None:
    uid = {"query": "{ uid }"}
    own = entered.post("/graphql", uid, origin=entered.address)
    assert own.status == 200
    assert b"uid" in own.body
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert entered.post("/graphql", uid, origin=origin).status == 403
        assert entered.post("/operators/execute", {}, origin=origin).status == 403
    assert entered.get("/fiftyone", host="evil.example").status == 403


def test_no_operator_lists_the_disk(app: tuple[str, Path], entered: Asked) -> None:
    def run(operator: str, **params: str) -> Answer:
        named = {"operator_uri": f"@voxel51/operators/{operator}", "params": params}
        data = named | {"dataset_name": dataset_name(app[1]), "view": [], "filters": {}}
        return entered.post("/operators/execute", data, origin=entered.address)

    listed = run("list_files", path="/etc")
    assert listed.status == 403
    assert b"hostname" not in listed.body
    assert run("list_workspaces").status == 200


def test_a_port_that_an_app_has_is_no_other_apps(app: tuple[str, Path], entered: Asked) -> None:
    port = entered.address.rpartition(":")[2]
    command = [sys.executable, "-m", "gapclose.loop.cli", "app", str(app[1]), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert entered.get("/fiftyone").status == 200


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
