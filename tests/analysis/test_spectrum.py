"""Spectra of images whose spectrum is known, and their distance against its floor."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gapclose.analysis.embedding import identity, make_embedder
from gapclose.analysis.spectrum import BINS, ROUNDING, SPECTRUM, Spectrum, compare_spectra

Pixels = NDArray[np.uint8]


def noise(n: int, *, seed: int, sd: float = 20.0, size: int = 32) -> list[Pixels]:
    random = np.random.default_rng(seed)
    gray = 128 + sd * random.normal(size=(n, size, size, 1))
    return list(np.clip(np.repeat(gray, 3, axis=-1), 0, 255).astype(np.uint8))


def wave(cycles: int, size: int = 64) -> Pixels:
    line = 128 + 100 * np.cos(2 * np.pi * cycles * np.arange(size) / size)
    return np.repeat(np.tile(line, (size, 1))[..., None], 3, axis=-1).astype(np.uint8)


def test_white_noise_has_its_variance_at_every_frequency() -> None:
    rows = Spectrum().embed(noise(200, seed=0, sd=20.0))
    assert rows.shape == (200, BINS)
    mean = np.log10((10.0**rows).mean(axis=0))
    # The lowest frequencies lose what the mean takes away.
    assert mean[2:] == pytest.approx(np.log10(400 + ROUNDING), abs=0.1)


@pytest.mark.parametrize("cycles", [5, 17, 29, 32])
def test_a_wave_has_its_power_at_its_frequency(cycles: int) -> None:
    (row,) = Spectrum().embed([wave(cycles)])
    assert int(row.argmax()) == cycles // 2
    turned = Spectrum().embed([wave(cycles).transpose(1, 0, 2).copy()])[0]
    assert turned == pytest.approx(row, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (40, 33), (512, 512)])
def test_any_size_and_a_plain_image_give_finite_rows(shape: tuple[int, int]) -> None:
    plain = np.full((*shape, 3), 77, dtype=np.uint8)
    rows = Spectrum().embed([plain])
    assert rows == pytest.approx(np.log10(ROUNDING), abs=1e-3)
    assert Spectrum().embed([]).shape == (0, BINS)


def test_halves_of_one_set_are_under_the_floor_and_blur_is_over_it() -> None:
    spectra = Spectrum().embed(noise(300, seed=1))
    over = 0
    for seed in range(100):
        order = np.random.default_rng(seed).permutation(300)
        gap = compare_spectra(real=spectra[order[:200]], synthetic=spectra[order[200:]]).gap
        over += gap is not None and gap > 1
    assert over <= 12  # 5 expected
    blurred = [((a.astype(int) + np.roll(a, 1, axis=1)) // 2).astype(np.uint8)
               for a in noise(100, seed=2)]  # fmt: skip
    found = compare_spectra(real=spectra, synthetic=Spectrum().embed(blurred))
    assert found.gap is not None
    assert found.gap > 3
    assert found.synthetic[-1] < found.real[-1]
    assert found.frequency[0] == 1 / 64


def test_a_checkerboard_is_seen() -> None:
    board = (np.indices((32, 32)).sum(axis=0) % 2 * 20)[..., None].astype(np.uint8)
    marked = Spectrum().embed([image + board for image in noise(100, seed=2)])
    plain = Spectrum().embed(noise(100, seed=1))
    found = compare_spectra(real=plain, synthetic=marked)
    assert found.gap is not None
    assert found.gap > 3
    assert found.synthetic[-1] > found.real[-1] + 1


def test_of_a_large_image_the_middle_is_looked_at() -> None:
    (small,) = noise(1, seed=0, size=256)
    large = np.pad(small, ((50, 50), (20, 20), (0, 0)))
    assert Spectrum().embed([large]) == pytest.approx(Spectrum().embed([small]))


def test_it_is_made_and_cached_like_any_embedder() -> None:
    made = make_embedder(SPECTRUM)
    assert isinstance(made, Spectrum)
    assert identity(SPECTRUM) == identity(SPECTRUM)


def test_bad_input_says_what() -> None:
    rows = Spectrum().embed(noise(5, seed=0))
    with pytest.raises(ValueError, match="at least 4 images, there are 3"):
        compare_spectra(real=rows[:3], synthetic=rows)
    same = np.repeat(rows[:1], 5, axis=0)
    assert compare_spectra(real=same, synthetic=rows).gap is None
