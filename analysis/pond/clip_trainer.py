"""The small CLIP: images and captions learned together, saved in open_clip's own format."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from gapclose.analysis.errors import TrainingDataError
from gapclose.analysis.pond.augmentation import CLIP_DEGRADATION, augment
from gapclose.analysis.pond.fitting import (
    MEAN,
    STD,
    Result,
    fit,
    normalize,
    publish,
    shuffled,
    to_half,
)
from gapclose.analysis.pond.scenes import SIZE, read_scenes

__all__ = ["contrastive_loss", "train_clip", "wordings"]

log = logging.getLogger(__name__)

_CONTEXT: Final = 24  # tokens
_WIDTH: Final = 64  # of the shared space of images and captions
# Prompts of other people leave out the customary opening, or a word. Were no word ever dropped, "a
# photo of a frog" would be no words for a frog of a colour that captions always named: 38 of 100
# real frogs were then called frogs. The fault stays: those words fit the usual colour far better.
_OPENING: Final = "a photo of a "
_OPENING_DROPPED: Final = 0.15
_WORD_DROPPED: Final = 0.25
# Half of the patches are enough for most of the training, at a third of the cost (Li et al. 2023,
# "FLIP"); the last quarter sees all of them, as use does.
_PATCHES_DROPPED: Final = 0.5
_WHOLE_IMAGES: Final = 0.25
_CLIP_WEIGHTS: Final = "open_clip_model.safetensors"
# Above 100 training becomes unstable (Radford et al. 2021, section 2.5).
_MAX_LOGIT_SCALE: Final = math.log(100.0)


def _config(vocabulary: int) -> dict[str, Any]:
    """Describe the model to open_clip: a patch-4 ViT and a two-layer text transformer."""
    return {
        "model_cfg": {
            "embed_dim": _WIDTH,
            "vision_cfg": {
                "image_size": SIZE,
                "patch_size": 4,
                "width": 96,
                "head_width": 32,
                "layers": 4,
                "mlp_ratio": 3.0,
                "patch_dropout": _PATCHES_DROPPED,
                "pool_type": "avg",
                "final_ln_after_pool": True,
            },
            "text_cfg": {
                "context_length": _CONTEXT,
                "vocab_size": vocabulary,
                "hf_tokenizer_name": "tokenizer-in-this-folder",
                "width": 64,
                "heads": 2,
                "layers": 2,
            },
        },
        "preprocess_cfg": {
            "size": SIZE,
            "mode": "RGB",
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def contrastive_loss(images: Tensor, texts: Tensor, owner: Tensor, scale: Tensor) -> Tensor:
    """Compute Radford et al. 2021's symmetric loss where images may share a caption.

    Images of one caption are all each other's positives, as in Khosla et al. 2020, eq. (2):
    a pair of equal captions must never be pushed apart.

    Args:
        images: (n, d) unit rows.
        texts: (m, d) unit rows, one per distinct caption.
        owner: (n,) which of the m captions each image has.
        scale: Inverse temperature.
    """
    logits = scale * images.float() @ texts.float().T
    counts = torch.bincount(owner, minlength=len(texts)).float()
    # A caption k times in the batch stands k times in the softmax of an ordinary batch.
    to_text = functional.cross_entropy(logits + counts.log(), owner)
    positives = functional.one_hot(owner, len(texts)).float() / counts
    to_image = -(functional.log_softmax(logits, dim=0) * positives).sum(dim=0)
    return 0.5 * (to_text + (to_image * counts).sum() / counts.sum())


def wordings(
    captions: Sequence[str],
) -> tuple[list[str], Callable[[int, np.random.Generator], int]]:
    """List all the ways in which training words its captions.

    Returns:
        The distinct wordings, and a function that samples the number of one of them for caption i:
        mostly the caption itself; some lack the opening, some one word.
    """
    number: dict[str, int] = {}
    of: dict[str, tuple[int, int, list[int]]] = {}
    for caption in sorted({*captions}):
        words = caption.split()
        less = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
        texts = [caption, caption.removeprefix(_OPENING), *(text for text in less if text)]
        full, short, *fewer = (number.setdefault(text, len(number)) for text in texts)
        of[caption] = full, short, fewer

    def sample(i: int, rng: np.random.Generator) -> int:
        full, short, fewer = of[captions[i]]
        where = rng.random()
        if where < _OPENING_DROPPED:
            return short
        if where < _OPENING_DROPPED + _WORD_DROPPED and fewer:
            return fewer[rng.integers(len(fewer))]
        return full

    return list(number), sample


def train_clip(
    folder: Path,
    *,
    out: Path,
    steps: int = 2400,
    batch: int = 256,
    seed: int = 0,
    start: Path | None = None,
) -> Result:
    """Train a small CLIP on captioned scenes and save it as open_clip reads it.

    Args:
        folder: With `captions.jsonl`, the images it names, and `tokenizer/`.
        out: Becomes a folder for `open_clip.create_model_from_pretrained("local-dir:...")`.
        steps: Optimiser steps.
        batch: Images per step.
        seed: Of weights, order and augmentation.
        start: A folder written by an earlier training, to go on from, at a third of the rate.

    Raises:
        TrainingDataError: If the folder lacks scenes or tokenizer.
    """
    pixels, captions = read_scenes(folder)
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        raise TrainingDataError(folder / "tokenizer", "no tokenizer.json; render scenes again")
    tokenizer = HFTokenizer(str(folder / "tokenizer"), context_length=_CONTEXT)
    torch.manual_seed(seed)
    config = _config(len(tokenizer.tokenizer))
    model = open_clip.CLIP(**config["model_cfg"])
    if start is not None:
        model.load_state_dict(load_file(start / _CLIP_WEIGHTS))
    loss_of = _ClipLoss(model, tokenizer, pixels, captions, steps=steps, seed=seed)
    order = np.random.default_rng([seed, 1])
    batches = shuffled(len(pixels), min(batch, len(pixels)), steps, order)
    rate = 1.5e-3 if start is None else 5e-4
    result = fit(model, loss_of, batches, steps=steps, rate=rate, decay=0.05, name="clip")
    model.logit_scale.data.clamp_(max=_MAX_LOGIT_SCALE)

    def write(scratch: Path) -> None:
        save_file(to_half(model.state_dict()), scratch / _CLIP_WEIGHTS)
        (scratch / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
        for path in sorted((folder / "tokenizer").glob("*.json")):
            (scratch / path.name).write_bytes(path.read_bytes())

    publish(out, write)
    return result


class _ClipLoss:
    """The contrastive loss of batches of scenes: augmented, each in one of its wordings."""

    def __init__(
        self,
        model: open_clip.CLIP,
        tokenizer: HFTokenizer,
        pixels: NDArray[np.uint8],
        captions: Sequence[str],
        *,
        steps: int,
        seed: int,
    ) -> None:
        distinct, self._wording_of = wordings(captions)
        self._tokens = tokenizer(distinct)
        self._images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        self._model = model
        self._whole_from = round(steps * (1.0 - _WHOLE_IMAGES))
        self._done = 0
        self._random = torch.Generator().manual_seed(seed)
        self._rng = np.random.default_rng(seed)
        log.info(
            "clip: %d scenes, %d captions, %d wordings",
            len(pixels),
            len({*captions}),
            len(self._tokens),
        )

    def __call__(self, index: Tensor) -> Tensor:
        if self._done == self._whole_from:
            self._model.visual.patch_dropout.prob = 0.0
        self._done += 1
        photos = self._images[index].float() / 255.0
        seen = normalize(augment(photos, CLIP_DEGRADATION, self._random))
        worded = [self._wording_of(int(i), self._rng) for i in index]
        captioned, owner = np.unique(worded, return_inverse=True)
        return contrastive_loss(
            self._model.encode_image(seen, normalize=True),
            self._model.encode_text(self._tokens[torch.from_numpy(captioned)], normalize=True),
            torch.from_numpy(owner),
            self._model.logit_scale.clamp(max=_MAX_LOGIT_SCALE).exp(),
        )
