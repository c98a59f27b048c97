"""Storage URLs: how a page or a message may show one."""

from __future__ import annotations


def masked(url: str) -> str:
    """Return a database's URL without its password: a page is there to be passed on."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "***@" + url.rpartition("@")[2] if "@" in url else url
