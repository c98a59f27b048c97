"""Truncated prompts: that a text encoder does not read a prompt to its end, said once.

diffusers warns of it in every batch and repeats the text that is cut; with a caption for every
image that is most batches of a night. `pipeline` sets the filter on what it calls.
"""

from __future__ import annotations

import logging
from typing import Any, Final

__all__ = ["warn_once_of_truncation"]

_BEGINS: Final = ("The following part of your input was truncated", "Token indices sequence")
_SAID: Final = (
    "prompts are longer than the text encoder reads: what comes after its last token (CLIP's "
    "77th) is not seen; shorter captions lose nothing"
)


class _Once(logging.Filter):
    """Lets the first of such warnings through, in words that name no prompt."""

    def __init__(self) -> None:
        super().__init__()
        self._said = False

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(_BEGINS):
            return True
        if self._said:
            return False
        self._said = True
        record.msg, record.args = _SAID, None
        return True


_ONCE: Final = _Once()  # of the process: another pipeline says nothing new


def warn_once_of_truncation(pipeline: Any) -> None:
    """Have a pipeline of diffusers say so once; its tokenizers' libraries as well."""
    names = {kind.__module__ for kind in type(pipeline).__mro__}
    names.add("transformers.tokenization_utils_base")
    for name in names:
        logging.getLogger(name).addFilter(_ONCE)  # which is there once, however often it is added
