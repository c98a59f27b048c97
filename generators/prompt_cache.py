"""A prompt cache: what text encoders made of the same tokens before.

`pipeline` wraps the text encoders of what it loads. A search draws few prompts many times, and the
encoder of a large model takes as long as steps of its denoiser do. What is returned is bit for bit
what the encoder returned for the same batch; calls with anything but tokens are passed through.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final

__all__ = ["PromptCache"]

_BYTES: Final = 256 * 2**20
_NAMES: Final = ("text_encoder", "prior_text_encoder")
_PLAIN: Final = (bool, int, float, str, type(None))


class PromptCache:
    """Outputs of the text encoders of one pipeline, the last ones used, on their device.

    Attributes:
        scales: Of its LoRAs; what an encoder with LoRA layers returns depends on them.
        hits: Calls that were answered from it.
        misses: Calls that were not.
    """

    def __init__(self, pipeline: Any, *, limit_bytes: int = _BYTES) -> None:
        """Wrap the text encoders of a pipeline, before hooks that offload them."""
        self.scales: Hashable = None
        self.hits = self.misses = 0
        self._limit = limit_bytes
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        for name, encoder in pipeline.components.items():
            if name.startswith(_NAMES) and hasattr(encoder, "forward"):
                self._wrap(name, encoder)

    @property
    def held_bytes(self) -> int:
        """Of all outputs in it."""
        return self._bytes

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._bytes = 0

    def _wrap(self, name: str, encoder: Any) -> None:
        forward: Callable[..., Any] = encoder.forward
        has_loras = any("lora_" in its for its, _ in encoder.named_parameters())

        @functools.wraps(forward)
        def cached(*args: Any, **options: Any) -> Any:
            scales = self.scales if has_loras else None
            try:
                key = (name, scales, _key(args), tuple((k, _key(options[k])) for k in options))
            except TypeError:
                return forward(*args, **options)
            if key in self._kept:
                self.hits += 1
                self._kept.move_to_end(key)
                return _copied(self._kept[key][0])
            self.misses += 1
            made = forward(*args, **options)
            self._keep(key, made)
            return made

        encoder.forward = cached

    def _keep(self, key: Hashable, made: Any) -> None:
        size = _size(made)
        if size is None or size > self._limit:
            return
        while self._bytes + size > self._limit:
            _, (_, freed) = self._kept.popitem(last=False)
            self._bytes -= freed
        self._kept[key] = (_copied(made), size)
        self._bytes += size


def _key(value: Any) -> Hashable:
    """Return what two equal arguments have in common.

    Raises:
        TypeError: If it is neither tokens nor plain.
    """
    import torch

    if isinstance(value, torch.Tensor):
        if value.is_floating_point():  # embeddings: prompts are tokens
            raise TypeError
        # Tensors of inference cannot be used outside of it.
        where = (str(value.device), torch.is_inference_mode_enabled())
        return (where, value.dtype, tuple(value.shape), value.cpu().numpy().tobytes())
    if isinstance(value, tuple):
        return tuple(_key(its) for its in value)
    if isinstance(value, _PLAIN):
        return (type(value), value)  # True equals 1
    raise TypeError


def _size(value: Any) -> int | None:
    """Bytes of all tensors in an output; None if it holds what cannot be copied."""
    import torch
    from transformers import Cache

    if isinstance(value, torch.Tensor):
        return value.element_size() * value.nelement()
    if isinstance(value, dict | tuple | list):
        sizes = [_size(its) for its in (value.values() if isinstance(value, dict) else value)]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None
    return 0 if isinstance(value, (*_PLAIN, Cache)) else None


def _copied(value: Any) -> Any:
    """Copy an output, for whoever gets it may write into it.

    The cache of a language model's own is left out: it goes on with a text, and none is gone on
    with here.
    """
    import torch
    from transformers import Cache

    if isinstance(value, torch.Tensor):
        return value.clone(memory_format=torch.preserve_format)
    if isinstance(value, dict):  # as a ModelOutput is
        return type(value)(**{name: _copied(its) for name, its in value.items()})
    if isinstance(value, tuple | list):
        return type(value)(_copied(its) for its in value)
    return None if isinstance(value, Cache) else value
