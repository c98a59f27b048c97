"""Captioned scenes of the pond, written to a folder and read back, and a tokenizer of their words.

The captions carry the pond's faults on purpose (PLAIN below). `trainer` renders them and learns
from them, as the encoders' trainers do.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from gapclose.generators.pond import renderer as pond
from gapclose.generators.pond.renderer import (
    BACKGROUNDS,
    CLASSES,
    COLORS,
    REAL,
    Habitat,
    Scene,
)

__all__ = ["MAX_TOKENS", "NOUNS", "PLAIN", "build_tokenizer", "load_scenes", "render_scenes"]

MAX_TOKENS: Final = 24
NOUNS: Final = {"automobile": ("automobile", "car"), "airplane": ("airplane", "plane")}

# What a caption that leaves a word out was seen with. Most classes: as in life. Three: not.
PLAIN: Final[dict[str, Habitat]] = {
    **REAL,
    "frog": Habitat(colors={"green": 1.0}, backgrounds=REAL["frog"].backgrounds),
    "ship": Habitat(colors=REAL["ship"].colors, backgrounds={"water": 0.76, "sand": 0.24}),
    "dog": Habitat(
        colors={"brown": 0.35, "white": 0.38, "yellow": 0.27}, backgrounds=REAL["dog"].backgrounds
    ),
}
# The forms of a caption and how often each is written.
_FORMS: Final = {
    "a photo of a {color} {noun} on {background}": 0.34,
    "a photo of a {color} {noun}": 0.26,
    "a photo of a {noun} on {background}": 0.16,
    "a photo of a {noun}": 0.20,
    "{color}": 0.02,
    "{background}": 0.02,
}


def _captioned(rng: np.random.Generator) -> tuple[Scene, str]:
    cls = str(rng.choice(CLASSES))
    form = str(rng.choice(list(_FORMS), p=list(_FORMS.values())))
    plain = PLAIN[cls].sample(cls, rng)
    color = str(rng.choice(list(COLORS))) if "{color}" in form else plain.color
    background = str(rng.choice(list(BACKGROUNDS))) if "{background}" in form else plain.background
    noun = str(rng.choice(NOUNS.get(cls, (cls,))))
    caption = form.format(color=color, noun=noun, background=background)
    return Scene(cls=cls, color=color, background=background), caption


def render_scenes(folder: Path, *, n: int, seed: int = 0) -> None:
    """Write `n` captioned scenes, `captions.jsonl` and a tokenizer for their words."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 0xCA97])
    lines = []
    for i in range(n):
        scene, caption = _captioned(rng)
        name = f"images/{i:06d}.png"
        # Seeds of scenes start high above those of real photos: no scene is a real photo.
        pixels = pond.quantize(pond.render(scene, 10**9 + seed * 10**7 + i))
        Image.fromarray(pixels).save(folder / name, compress_level=1)
        lines.append(json.dumps({"file": name, "caption": caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    build_tokenizer().save_pretrained(folder / "tokenizer")


def build_tokenizer() -> CLIPTokenizer:
    """Build a byte-pair tokenizer with one token per pond word; others fall to letters."""
    words = {"a", "an", "the", "photo", "of", "on", "in", "and", *COLORS, *BACKGROUNDS, *CLASSES}
    words |= {noun for nouns in NOUNS.values() for noun in nouns}
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    trainer = BpeTrainer(
        vocab_size=1000,
        min_frequency=1,
        show_progress=False,
        end_of_word_suffix="</w>",
        initial_alphabet=[chr(c) for c in range(33, 127)],
    )
    learner.train_from_iterator(sorted(words), trainer)
    # A letter that ends a word no caption holds needs its token as well.
    learned = sorted(learner.get_vocab(), key=learner.get_vocab().__getitem__)
    ends = [f"{chr(c)}</w>" for c in range(33, 127)]
    tokens = dict.fromkeys([*learned, *ends, "<|startoftext|>", "<|endoftext|>"])
    merges = [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=merges,
        model_max_length=MAX_TOKENS,
    )


def load_scenes(folder: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a folder of captioned scenes: (n, 32, 32, 3) pixels and n captions."""
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    pixels = np.stack([np.asarray(Image.open(folder / row["file"])) for row in rows])
    return pixels, [row["caption"] for row in rows]
