"""Checkpoints of transformers: what `from_pretrained` is called with, and that it loads quietly.

vision.py, clip.py, captioner.py, language_model.py and writer.py call it, and choose the classes
themselves. It never lets the code of a checkpoint run, nor has a person asked whether it may.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError

LOADING_FAULTS: Final = (
    RuntimeError,
    ValueError,
    TypeError,
    KeyError,
    OSError,
    ImportError,
    SafetensorError,
)
"""What transformers is known to raise for a checkpoint that it cannot load."""


@contextmanager
def loading(target: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the place and the arguments of `from_pretrained`, and silence its progress bars.

    Args:
        target: A local folder, or a hub id with an optional `@revision`.
    """
    from transformers.utils import logging

    source = target
    arguments: dict[str, Any] = {"trust_remote_code": False}
    if Path(target).expanduser().is_dir():
        source = str(Path(target).expanduser())
    elif "@" in target:
        source, _, revision = target.partition("@")
        arguments["revision"] = revision
    bars: Any = logging  # untyped in transformers
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # a bar of its own would tear the run's display
    try:
        yield source, arguments
    finally:
        if shown:
            bars.enable_progress_bar()


def why_not(error: BaseException) -> str:
    """Say in a few words why a checkpoint cannot be loaded."""
    if "trust_remote_code" in str(error):  # transformers' advice is to have it run
        return "it needs code of its own, which is not run; use another one"
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def without_code() -> Iterator[None]:
    """Refuse the code of checkpoints that a library loads without saying whether it may run.

    transformers then asks on the terminal, and runs it after a yes. It waits for an answer for
    `TIME_OUT_REMOTE_CODE` seconds, and at 0, as in its own CI, raises a ValueError at once.
    """
    from transformers import dynamic_module_utils

    seconds = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = seconds


def lacking_tensors(info: Mapping[str, Any]) -> list[str]:
    """List what the weights lack of a model, by `output_loading_info`.

    A pooler is not counted: checkpoints such as DINO's have none, and transformers fills one in at
    random, which must then not be used.
    """
    missing = [key for key in sorted(info.get("missing_keys", ())) if "pooler" not in key]
    return missing + [str(key) for key in info.get("mismatched_keys", ())]
