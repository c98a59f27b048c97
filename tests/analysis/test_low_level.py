"""Low-level features of images that were made to have them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.confounds import Header
from gapclose.analysis.low_level import (
    FEATURES,
    GROUPS,
    UNCOMPRESSED,
    jpeg_history,
    measure,
    measure_files,
    noise_deviation,
)

Pixels = NDArray[np.uint8]


def named(row: NDArray[np.float64]) -> dict[str, float]:
    """By what more of a feature is called."""
    return {feature.more: float(value) for feature, value in zip(FEATURES, row, strict=True)}


def ramp(size: int = 64, *, noise: float = 0.0, seed: int = 0) -> Pixels:
    """A smooth picture of all frequencies below the highest, under white noise in grey levels."""
    down, across = np.mgrid[:size, :size] / size
    gray = 120 + 60 * np.sin(2 * np.pi * (1.3 * down + 0.7 * across)) + 20 * down
    tinted = gray[..., None] + np.array([10.0, 0.0, -20.0])
    noisy = tinted + noise * np.random.default_rng(seed).normal(size=tinted.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def jpeg(image: Pixels, quality: int, **how: Any) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, **how)
    with Image.open(stream) as decoded:
        return np.array(decoded.convert("RGB"))


def history(image: Pixels) -> int:
    return jpeg_history(np.asarray(Image.fromarray(image).convert("L"), dtype=np.float64))


@pytest.mark.parametrize("deviation", [2.0, 4.6, 9.6])
def test_known_noise_is_found_within_a_tenth(deviation: float) -> None:
    estimates = [
        noise_deviation(ramp(noise=deviation, seed=s)[..., 1].astype(np.float64)) for s in range(5)
    ]
    assert estimates == pytest.approx([deviation] * 5, rel=0.1)


def test_edges_are_no_noise() -> None:
    house = np.full((32, 32), 30.0)
    house[8:24, 6:27] = 220.0
    assert noise_deviation(house) == 0.0
    assert noise_deviation(house[:1]) == 0.0


def test_noise_is_told_by_its_kind() -> None:
    clean, white = named(measure(ramp())), named(measure(ramp(noise=6.0)))
    gray = np.repeat(ramp(noise=6.0)[..., :1], 3, axis=2)
    in_luma = named(measure(gray))
    assert white["noisier"] > clean["noisier"] + 2
    assert white["noisier in chroma"] > clean["noisier in chroma"] + 2
    assert in_luma["noisier"] == pytest.approx(white["noisier"], abs=0.2)
    assert in_luma["noisier in chroma"] == pytest.approx(clean["noisier in chroma"], abs=0.5)
    # Averaged over 2 x 2 pixels white noise is half as strong, and grain of that size is not.
    grain = np.kron(np.random.default_rng(0).normal(size=(32, 32)), np.ones((2, 2)))
    coarse = named(measure((ramp() + 6 * grain[..., None]).clip(0, 255).astype(np.uint8)))
    assert coarse["of coarser noise"] > in_luma["of coarser noise"] + 0.7


@pytest.mark.parametrize("quality", [50, 75, 90, 95])
@pytest.mark.parametrize("size", [32, 64])
def test_pixels_keep_the_quality_of_their_jpeg(quality: int, size: int) -> None:
    for seed in range(4):
        photo = ramp(size, noise=5.0, seed=seed)
        assert abs(history(jpeg(photo, quality)) - quality) <= 1
        assert abs(history(jpeg(jpeg(photo, 80), quality)) - quality) <= 1 or quality > 80
        assert abs(history(jpeg(photo, quality, subsampling=0)) - quality) <= 1


def test_without_jpeg_or_off_its_grid_there_is_no_history() -> None:
    for seed in range(20):
        assert history(ramp(32, noise=seed / 2, seed=seed)) == UNCOMPRESSED
    assert history(jpeg(ramp(noise=5.0), 75)[3:, 5:]) == UNCOMPRESSED
    assert history(np.full((32, 32, 3), 77, dtype=np.uint8)) == UNCOMPRESSED
    assert history(ramp(7)) == UNCOMPRESSED


def test_headers_count_and_png_has_the_history_of_its_pixels(tmp_path: Path) -> None:
    photo = ramp(32, noise=5.0)
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=80, subsampling=2)
    Image.fromarray(jpeg(photo, 80)).save(tmp_path / "b.png")
    Image.fromarray(photo).save(tmp_path / "c.webp", lossless=True)
    stored, again, webp = (named(row) for row in measure_files(sorted(tmp_path.iterdir())))
    keys = ("more often JPEG", "more often lossy", "of higher JPEG quality", "of coarser chroma")
    assert [stored[key] for key in keys] == [1.0, 1.0, 80.0, 2.0]
    assert [again[key] for key in keys] == [0.0, 0.0, UNCOMPRESSED, 0.0]
    assert [webp[key] for key in keys] == [0.0, 1.0, UNCOMPRESSED, 0.0]
    assert [row["less compressed"] for row in (stored, again, webp)] == [80, 80, UNCOMPRESSED]


def test_size_is_the_files_own() -> None:
    wide = named(measure(np.zeros((16, 64, 3), dtype=np.uint8)))
    assert (wide["larger"], wide["wider"]) == (10.0, 2.0)
    header = Header(codec="png", height=1 << 12, width=1 << 12)
    large = named(measure(np.zeros((16, 64, 3), dtype=np.uint8), header))
    assert (large["larger"], large["wider"]) == (24.0, 0.0)


def test_colours_go_where_their_words_say() -> None:
    plain = named(measure(ramp()))
    for word, channel in (("bluer", 2), ("redder", 0)):
        shifted = ramp().astype(int)
        shifted[..., channel] += 12
        assert named(measure(shifted.astype(np.uint8)))[word] > plain[word] + 5
    brighter = named(measure(ramp() + np.uint8(8)))
    for word in ("brighter", "of lighter shadows", "of lighter highlights"):
        assert brighter[word] == pytest.approx(plain[word] + 8)
    gray = named(measure(np.repeat(ramp()[..., :1], 3, axis=2)))
    assert gray["more saturated"] == pytest.approx(0.0, abs=1e-3)


def test_contrast_is_not_in_the_spectrum_and_blur_is() -> None:
    spectrum = [i for i, feature in enumerate(FEATURES) if feature.group == "spectrum"]
    image = ramp(noise=10.0).astype(np.float64)
    half = (128 + (image - 128) / 2).round().astype(np.uint8)
    blurred = ((image + np.roll(image, 1, axis=1)) / 2).astype(np.uint8)
    row, of_half, of_blurred = (
        measure(one)[spectrum] for one in (image.astype(np.uint8), half, blurred)
    )
    assert of_half == pytest.approx(row, abs=0.05)
    assert of_blurred[-1] < row[-1] - 0.1


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 9), (40, 33), (600, 512)])
def test_any_size_gives_a_finite_row(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    for image in (
        np.full((*shape, 3), 255, dtype=np.uint8),
        random.integers(0, 256, (*shape, 3), dtype=np.uint8),
    ):
        row = measure(image)
        assert row.shape == (len(FEATURES),)
        assert np.isfinite(row).all()
    assert GROUPS == ("noise", "spectrum", "codec", "size", "color")


def test_of_a_large_image_the_middle_is_measured_on_the_grid_of_its_blocks() -> None:
    large = np.zeros((640, 520, 3), dtype=np.uint8)
    large[200:456, 120:376] = ramp(256, noise=4.0)
    assert 2 ** named(measure(large))["noisier"] == pytest.approx(4.3, rel=0.1)
    assert named(measure(jpeg(large, 75)))["less compressed"] == 75


def test_every_mode_is_read_and_what_is_none_drops_out(tmp_path: Path) -> None:
    Image.fromarray(ramp()[..., 0]).save(tmp_path / "gray.png")
    Image.fromarray(np.dstack([ramp(), ramp()[..., 0]])).save(tmp_path / "alpha.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "gray.png").read_bytes()[:200])
    (tmp_path / "none.png").write_text("no image")
    rows = measure_files([*sorted(tmp_path.iterdir()), tmp_path / "gone.png"])
    assert rows.shape == (2, len(FEATURES))
    assert np.isfinite(rows).all()
    assert measure_files([]).shape == (0, len(FEATURES))
