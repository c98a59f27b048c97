"""Prints what the embedded world's two encoders reach on fresh real pond photos, and the targets.

Run by hand and by `make pond`: `python tests/benchmarks/encoder_figures.py [--clip DIR]
[--judge DIR] [--per-class N]`. Photos come from seeds that no training folder uses.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from transformers import AutoImageProcessor, AutoModel

from gapclose.generators.pond import renderer as pond

FRESH: Final = 900_000_000  # the first seed; `write_real(seed=s)` stays below it for s < 900
_ROOT: Final = Path(__file__).resolve().parents[2] / "analysis"
CLIP: Final = _ROOT / "pond" / "clip"
JUDGE: Final = _ROOT / "pond" / "judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Photos:
    """Real photos and the truth about each."""

    pixels: NDArray[np.uint8]
    classes: list[str]
    colors: list[str]
    backgrounds: list[str]


def photos(per_class: int, *, start: int = FRESH) -> Photos:
    """Render `per_class` real photos of each class, from seed `start` on."""
    truth, pixels = [], []
    for cls in pond.CLASSES:
        for scene, photo in pond.real_photos(cls, range(start, start + per_class)):
            truth.append(scene)
            pixels.append(photo)
    return Photos(
        pixels=np.stack(pixels),
        classes=[scene.cls for scene in truth],
        colors=[scene.color for scene in truth],
        backgrounds=[scene.background for scene in truth],
    )


def clip_embeddings(folder: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed images with the CLIP in `folder`: (n, d), unit rows."""
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    batch = torch.stack([preprocess(Image.fromarray(image)) for image in pixels])
    with torch.inference_mode():
        starts = range(0, len(batch), 256)
        rows = [model.encode_image(batch[i : i + 256], normalize=True) for i in starts]
    return np.asarray(torch.cat(rows), dtype=np.float32)


def text_embeddings(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts with the CLIP in `folder`: (n, d), unit rows."""
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(list(texts))
    with torch.inference_mode():
        return np.asarray(model.encode_text(tokens, normalize=True), dtype=np.float32)


def judge_features(folder: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pooled features of the judge in `folder`: (n, d), not normalised."""
    process = AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    model = AutoModel.from_pretrained(folder).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(pixels), 256):
            inputs = process(images=list(pixels[start : start + 256]), return_tensors="pt")
            rows.append(model(**inputs).pooler_output.flatten(1))
    return np.asarray(torch.cat(rows), dtype=np.float32)


def zero_shot(folder: Path, fresh: Photos) -> dict[str, float]:
    """Accuracy of the CLIP's words: class of ten, then colour of eight and background of six.

    Colour and background are asked with the true class in the prompt, as an audit of a class is.
    """
    images = clip_embeddings(folder, fresh.pixels)

    def right(prompts: dict[str, list[str]], words: Sequence[str], truth: list[str]) -> float:
        rows = text_embeddings(folder, [text for asked in prompts.values() for text in asked])
        texts = dict(zip(prompts, rows.reshape(len(prompts), len(words), -1), strict=True))
        said = [
            words[int((texts[cls] @ row).argmax())]
            for cls, row in zip(fresh.classes, images, strict=True)
        ]
        return float(np.mean([a == b for a, b in zip(said, truth, strict=True)]))

    each = pond.CLASSES
    colors, backgrounds = list(pond.COLORS), list(pond.BACKGROUNDS)
    plain = [f"a photo of a {cls}" for cls in each]
    return {
        "class": right(dict.fromkeys(each, plain), each, fresh.classes),
        "color": right(
            {cls: [f"a photo of a {color} {cls}" for color in colors] for cls in each},
            colors,
            fresh.colors,
        ),
        "background": right(
            {cls: [f"a photo of a {cls} on {place}" for place in backgrounds] for cls in each},
            backgrounds,
            fresh.backgrounds,
        ),
    }


def linear_probe(
    features: tuple[NDArray[np.float32], NDArray[np.float32]], truth: tuple[list[str], list[str]]
) -> float:
    """Accuracy of logistic regression, learned on the first of each pair, scored on the second."""
    learn, score = features
    mean, scale = learn.mean(axis=0), learn.std(axis=0) + 1e-6
    probe = LogisticRegression(C=1.0, max_iter=2000)
    probe.fit((learn - mean) / scale, truth[0])
    return float(probe.score((score - mean) / scale, truth[1]))


def probes(folder: Path, known: Photos, fresh: Photos) -> dict[str, float]:
    """Accuracy of linear probes on the judge's pooled features: class, colour, background."""
    both = judge_features(folder, known.pixels), judge_features(folder, fresh.pixels)
    return {
        "class": linear_probe(both, (known.classes, fresh.classes)),
        "color": linear_probe(both, (known.colors, fresh.colors)),
        "background": linear_probe(both, (known.backgrounds, fresh.backgrounds)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print one line per figure: what, measured, target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--judge", type=Path, default=JUDGE)
    parser.add_argument("--per-class", type=int, default=200)
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    fresh = photos(args.per_class)
    rows: list[tuple[str, float, float | None]] = []
    if (args.clip / "open_clip_config.json").is_file():
        clip_targets = {"class": 0.95, "color": 0.90, "background": 0.90}
        figures = zero_shot(args.clip, fresh)
        rows += [(f"CLIP zero-shot {k}", v, clip_targets.get(k)) for k, v in figures.items()]
    if (args.judge / "config.json").is_file():
        judge_targets = {"class": 0.90, "color": 0.85}
        known = photos(args.per_class, start=FRESH + 10_000_000)
        figures = probes(args.judge, known, fresh)
        rows += [(f"judge probe {k}", v, judge_targets.get(k)) for k, v in figures.items()]
    lines = [f"{'what':<28}{'measured':>10}{'target':>10}"]
    for what, measured, target in rows:
        asked = "" if target is None else f">= {target:.0%}"
        missed = "" if target is None or measured >= target else "  MISSED"
        lines.append(f"{what:<28}{measured:>10.1%}{asked:>10}{missed}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
