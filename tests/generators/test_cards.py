"""What a card has the memory for, from its memory and its arithmetic alone."""

from __future__ import annotations

import pytest

from gapclose.generators.cards import KNOWN, WAYS, fits, what_fits

GIB = 2**30
BY_NAME = {model.name: model for model in KNOWN}


@pytest.mark.parametrize(
    ("gib", "bf16", "name", "way"),
    [
        (140, True, "Qwen-Image", "in full"),
        (80, True, "Qwen-Image", "in full"),
        (48, True, "FLUX.1", "in full"),
        (48, True, "Qwen-Image", "with offload: model"),
        (24, True, "FLUX.1", "with quantize: nf4"),
        (20, True, "Z-Image", "with offload: model"),
        (24, True, "SDXL", "in full"),
        (12, True, "SDXL", "in full"),
        (12, True, "FLUX.1", "with quantize: nf4 and offload: model"),
        (12, True, "Qwen-Image", "with offload: group, slowly"),
        (12, True, "Stable Diffusion 1.5", "in full"),
        (16, False, "SDXL", "in full"),
        (24, False, "Z-Image", "with quantize: nf4"),
        (4, True, "Stable Diffusion 1.5", "in full"),
        (4, True, "SDXL", None),
    ],
)
def test_how_a_model_fits(gib: int, bf16: bool, name: str, way: str | None) -> None:
    assert fits(BY_NAME[name], gib * GIB, bf16=bf16) == way


@pytest.mark.parametrize("bf16", [True, False])
def test_a_larger_card_never_needs_more(bf16: bool) -> None:
    order: list[str | None] = [*WAYS, None]
    for model in KNOWN:
        ways = [order.index(fits(model, gib * GIB, bf16=bf16)) for gib in range(1, 200)]
        assert ways == sorted(ways, reverse=True), model.name
        assert ways[-1] == 0


def test_a_card_is_said_in_one_line_that_names_every_model() -> None:
    for gib in (1, 8, 12, 24, 80):
        line = what_fits(gib * GIB, bf16=True)
        assert "\n" not in line
        assert all(line.count(model.name) == 1 for model in KNOWN)
    assert what_fits(GIB, bf16=True).startswith("not at all: ")
    assert what_fits(200 * GIB, bf16=True) == f"in full: {', '.join(BY_NAME)}"
