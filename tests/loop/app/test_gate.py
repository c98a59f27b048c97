"""The gate, as the ASGI application that it is: what passes, and that nothing else does."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import numpy as np
import pytest

from gapclose.generators.images import write_png
from gapclose.loop.app.gate import Application, Gate

TOKEN = "a-token-of-the-test"
HOST = "127.0.0.1:5151"
COOKIE = {"cookie": f"gapclose-5151={TOKEN}"}
PAGE = "/datasets/gapclose-run?workspace=gapclose"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back, and the scope that reached the application behind; None if none did."""

    status: int
    headers: dict[str, str]
    text: str
    passed: dict[str, Any] | None


class World:
    """A gate before an application that says yes to everything, and the image that it shows."""

    def __init__(self, folder: Path, *, address: str = "127.0.0.1") -> None:
        self.image = folder / "run" / "images" / "0.png"
        self.image.parent.mkdir(parents=True)
        pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
        write_png(self.image, pixels)
        self.link = folder / "run" / "images" / "1.png"
        self.link.symlink_to(self.image)
        self.secret = folder / "secret.png"
        write_png(self.secret, pixels)
        self.passed: dict[str, Any] | None = None
        self.gate = self.guard(self._application, address)

    def guard(self, application: Application, address: str = "127.0.0.1") -> Gate:
        shown = {str(path): os.path.realpath(path) for path in (self.image, self.link)}
        given: dict[str, Any] = {"address": address, "port": 5151, "page": PAGE}
        return Gate(application, token=TOKEN, shown=shown, **given)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed = dict(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"behind"})

    def ask(
        self,
        target: str,
        *,
        method: str = "GET",
        kind: str = "http",
        host: str = HOST,
        more: tuple[tuple[str, str], ...] = (),
        **headers: str,
    ) -> Answer:
        """Asks as a server would, which decodes a target's path and leaves its query."""
        path, _, query = target.partition("?")
        pairs = [("host", host), *((k.replace("_", "-"), v) for k, v in headers.items()), *more]
        scope: dict[str, Any] = {
            "type": kind,
            "method": method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(key.encode(), value.encode("latin-1")) for key, value in pairs],
        }
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        self.passed = None
        asyncio.run(self.gate(scope, receive, send))
        start = sent[0]
        if start["type"].startswith("websocket"):
            status = {"websocket.accept": 101, "websocket.close": 403}[start["type"]]
            return Answer(status=status, headers={}, text="", passed=self.passed)
        said = {key.decode(): value.decode() for key, value in start["headers"]}
        text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
        return Answer(status=start["status"], headers=said, text=text, passed=self.passed)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def assert_refused(answer: Answer) -> None:
    assert answer.passed is None
    assert answer.status == 403
    assert answer.text.startswith("refused: ")
    assert answer.text.count("\n") == 1
    assert "set-cookie" not in answer.headers


def test_the_token_is_taken_once_and_kept_in_a_cookie_that_no_page_can_read(world: World) -> None:
    entered = world.ask(f"/?token={TOKEN}")
    assert entered.status == 200
    assert entered.passed is None  # what is behind never sees it
    given, *flags = entered.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
    assert PAGE in entered.text
    assert TOKEN not in entered.text
    assert entered.headers["referrer-policy"] == "no-referrer"
    assert world.ask("/datasets/x", cookie=f"other=1; {given}").text == "behind"


@pytest.mark.parametrize("path", ["/", "/fiftyone", "/graphql", "/events", "/media", "/plugins"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PATCH", "DELETE"])
def test_nothing_passes_without_the_token(world: World, path: str, method: str) -> None:
    assert_refused(world.ask(path, method=method))
    assert world.ask(path if path != "/media" else "/x", method=method, **COOKIE).status == 200


@pytest.mark.parametrize(
    ("target", "cookie"),
    [
        ("/?token=", ""),
        (f"/?token={TOKEN[:-1]}", ""),
        (f"/?token={TOKEN}x", ""),
        ("/?token=wr%C3%B6ng%ff", ""),
        (f"/?token=x&token={TOKEN}", ""),
        (f"/graphql?token={TOKEN}", ""),
        ("/", "gapclose-5151="),
        ("/", f"gapclose-5152={TOKEN}"),
        ("/", f"gapclose-5151={TOKEN}x"),
        ("/", f"{TOKEN}"),
        ("/", "gapclose-5151=wr\xf6ng"),
    ],
)
def test_a_wrong_token_is_none(world: World, target: str, cookie: str) -> None:
    assert_refused(world.ask(target, **({"cookie": cookie} if cookie else {})))


def test_the_token_is_presented_by_get_alone(world: World) -> None:
    for method in ("POST", "HEAD"):
        assert_refused(world.ask(f"/?token={TOKEN}", method=method))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:5151",
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:5152",
        "127.0.0.1:5151.evil.example",
        "127.0.0.1:5151@evil.example",
        "localhost.evil.example:5151",
        "192.168.1.7:5151",
        "127.0.0.1:5151 ",
        "",
    ],
)
def test_another_name_of_the_server_is_refused_even_with_the_token(
    world: World, host: str
) -> None:
    assert_refused(world.ask("/x", host=host, **COOKIE))
    assert_refused(world.ask(f"/?token={TOKEN}", host=host))


def test_two_names_are_refused(world: World) -> None:
    assert_refused(world.ask("/x", more=(("host", HOST),), **COOKIE))


def test_localhost_is_a_name_of_this_machines_own(world: World) -> None:
    origin = {"origin": "http://localhost:5151"}
    assert world.ask("/x", host="localhost:5151", **origin, **COOKIE).status == 200
    assert world.ask("/x", host="LOCALHOST:5151", **COOKIE).status == 200


