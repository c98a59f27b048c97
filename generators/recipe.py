"""Draws, cameras and recipes: the immutable settings that an image is made from.

The search space makes them, generators and `camera` read them, run folders store them. They hold
values, check them and name them by a fingerprint; they load nothing and generate nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, Final, Self

KERNELS: Final = ("nearest", "area", "bilinear", "bicubic", "lanczos")
KERNEL_ALIASES: Final = {"box": "area"}  # other names of them

_CONDITIONS: Final = ("photos", "strength", "ip_adapter_scale")

# The article and the word after it. A hyphen or apostrophe before it makes it part of a word.
_ARTICLE: Final = re.compile(r"(?<![\w'\u2019-])(a|an|A|An) (?=([^\W\d_]+))")
# Written with a vowel, spoken with a consonant ("a unicorn", "a one-way road"), and the reverse.
_CONSONANT_SOUND: Final = re.compile(
    r"(eu|ewe|once$|one(s|self)?$|ubiq|ukulele|unanim|unic|unif|union|uniq|unis|unit|univ|uran"
    r"|urin|us[aeu]|uten|util|utop)"
)
_VOWEL_SOUND: Final = re.compile(r"(heir|honest|honou?r|hour)")


def normalize_prompt(text: str) -> str:
    """Collapse white space and make "a" and "an" agree with the next word.

    "a  automobile" becomes "an automobile", "an blue ship" becomes "a blue ship". Words in
    capitals ("SUV") and numbers keep the article they came with, for only their reader knows how
    they are spoken. A capital "A" counts as an article only where a sentence starts. Applying it
    twice changes nothing.
    """
    text = " ".join(text.split())

    def agree(found: re.Match[str]) -> str:
        article, word = found.group(1), found.group(2)
        starts = found.start() == 0 or text[: found.start()].rstrip().endswith((".", "!", "?"))
        if word.isupper() or (article[0] == "A" and not starts):
            return found.group(0)
        return article[0] + ("n " if _sounds_like_vowel(word.lower()) else " ")

    return _ARTICLE.sub(agree, text)


def _sounds_like_vowel(word: str) -> bool:
    if word[0] in "aeiou":
        return _CONSONANT_SOUND.match(word) is None
    return _VOWEL_SOUND.match(word) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What the generator sees; two equal draws with equal seeds make equal images.

    Attributes:
        prompt: Stored as `normalize_prompt` gives it, so that what is generated is what is named.
        negative_prompt: Words to steer away from; white space is collapsed.
        guidance_scale: Classifier-free guidance, >= 0; 1 and below is no guidance.
        num_inference_steps: Denoising steps, >= 1.
        scheduler: Short name of a diffusion noise scheduler; None is the generator's own.
        size: Pixels, a side of a square or (width, height); None is the generator's own.
        photos: Digest of a photo group: each seed's caption and source picture are those of one
            of its photos; None is a draw from text alone. A segment in braces that starts with
            "captions of" stands for the caption in the prompt.
        strength: How much of the source picture is replaced, in (0, 1], as in diffusers'
            image-to-image pipelines: the share of the denoising steps that is made. Where that
            is less than one step, one is made. None leaves the source out.
        ip_adapter_scale: Weight of the source picture as an image prompt beside the text, in
            [0, 1]; None leaves it out.

    Raises:
        ValueError: If a value is out of range or of another type.
    """

    prompt: str
    negative_prompt: str = ""
    guidance_scale: float = 7.5
    num_inference_steps: int = 30
    scheduler: str | None = None
    size: int | tuple[int, int] | None = None
    photos: str | None = None
    strength: float | None = None
    ip_adapter_scale: float | None = None

    def __post_init__(self) -> None:
        """Canonicalise, so that equality and fingerprints agree."""
        for name in ("prompt", "negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text, not {getattr(self, name)!r}")
        for name in ("scheduler", "photos"):
            named = getattr(self, name)
            if named is not None and not (isinstance(named, str) and named):
                raise ValueError(f"{name} must be a name or null, not {named!r}")
        _put(self, "prompt", normalize_prompt(self.prompt))
        _put(self, "negative_prompt", " ".join(self.negative_prompt.split()))
        _put(self, "guidance_scale", _number(self, "guidance_scale", low=0.0))
        _put(self, "num_inference_steps", _integer(self, "num_inference_steps", low=1))
        _put(self, "size", _size(self.size))
        for name in ("strength", "ip_adapter_scale"):
            if getattr(self, name) is not None:
                _put(self, name, _number(self, name, low=0.0, high=1.0))
        if self.strength == 0.0:
            raise ValueError("strength must be above 0, or null: at 0 the source is the image")

    @property
    def takes_source(self) -> bool:
        """Whether an image of it starts from a source picture, or is shown one."""
        return self.strength is not None or self.ip_adapter_scale is not None

    def fingerprint(self) -> str:
        """Hash the canonical JSON by sha256: 64 hex digits."""
        return _fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`, without the conditions that are None."""
        plain = asdict(self)
        for name in _CONDITIONS:
            if plain[name] is None:  # draws from text alone keep the fingerprints that they had
                del plain[name]
        return {**plain, "size": list(self.size)} if isinstance(self.size, tuple) else plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `to_json`; keys that are missing take their defaults.

        Raises:
            ValueError: If a key is unknown or a value out of range.
        """
        return cls(**_known(cls, data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """The imaging pipeline that is put on a generated image; by default it changes nothing.

    Attributes:
        resize: Pixels of the shorter side afterwards; None keeps the size.
        kernel: One of `KERNELS`, for `resize`; "box" is another name of "area".
        jpeg_quality: 1 to 100 for a JPEG round trip; None for none.
        noise: Standard deviation of sensor noise, in units where white is 1.
        saturation: 0 is grey, 1 leaves the colours alone.

    Raises:
        ValueError: If a value is out of range or of another type.
    """

    resize: int | None = None
    kernel: str = "area"
    jpeg_quality: int | None = None
    noise: float = 0.0
    saturation: float = 1.0

    def __post_init__(self) -> None:
        """Canonicalise, so that equality and fingerprints agree."""
        kernel = KERNEL_ALIASES.get(self.kernel, self.kernel)
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, not {self.kernel!r}")
        _put(self, "kernel", kernel)
        if self.resize is not None:
            _put(self, "resize", _integer(self, "resize", low=1))
        if self.jpeg_quality is not None:
            _put(self, "jpeg_quality", _integer(self, "jpeg_quality", low=1, high=100))
        _put(self, "noise", _number(self, "noise", low=0.0))
        _put(self, "saturation", _number(self, "saturation", low=0.0))

    @property
    def is_identity(self) -> bool:
        """Whether it changes no image."""
        return self == Camera(kernel=self.kernel)

    def fingerprint(self) -> str:
        """Hash the canonical JSON by sha256: 64 hex digits."""
        return _fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `to_json`; keys that are missing take their defaults.

        Raises:
            ValueError: If a key is unknown or a value out of range.
        """
        return cls(**_known(cls, data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A draw and the camera put on it."""

    draw: Draw
    camera: Camera

    def fingerprint(self) -> str:
        """Hash the canonical JSON by sha256: 64 hex digits."""
        return _fingerprint(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return `{"draw": {..}, "camera": {..}}`, ready for `json.dumps`."""
        return {"draw": self.draw.to_json(), "camera": self.camera.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `to_json`; a missing camera is the one that changes nothing.

        Raises:
            ValueError: If a key is unknown or missing, or a value out of range.
        """
        known = _known(cls, data)
        return cls(
            draw=Draw.from_json(known["draw"]), camera=Camera.from_json(known.get("camera", {}))
        )


def _put(value: object, name: str, content: object) -> None:
    object.__setattr__(value, name, content)


def _number(value: object, name: str, *, low: float, high: float = math.inf) -> float:
    content = getattr(value, name)
    if isinstance(content, bool) or not isinstance(content, Real):
        raise ValueError(f"{name} must be a number, not {content!r}")
    number = float(content)
    if not math.isfinite(number) or not low <= number <= high:
        bounds = f"finite and at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{name} must be {bounds}, not {content!r}")
    return number + 0.0  # adding zero turns -0.0 into 0.0: one value, one fingerprint


def _integer(value: object, name: str, *, low: int, high: int | None = None) -> int:
    content = getattr(value, name)
    if isinstance(content, bool) or not isinstance(content, Integral):
        raise ValueError(f"{name} must be a whole number, not {content!r}")
    whole = int(content)
    if whole < low or (high is not None and whole > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{name} must be {bounds}, not {content!r}")
    return whole


def _size(size: object) -> int | tuple[int, int] | None:
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    whole = [int(s) for s in sides if isinstance(s, Integral) and not isinstance(s, bool)]
    if len(whole) != 2 or len(sides) != 2 or min(whole) < 1:
        raise ValueError(f"size must be a side or (width, height) in pixels, not {size!r}")
    width, height = whole
    return width if width == height else (width, height)


def _known(kind: type[Draw | Camera | Recipe], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    required = {"Draw": {"prompt"}, "Recipe": {"draw"}}.get(kind.__name__, set())
    if unknown := sorted(set(data) - names):
        raise ValueError(f"{kind.__name__.lower()}: unknown key {unknown[0]!r}")
    if missing := sorted(required - set(data)):
        raise ValueError(f"{kind.__name__.lower()}: key {missing[0]!r} is missing")
    return dict(data)


def _fingerprint(plain: Mapping[str, Any]) -> str:
    # json writes floats with repr, the shortest text that reads back as the same float.
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
