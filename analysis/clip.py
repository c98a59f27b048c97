"""CLIP models through open_clip: images and words in one space.

Made by `make_embedder` from `open_clip:NAME/TAG` or `open_clip:local-dir:PATH`. It refuses pickled
weights, the code of a text tower or tokenizer, and weights whose preprocessing is not known:
open_clip silently takes its default for a bare weights file (mlfoundations/open_clip#1068).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.transform import (
    PreprocessCfg,
    image_transform_v2,
)
from PIL import Image
from torch import Tensor

from gapclose.analysis.errors import EmbedderError
from gapclose.analysis.inference import at_rest, is_convolutional, pick_device, unit_batches
from gapclose.analysis.pretrained import why_not, without_code
from gapclose.analysis.weights import find_tag


class OpenClipEmbedder:
    """An open_clip model with the preprocessing that its weights were trained with.

    Attributes:
        id: The name it was made from.
        width: Length of a row.
        logit_scale: What cosines are multiplied by before a softmax over texts, as trained.
    """

    def __init__(self, name: str, target: str, *, device: str = "auto") -> None:
        """Load a model.

        Args:
            name: The embedder's full name.
            target: `NAME/TAG` of open_clip's table or `local-dir:PATH`.
            device: auto, cpu, cuda ...

        Raises:
            EmbedderError: If the weights do not fit the configuration.
        """
        self.id = name
        self._device = pick_device(device)
        with _refused(name):
            model, self._tokenizer_name = _load(name, target)
        self._model = at_rest(model, self._device)
        self._tokenizer: Callable[[list[str]], Tensor] | None = None
        self._texts: dict[str, NDArray[np.float32]] = {}  # the same few hundred, asked again
        known = {field.name for field in fields(PreprocessCfg)}
        raw = model.visual.preprocess_cfg
        config = PreprocessCfg(**{key: raw[key] for key in raw if key in known})
        self._transform = image_transform_v2(config, is_train=False)
        self._size = config.input_size[1:]
        self._mean = torch.tensor(config.mean).view(3, 1, 1)
        self._std = torch.tensor(config.std).view(3, 1, 1)
        self._conv = is_convolutional(model.visual)
        self.logit_scale = float(model.logit_scale.exp())
        with torch.inference_mode():
            self.width = int(self._forward([np.zeros((*self._size, 3), np.uint8)]).shape[1])

    def embed(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed (h, w, 3) images of any sizes: (n, width), rows of length 1."""
        return unit_batches(images, self._forward, width=self.width)

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, cut to the model's context length: (n, width), rows of length 1.

        Raises:
            EmbedderError: At the first texts, if the tokenizer cannot be loaded.
        """
        if self._tokenizer is None:
            with _refused(self.id):
                self._tokenizer = open_clip.get_tokenizer(self._tokenizer_name)
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        rows = unit_batches(new, self._forward_text, width=self.width)
        self._texts.update(zip(new, rows, strict=True))
        if not texts:
            return rows
        return np.stack([self._texts[text] for text in texts])

    def _forward(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        batch = torch.stack([self._prepare(image) for image in images]).to(self._device)
        if self._conv:
            batch = batch.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, self._model.encode_image(batch))

    def _forward_text(self, texts: Sequence[str]) -> Tensor:
        tokenize = cast(Callable[[list[str]], Tensor], self._tokenizer)
        return cast(Tensor, self._model.encode_text(tokenize(list(texts)).to(self._device)))

    def _prepare(self, image: NDArray[np.uint8]) -> Tensor:
        if image.shape[:2] == self._size:
            # What the transform comes to for an image of the model's size, at a tenth of the time.
            pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
            return (pixels.float().div_(255.0) - self._mean) / self._std
        return cast(Tensor, self._transform(Image.fromarray(image)))


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """Run no code of what open_clip loads, and tell in one line what cannot be loaded."""
    try:
        with without_code():
            yield
    except EmbedderError:
        raise
    except Exception as error:  # a configuration may name anything
        raise EmbedderError(f"cannot be loaded: {why_not(error)}", name=name) from error


def _load(name: str, target: str) -> tuple[Any, str]:
    """Load the model, and find the name that its tokenizer goes by."""
    if target.startswith("local-dir:"):
        path = Path(target.removeprefix("local-dir:")).expanduser()
        local = f"local-dir:{path}"
        return open_clip.create_model(local, require_pretrained=True, weights_only=True), local
    tagged = find_tag(name, target)
    table = open_clip.get_pretrained_cfg(tagged.architecture, tagged.tag)
    model = open_clip.create_model(
        tagged.architecture,
        # A path, not the tag: given the tag, open_clip falls back to pickled weights.
        pretrained=str(tagged.hub.download(tagged.filename)),
        force_quick_gelu=bool(table.get("quick_gelu", False)),
        force_preprocess_cfg=dict(table),
        require_pretrained=True,
        weights_only=True,
    )
    return model, tagged.architecture
