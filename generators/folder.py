"""A folder of images that exist already, as a generator: each seed is one file.

`registry` makes it, for image sets whose generator is out of reach (somebody else's GAN, a
finished render). It reads; it never resizes or writes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gapclose.generators.base import checked_seeds
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.images import (
    ONE_COLOUR,
    SOURCE_TYPES,
    ImageBatch,
    Pixels,
    is_one_colour,
)
from gapclose.generators.recipe import Draw

_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
# Whatever a file is called: Pillow runs a program of the machine's for PostScript.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_WORDS: Final = re.compile(r"[^\W_]+")


class FolderGenerator:
    """Images of a folder with one folder per class; seed i is the class's i-th file by name.

    A draw has no class, so its prompt names it: the class whose folder's name stands in the prompt
    as whole words ("a photo of a green frog" reads `frog/`, or `green_frog/` where there is one);
    of several, the longest name, then the one that comes first. `nouns` gives a class other words,
    as `space.nouns` of a config does. A folder of images without class folders serves every
    prompt. All else in a draw is ignored: the images are what they are.

    Args:
        path: The folder.
        nouns: Class -> further words that name it in a prompt.
        source_type: What made the images: "trainedAlgorithmicMedia" or "digitalCreation".

    Raises:
        GeneratorConfigError: If the folder is missing or holds no images.
    """

    parameters: Final[tuple[str, ...]] = ()

    def __init__(
        self,
        path: str | Path,
        *,
        nouns: Mapping[str, Sequence[str]] | None = None,
        source_type: str = "trainedAlgorithmicMedia",
    ) -> None:
        """Check that there are images; they are listed at the first call of `generate`."""
        if source_type not in SOURCE_TYPES:
            raise GeneratorConfigError(f"unknown {source_type!r}", key="generator.source_type")
        self._root = Path(path).expanduser()
        if not self._root.is_dir():
            raise GeneratorConfigError(
                f"no folder {self._root}; name one that holds a folder per class",
                key="generator.path",
            )
        if not any(_is_image(p) for p in self._root.rglob("*")):
            raise GeneratorConfigError(f"{self._root} holds no images", key="generator.path")
        self._nouns = dict(nouns or {})
        self.source_type = source_type
        self.license = None

    @property
    def id(self) -> str:
        """`folder:` and the folder's name; the path is omitted for privacy."""
        return f"folder:{self._root.resolve().name}"

    @cached_property
    def revision(self) -> str | None:
        """A digest of the files' names and sizes: another file shifts what the seeds mean."""
        content = hashlib.sha256()
        for name, files in self._classes.items():
            for file in files:
                content.update(f"{name}/{file.name}\0{file.stat().st_size}\0".encode())
        return f"sha256:{content.hexdigest()[:16]}"

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        """Read the files of the class that the prompt names.

        Raises:
            ValueError: If the seeds are not distinct integers in [0, 2**63).
            GeneratorConfigError: If the prompt names no class of the folder.
            GenerationError: If a seed is beyond the last file, or a file cannot be read.
        """
        plain = checked_seeds(seeds)
        name = self._named(draw.prompt)
        files = self._classes[name]
        if plain and max(plain) >= len(files):
            raise GenerationError(
                f"{self._root} has {len(files)} images of {name}; seed {max(plain)} is beyond them"
            )
        images = tuple(_read(files[seed]) for seed in plain)
        return ImageBatch(
            images=images,
            seeds=plain,
            invalid=tuple(ONE_COLOUR if is_one_colour(image) else None for image in images),
        )

    @cached_property
    def _classes(self) -> dict[str, tuple[Path, ...]]:
        folders = sorted(p for p in self._root.iterdir() if p.is_dir())
        found = {p.name: tuple(sorted(f for f in p.rglob("*") if _is_image(f))) for p in folders}
        flat = tuple(sorted(p for p in self._root.iterdir() if _is_image(p)))
        classes = {name: files for name, files in found.items() if files}
        return classes or {"all": flat}

    def _named(self, prompt: str) -> str:
        if list(self._classes) == ["all"]:
            return "all"
        said = _spoken(prompt)
        matches: list[tuple[int, int, str]] = []
        for name in self._classes:
            for noun in (name, *self._nouns.get(name, ())):
                words = _spoken(noun)
                if words.strip() and (at := said.find(words)) >= 0:
                    matches.append((-len(words), at, name))
        if not matches:
            raise GeneratorConfigError(
                f"{prompt!r} names no class folder of {self._root} "
                f"({', '.join(self._classes)}); name one, or give `nouns`",
                key="prompt",
            )
        return min(matches)[2]


def _spoken(text: str) -> str:
    """Put lower-case words between single spaces, so that whole words are found."""
    return f" {' '.join(_WORDS.findall(text.casefold()))} "


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def _read(path: Path) -> Pixels:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            upright = ImageOps.exif_transpose(image)
            return np.array(upright.convert("RGB"), dtype=np.uint8)
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise GenerationError(f"{path} cannot be read: {error}") from error