@pytest.mark.parametrize(
    ("address", "own", "foreign"),
    [
        ("0.0.0.0", ("192.168.1.7:5151", "localhost:5151", "[::1]:5151"), "evil.example:5151"),
        ("192.168.1.7", ("192.168.1.7:5151",), "localhost:5151"),
        ("lab-7", ("lab-7:5151", "LAB-7:5151"), "127.0.0.1:5151"),
        ("::1", ("[::1]:5151", "localhost:5151"), "[::2]:5151"),
    ],
)
def test_another_address_has_the_names_that_lead_to_it(
    tmp_path: Path, address: str, own: tuple[str, ...], foreign: str
) -> None:
    world = World(tmp_path, address=address)
    for host in own:
        assert world.ask("/x", host=host, **COOKIE).status == 200, host
    assert_refused(world.ask("/x", host=foreign, **COOKIE))


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:8888",
        "https://127.0.0.1:5151",
        "http://localhost:5151",  # a cookie of localhost is none of 127.0.0.1
        "",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
def test_a_page_of_another_origin_is_refused(world: World, origin: str, method: str) -> None:
    for path in ("/operators/execute", "/graphql", "/tag"):
        assert_refused(world.ask(path, method=method, origin=origin, **COOKIE))


def test_a_page_of_the_apps_own_may_post(world: World) -> None:
    said = world.ask("/graphql", method="POST", origin=f"http://{HOST}", **COOKIE)
    assert said.passed is not None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_page_may_open_the_app_but_not_embed_it(world: World, site: str) -> None:
    own = {"sec_fetch_site": site}
    assert world.ask("/x", sec_fetch_dest="document", **own, **COOKIE).status == 200
    for dest in ("image", "iframe", "script", "empty"):
        assert_refused(world.ask("/x", sec_fetch_dest=dest, **own, **COOKIE))
    assert world.ask("/x", sec_fetch_site="same-origin", **COOKIE).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_image_that_the_run_shows_is_read(world: World, method: str) -> None:
    for image in (world.image, world.link):
        target = f"/media?filepath={quote(str(image), safe='')}"
        passed = world.ask(target, method=method, **COOKIE).passed
        assert passed is not None
        # What is read is what was looked at, also if the link leads elsewhere by then.
        assert parse_qs(passed["query_string"].decode()) == {"filepath": [str(world.image)]}


@pytest.mark.parametrize(
    "target",
    [
        "/media",
        "/media?filepath=",
        "/media?filepath=/etc/hostname",
        "/media?filepath=%2Fetc%2Fhostname",
        "/media?filepath={secret}",
        "/media?filepath={image}/../../../../secret.png",
        "/media?filepath={image}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret.png",
        "/media?filepath={folder}/%252e%252e/%252e%252e/secret.png",
        "/media?filepath={folder}/./0.png",
        "/media?filepath=/{image}",
        "/media?filepath=file://{image}",
        "/media?filepath=images/0.png",
        "/media?filepath={image}%00",
        "/media?filepath={image}%00.png",
        "/media?filepath={image}%0a",
        "/media?filepath={image}&filepath={secret}",
        "/media?filepath={secret}&filepath={image}",
        "/media?filepath={image}&filepath={image}",
        "/media?filepath[]={image}",
        "/media?filePath={image}",
        "/media/?filepath={image}",
        "/media%0a?filepath={secret}",
        "/media%0a?filepath={image}",
        "/media%00?filepath={image}",
        "/%6dedia?filepath={secret}",
        "/media/../media?filepath={secret}",
        "/x/../media?filepath={secret}",
        "/plugins/%2e%2e/%2e%2e/etc/hostname",
        "/..",
        "/dataset/1/sample/2/commit-mask",
        "/dataset/1/sample/2/commit-mask/",
        "/dataset/1/sample/2/commit%2dmask",
        "/dataset/1/sample/2/commit-mask%0a",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_other_file_is_read_or_written(world: World, target: str, method: str) -> None:
    image = world.image
    target = target.format(image=image, folder=image.parent, secret=world.secret)
    assert_refused(world.ask(target, method=method, **COOKIE))


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "text", "gone"])
def test_what_has_taken_an_images_place_is_not_read(world: World, kind: str) -> None:
    world.image.unlink()
    if kind == "link":
        world.image.symlink_to(world.secret)
    elif kind == "pipe":
        os.mkfifo(world.image)
    elif kind == "folder":
        world.image.mkdir()
    elif kind == "text":
        world.image.write_text("root:x:0:0")
    assert_refused(world.ask(f"/media?filepath={world.image}", **COOKIE))


def test_a_link_on_the_way_that_has_moved_is_not_followed(tmp_path: Path) -> None:
    world = World(tmp_path)
    folder = world.image.parent
    folder.rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    world.secret.rename(tmp_path / "elsewhere" / "0.png")
    folder.symlink_to(tmp_path / "elsewhere")
    assert_refused(world.ask(f"/media?filepath={world.image}", **COOKIE))


def test_websockets_pass_the_same_gate(world: World) -> None:
    own = {"origin": f"http://{HOST}", **COOKIE}
    assert world.ask("/graphql", kind="websocket", **own).status == 101
    for answer in (
        world.ask("/graphql", kind="websocket"),
        world.ask("/graphql", kind="websocket", origin="http://evil.example", **COOKIE),
        world.ask("/graphql", kind="websocket", host="evil.example:5151", **COOKIE),
        world.ask(f"/?token={TOKEN}", kind="websocket"),
    ):
        assert answer.status == 403
        assert answer.passed is None


def test_the_servers_own_start_and_end_pass(world: World) -> None:
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(world.guard(application)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]
