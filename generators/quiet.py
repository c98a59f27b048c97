"""Quiet: what diffusers says of its own workings while it loads is no news to a run's reader."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_words"]


@contextmanager
def without_words() -> Iterator[None]:
    """Keep diffusers' remarks off the terminal, as of a second LoRA or a cast; errors come out."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.set_verbosity(before)
