"""Cards: which models a GPU has the memory for, and which options make them fit.

`gapclose doctor` says it. It counts weights and what one image needs beside them, so it is a guess
before anything is loaded: `batch_size: auto` finds how many images fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["KNOWN", "WAYS", "Model", "fits", "what_fits"]

_GIB: Final = 2**30
_BILLION: Final = 1_000_000_000
_NF4_BYTES: Final = 0.55  # of a weight: four bits, and a scale for each 64 of them
_LARGEST_LAYERS: Final = 0.05  # of a denoiser, with the next on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Sizes of a model.

    Attributes:
        name: What people call it.
        denoiser: Its weights, in billions.
        text: Those of all its text encoders, in billions.
        work_gib: What one image of the model's own size takes beside the weights: the decoder's
            activations in float32, and CUDA itself.
        float16: Whether it computes in float16; others overflow, and are float32 on a card
            without bfloat16.
    """

    name: str
    denoiser: float
    text: float
    work_gib: float
    float16: bool = False


# Rounded, as their authors publish them; what work takes is estimated.
KNOWN: Final = (
    Model(name="Stable Diffusion 1.5", denoiser=0.86, text=0.12, work_gib=2.0, float16=True),
    Model(name="SDXL", denoiser=2.57, text=0.82, work_gib=4.5, float16=True),
    Model(name="Stable Diffusion 3.5 medium", denoiser=2.5, text=5.6, work_gib=4.5),
    Model(name="FLUX.2-klein-4B", denoiser=3.9, text=4.0, work_gib=4.5),
    Model(name="Z-Image", denoiser=6.2, text=4.0, work_gib=4.5),
    Model(name="FLUX.1", denoiser=11.9, text=4.9, work_gib=4.5),
    Model(name="Qwen-Image", denoiser=20.4, text=8.3, work_gib=5.0),
)
WAYS: Final = (
    "in full",
    "with offload: model",
    "with quantize: nf4",
    "with quantize: nf4 and offload: model",
    "with offload: group, slowly",
)
"""From the fastest to the slowest; what offloads keeps the images as they are."""


def fits(model: Model, memory_bytes: int, *, bf16: bool) -> str | None:
    """Return the first of `WAYS` that a model fits in; None if there is none.

    Args:
        model: One of `KNOWN`, or another.
        memory_bytes: Of the card.
        bf16: Whether it computes in bfloat16 itself.
    """
    width = 2.0 if bf16 or model.float16 else 4.0
    whole = model.denoiser + model.text
    largest = max(model.denoiser, model.text)
    weights = (
        whole * width,
        largest * width,
        whole * _NF4_BYTES,
        largest * _NF4_BYTES,
        _LARGEST_LAYERS * largest * width,
    )
    room = memory_bytes - model.work_gib * _GIB
    for way, billions in zip(WAYS, weights, strict=True):
        if billions * _BILLION <= room:
            return way
    return None


def what_fits(memory_bytes: int, *, bf16: bool) -> str:
    """Say in one line which of `KNOWN` a card has the memory for, and how.

    Args:
        memory_bytes: Of the card.
        bf16: Whether it computes in bfloat16 itself.
    """
    ways = {model.name: fits(model, memory_bytes, bf16=bf16) for model in KNOWN}
    said = []
    for way in WAYS:
        if names := [name for name, own in ways.items() if own == way]:
            said.append(f"{way}: {', '.join(names)}")
    if names := [name for name, own in ways.items() if own is None]:
        said.append(f"not at all: {', '.join(names)}")
    return "; ".join(said)
