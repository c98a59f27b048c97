"""The App's server: a port of this machine, and what answers there until Ctrl-C.

The viewer calls it. It serves whatever ASGI application it is given, and knows none.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any, cast

from gapclose.loop.app.gate import Application
from gapclose.loop.errors import ConfigError

__all__ = ["listen", "reached_at", "serve"]


def listen(address: str, port: int) -> socket.socket:
    """Take a port before anything slow is done, so that no other process can.

    Raises:
        ConfigError: It is taken, or the address is none of this machine's.
    """
    try:
        # To sockets, no name is every address.
        found = socket.getaddrinfo(address or ".", port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigError(f"{address!r} is no address", where="--address") from None
    listener = socket.socket(*found[:3])
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(found[4])
        listener.listen()
    except OSError as error:
        listener.close()
        problem = f"{address}:{port} cannot be used ({error.strerror}); name another with --port"
        raise ConfigError(problem, where="--port") from None
    return listener


def reached_at(address: str) -> str:
    """Return what to write in a URL for an address that a server is bound to."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return address
    if number.is_unspecified:
        return "localhost"
    return f"[{number}]" if number.version == 6 else str(number)


def serve(application: Application, listener: socket.socket) -> None:
    """Serve an ASGI application until SIGINT or SIGTERM.

    Args:
        application: What answers.
        listener: As `listen` returned it; closed at the end.
    """
    from hypercorn.asyncio import serve as serve_asgi
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.loglevel = "WARNING"
    config.graceful_timeout = 1.0  # seconds; a page that is open has a request that never ends
    asyncio.run(serve_asgi(cast(Any, application), config))
