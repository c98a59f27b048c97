"""Call arguments: which of a pipeline's own arguments are parameters of a draw.

Numbers and choices that only some families know, such as `true_cfg_scale`, `guidance_rescale`,
`pag_scale` or `eta`. What a draw has a field of its own for, and what is of no picture, is none.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from gapclose.generators.families import FAMILIES, PLAIN

__all__ = ["call_parameters"]

# Fields of a draw, the machinery's own, and what makes no picture or more than one.
_OTHERS: Final = frozenset(
    {"num_inference_steps", "height", "width", "num_images_per_prompt", "strength", "output_type"}
    | {"return_dict", "use_resolution_binning", "callback_steps", "clean_caption", "lora_scale"}
    | {"max_sequence_length", "guidance_scale", "negative_prompt", "prompt", "isolated"}
    | {"batch_size"}
)


def call_parameters(pipeline: type[Any]) -> dict[str, Any]:
    """Return the arguments of a pipeline's call that may be parameters, with their defaults.

    Args:
        pipeline: Its class.
    """
    family = FAMILIES.get(pipeline.__name__, PLAIN)
    taken = _OTHERS | {family.guidance} | ({family.also} if family.also else set())
    found: Mapping[str, inspect.Parameter] = inspect.signature(pipeline.__call__).parameters
    return {
        name: its.default
        for name, its in found.items()
        if name not in taken and isinstance(its.default, int | float)
    }
