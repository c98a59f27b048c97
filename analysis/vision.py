"""Vision models through transformers: DINOv2, ViT, ResNet and whatever AutoModel opens.

Made by `make_embedder` from `transformers:ID-or-PATH`. It refuses pickled weights, code from a
hub, and a pooling layer that came without weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel

from gapclose.analysis.errors import EmbedderError
from gapclose.analysis.inference import at_rest, is_convolutional, pick_device, unit_batches
from gapclose.analysis.pretrained import LOADING_FAULTS, lacking_tensors, loading, why_not


class TransformersEmbedder:
    """A vision model with its own image processor.

    A row is what the model itself says of a whole image: projected image features of a model with
    two towers, else the pooled output, else the class token, else the mean over the feature map.

    Attributes:
        id: The name it was made from.
        width: Length of a row.
    """

    def __init__(self, name: str, target: str, *, device: str = "auto") -> None:
        """Load a model and its image processor.

        Args:
            name: The embedder's full name.
            target: A local folder, or a hub id with an optional `@revision`.
            device: auto, cpu, cuda ...

        Raises:
            EmbedderError: If the weights do not fit, or lack more than a pooling layer.
        """
        self.id = name
        self._device = pick_device(device)
        try:
            with loading(target) as (source, arguments):
                processors: Any = AutoImageProcessor  # untyped in transformers
                self._processor = processors.from_pretrained(source, **arguments)
                model, info = AutoModel.from_pretrained(
                    source,
                    use_safetensors=True,
                    output_loading_info=True,
                    dtype=torch.float32,  # the default follows the file; CPUs are slow in half
                    **arguments,
                )
        except LOADING_FAULTS as error:
            raise EmbedderError(f"cannot be loaded: {why_not(error)}", name=name) from error
        # A pooler that the checkpoint lacks is random.
        self._pooled = not any("pooler" in key for key in info.get("missing_keys", ()))
        if lacking := lacking_tensors(info):
            raise EmbedderError(
                f"its weights lack {len(lacking)} tensors ({lacking[0]} ...); "
                "download the model again",
                name=name,
            )
        self._model: Any = at_rest(model, self._device)
        self._conv = is_convolutional(model)
        with torch.inference_mode():
            self.width = int(self._forward([np.zeros((64, 64, 3), np.uint8)]).shape[1])

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed (h, w, 3) images of any sizes: (n, width), rows of length 1."""
        return unit_batches(images, self._forward, width=self.width)

    def _forward(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        ready = self._processor(
            images=list(images), return_tensors="pt", input_data_format="channels_last"
        )
        pixels = cast(Tensor, ready["pixel_values"]).to(self._device)
        if self._conv:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        if hasattr(self._model, "get_image_features"):
            return _whole(self._model.get_image_features(pixel_values=pixels), pooled=True)
        return _whole(self._model(pixel_values=pixels), pooled=self._pooled)


def _whole(output: Any, *, pooled: bool) -> Tensor:
    """Reduce a model's output to one row per image."""
    if isinstance(output, Tensor):
        return output.flatten(1)
    row = getattr(output, "pooler_output", None)
    if pooled and row is not None:
        return cast(Tensor, row).flatten(1)
    hidden = cast(Tensor, output.last_hidden_state)
    return hidden[:, 0] if hidden.ndim == 3 else hidden.mean(dim=(2, 3))
