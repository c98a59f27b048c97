"""The gate: what stands before FiftyOne's server, which answers anybody who reaches its port.

The viewer puts it round FiftyOne's ASGI application. A request passes with the token, by the name
that the server is bound to, from a page of this App or from no page; and of files it gets those
that the run shows, no others. It knows nothing of FiftyOne but its routes.

A cookie is not bound to a port: a browser that is lured to another user's server on the same
address sends it there, too. Whoever shares a machine with people like that needs another browser.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from html import escape
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from gapclose.analysis.decode import PREFIX, sniff

__all__ = ["Application", "Gate"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
"""ASGI 3: https://asgi.readthedocs.io/en/latest/specs/main.html."""

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
# FiftyOne takes a file's path here, and writes what a sample says at the other.
_MEDIA: Final = "/media"
_MASK: Final = "/commit-mask"


class Gate:
    """An ASGI application that lets requests through to another, or answers 403 in one line."""

    def __init__(
        self,
        application: Application,
        *,
        token: str,
        address: str,
        port: int,
        shown: Mapping[str, str],
        page: str,
    ) -> None:
        """Bind it to what it guards.

        Args:
            application: What is behind it.
            token: What a browser has to bring, in the URL first and then in a cookie.
            address: What the server is bound to.
            port: Likewise.
            shown: The files that may be read, as FiftyOne names them, and where links lead.
            page: The path, and query, that a browser is sent to with its cookie.
        """
        self._application = application
        self._token = token.encode()
        self._port = port
        self._shown = shown
        self._page = page
        self._cookie = f"gapclose-{port}"  # cookies are kept by host: two Apps would share one
        self._own_names, self._numbers = _names(address)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection as ASGI says."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
            return
        refused = self._refuse_place(scope)
        if refused is None and self._presents_token(scope):
            await _answer(send, 200, self._entrance(), self._entrance_headers())
            return
        if refused is None and not self._has_cookie(scope):
            refused = "open the address that `gapclose app` printed, which holds its token"
        if refused is None:
            refused = await asyncio.to_thread(self._refuse_path, scope)
        if refused is None:
            await self._application(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refused})
        else:
            await _answer(send, 403, f"refused: {refused}\n", [(b"content-type", b"text/plain")])

    # ----------------------------------------------------------------- who asks, from where

    def _refuse_place(self, scope: Scope) -> str | None:
        """Say why a request comes by a wrong name, or from a wrong page; None if it does not."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        # Else a name of somebody else's that is made to lead here would be of the same origin.
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return "the App has another address"
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return "a page of another origin asks"
        # The requests for which browsers name no origin: another port counts as the same site,
        # whose requests bear the cookie. A person may come from anywhere, but not inside a frame.
        sites = _values(scope, b"sec-fetch-site")
        opens = _values(scope, b"sec-fetch-dest") == ["document"]
        if any(site not in ("same-origin", "none") for site in sites) and not opens:
            return "a page of another origin asks"
        return None

    def _is_own(self, host: str) -> bool:
        found = _HOST.fullmatch(host.lower())
        if found is None or int(found[2] or 80) != self._port:
            return False
        name = found[1].strip("[]")
        return name in self._own_names or (self._numbers and _ip(name) is not None)

    def _presents_token(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            return False
        given = [value for key, value in _query(scope) if key == "token"]
        return len(given) == 1 and self._is_token(given[0])

    def _has_cookie(self, scope: Scope) -> bool:
        pairs = (part.strip() for value in _values(scope, b"cookie") for part in value.split(";"))
        named = [pair.partition("=") for pair in pairs]
        return any(self._is_token(value) for key, _, value in named if key == self._cookie)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    def _entrance(self) -> str:
        # By a page of the App's own: after a redirect, a link in somebody else's page would still
        # be what asks, and a strict cookie would stay behind.
        to = escape(self._page)
        return f'<!doctype html><meta http-equiv="refresh" content="0;url={to}"><title>...</title>'

    def _entrance_headers(self) -> list[tuple[bytes, bytes]]:
        cookie = f"{self._cookie}={self._token.decode()}; Path=/; HttpOnly; SameSite=Strict"
        return [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"set-cookie", cookie.encode()),
            (b"referrer-policy", b"no-referrer"),  # the address holds the token
        ]

    # -------------------------------------------------------------------- what is asked for

    def _refuse_path(self, scope: Scope) -> str | None:
        """Say why a path is not served; that of a file is replaced by where its links lead."""
        path = str(scope["path"])
        # FiftyOne's routes match a path with a line feed behind it as well. No browser sends dots.
        if not path.isprintable() or ".." in path.split("/") or path.rstrip("/").endswith(_MASK):
            return "no such path"
        if not path.startswith(_MEDIA):
            return None
        query = _query(scope)
        target = self._shown.get(query[0][1]) if len(query) == 1 else None
        if path != _MEDIA or target is None:
            return "no image that the run shows"
        if query[0][0] != "filepath" or not _readable(query[0][1], target):
            return "no image that the run shows"
        scope["query_string"] = urlencode({"filepath": target}).encode()
        return None


def _readable(path: str, target: str) -> bool:
    """Return whether a path leads to a file still, and the file is an image by its content.

    Args:
        path: Of the file; links are followed.
        target: Where they led when the run was opened, the real path.
    """
    try:
        if os.path.realpath(path) != target:
            return False
        # Not waited for: a pipe may have taken the file's place.
        handle = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb") as file:  # noqa: PTH123 - of a handle
            regular = stat.S_ISREG(os.fstat(handle).st_mode)
            return regular and sniff(file.read(PREFIX)) is not None
    except (OSError, ValueError):
        return False


def _names(address: str) -> tuple[frozenset[str], bool]:
    """Return the names by which a server on an address is reached, and whether by any number.

    One that is bound to all addresses of its machine has numbers that nobody lists. No name can
    be made to lead to it by writing a number.
    """
    number = _ip(address)
    if number is not None and number.is_unspecified:
        return frozenset({"localhost", socket.gethostname().lower()}), True
    if address == "localhost" or (number is not None and number.is_loopback):
        return frozenset({address, "localhost", "127.0.0.1"}), False
    return frozenset({address.lower()}), False


def _ip(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _query(scope: Scope) -> list[tuple[str, str]]:
    # As Starlette reads it, which FiftyOne asks for the path.
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


async def _answer(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]]) -> None:
    body = text.encode()
    headers = [
        *headers,
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
