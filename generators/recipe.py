"""Draws, cameras and recipes: the immutable settings that an image is made from.

The search space makes them, generators and `camera` read them, run folders store them. They hold
values, check them and name them by a fingerprint; they load nothing and generate nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Self

from gapclose.generators.checked_fields import (
    digest_of,
    image_size,
    known_fields,
    put,
    real_number,
    whole_number,
)
from gapclose.generators.parameters import Parameter, Parameters
from gapclose.generators.prompt_text import normalize_prompt

KERNELS: Final = ("nearest", "area", "bilinear", "bicubic", "lanczos")
KERNEL_ALIASES: Final = {"box": "area"}  # other names of them

# What is None is left out: draws that have none of it keep the fingerprints that they had.
_OPTIONAL: Final = (
    *("guidance_scale", "num_inference_steps", "photos", "strength", "ip_adapter_scale"),
    *("cls", "noun", "generator"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What the generator sees; two equal draws with equal seeds make equal images.

    Attributes:
        prompt: Stored as `normalize_prompt` gives it, so that what is generated is what is named.
        negative_prompt: Words to steer away from; white space is collapsed.
        guidance_scale: Classifier-free guidance, >= 0; 1 and below is no guidance. None is the
            generator's own, or none where it has no such thing.
        num_inference_steps: Denoising steps, >= 1; None likewise.
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
        parameters: The generator's own knobs by name; any mapping is taken. A distribution stands
            for a value of each image's own.
        cls: The class that the image is to be of; None where the generator reads the prompt alone.
        noun: The class's noun in the prompt; None likewise.
        generator: Which of a run's generators draws it, by its name in the config; None where
            there is one.

    Raises:
        ValueError: If a value is out of range or of another type.
    """

    prompt: str
    negative_prompt: str = ""
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    scheduler: str | None = None
    size: int | tuple[int, int] | None = None
    photos: str | None = None
    strength: float | None = None
    ip_adapter_scale: float | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=Parameters)
    cls: str | None = None
    noun: str | None = None
    generator: str | None = None

    def __post_init__(self) -> None:
        """Canonicalise, so that equality and fingerprints agree."""
        for name in ("prompt", "negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be text, not {getattr(self, name)!r}")
        for name in ("scheduler", "photos", "cls", "noun", "generator"):
            named = getattr(self, name)
            unnamed = named == "" and name not in ("cls", "noun")  # a class may be called ""
            if named is not None and (unnamed or not isinstance(named, str)):
                raise ValueError(f"{name} must be a name or null, not {named!r}")
        put(self, "prompt", normalize_prompt(self.prompt))
        put(self, "negative_prompt", " ".join(self.negative_prompt.split()))
        if self.guidance_scale is not None:
            put(self, "guidance_scale", real_number(self, "guidance_scale", low=0.0))
        if self.num_inference_steps is not None:
            put(self, "num_inference_steps", whole_number(self, "num_inference_steps", low=1))
        put(self, "size", image_size(self.size))
        put(self, "parameters", Parameters(self.parameters))
        for name in ("strength", "ip_adapter_scale"):
            if getattr(self, name) is not None:
                put(self, name, real_number(self, name, low=0.0, high=1.0))
        if self.strength == 0.0:
            raise ValueError("strength must be above 0, or null: at 0 the source is the image")

    @property
    def takes_source(self) -> bool:
        """Whether an image of it starts from a source picture, or is shown one."""
        return self.strength is not None or self.ip_adapter_scale is not None

    @property
    def varies(self) -> bool:
        """Whether its images have different parameters."""
        return _own(self).varies

    def of_seed(self, seed: int) -> Draw:
        """Return the draw of one image alone, with its own parameters."""
        return replace(self, parameters=_own(self).of_seed(seed))

    def fingerprint(self) -> str:
        """Hash the canonical JSON by sha256: 64 hex digits."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`, without what is not there."""
        plain = {name: getattr(self, name) for name in type(self).__dataclass_fields__}
        for name in _OPTIONAL:
            if plain[name] is None:
                del plain[name]
        if "cls" in plain:
            plain["class"] = plain.pop("cls")
        if isinstance(self.size, tuple):
            plain["size"] = list(self.size)
        del plain["parameters"]
        parameters = _own(self).to_json()
        return {**plain, "parameters": parameters} if parameters else plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `to_json`; keys that are missing take their defaults.

        Raises:
            ValueError: If a key is unknown or a value out of range.
        """
        named = {"cls" if key == "class" else key: value for key, value in data.items()}
        return cls(**known_fields(cls, named, required="prompt"))


def _own(draw: Draw) -> Parameters:
    assert isinstance(draw.parameters, Parameters), "whatever was given was made such"
    return draw.parameters


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
        put(self, "kernel", kernel)
        if self.resize is not None:
            put(self, "resize", whole_number(self, "resize", low=1))
        if self.jpeg_quality is not None:
            put(self, "jpeg_quality", whole_number(self, "jpeg_quality", low=1, high=100))
        put(self, "noise", real_number(self, "noise", low=0.0))
        put(self, "saturation", real_number(self, "saturation", low=0.0))

    @property
    def is_identity(self) -> bool:
        """Whether it changes no image."""
        return self == Camera(kernel=self.kernel)

    def fingerprint(self) -> str:
        """Hash the canonical JSON by sha256: 64 hex digits."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return plain values, ready for `json.dumps`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `to_json`; keys that are missing take their defaults.

        Raises:
            ValueError: If a key is unknown or a value out of range.
        """
        return cls(**known_fields(cls, data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A draw and the camera put on it."""

    draw: Draw
    camera: Camera

    def fingerprint(self) -> str:
        """Hash the canonical JSON by sha256: 64 hex digits."""
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return `{"draw": {..}, "camera": {..}}`, ready for `json.dumps`."""
        return {"draw": self.draw.to_json(), "camera": self.camera.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Invert `to_json`; a missing camera is the one that changes nothing.

        Raises:
            ValueError: If a key is unknown or missing, or a value out of range.
        """
        known = known_fields(cls, data, required="draw")
        return cls(
            draw=Draw.from_json(known["draw"]), camera=Camera.from_json(known.get("camera", {}))
        )
