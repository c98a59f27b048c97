"""Diffusion: the settings that only a diffusion pipeline bounds, and their bounds.

A config's and a given mixture's are checked alike. A generator of one's own may mean other things
by the same names: nothing here is asked of it.
"""

from __future__ import annotations

from typing import Final

from gapclose.loop.config.hints import shown

__all__ = ["DIFFUSION", "check_diffusion"]

DIFFUSION: Final = ("scheduler", "guidance_scale", "num_inference_steps")

_MOST: Final = {
    "guidance_scale": 1000.0,  # half precision overflows beyond
    "num_inference_steps": 1000,  # what pipelines are trained with
}


def check_diffusion(name: str, value: str | float | None, *, key: str) -> None:
    """Refuse a setting that no diffusion pipeline takes.

    Args:
        name: One of `DIFFUSION`.
        value: Of the setting; None is the pipeline's own.
        key: What the person wrote it under.

    Raises:
        ValueError: One line that names the key.
    """
    if name == "scheduler" and value is not None:
        from gapclose.generators.schedulers import check_scheduler

        try:
            check_scheduler(str(value))
        except ValueError as error:
            raise ValueError(f"{key}: {str(error).removeprefix('scheduler: ')}") from None
    elif isinstance(value, int | float) and value > _MOST[name]:
        raise ValueError(f"{key}: got {shown(value)}, expected at most {_MOST[name]:g}")
