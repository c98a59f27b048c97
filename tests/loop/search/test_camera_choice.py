"""One camera for all classes: planted noise is found, and a class's content does not lead it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution, FloatDistribution
from scipy.ndimage import gaussian_filter

from gapclose.analysis.kernel import Kernel
from gapclose.analysis.spectrum import Spectrum
from gapclose.generators.camera import apply_camera
from gapclose.generators.recipe import Camera
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.camera_choice import EncoderView, View, choose_camera

NOISE = 0.02
CAMERAS = {"noise": FloatDistribution(0.0, 0.05)}


def scenes(n: int, seed: int, *, contrast: float = 40.0) -> list[NDArray[np.uint8]]:
    """Soft shapes without noise."""
    rng = np.random.default_rng(seed)
    soft = [gaussian_filter(rng.normal(size=(32, 32, 3)), (3, 3, 0)) for _ in range(n)]
    return [np.rint(128 + contrast * s / s.std()).clip(0, 255).astype(np.uint8) for s in soft]


def view(seed: int, *, contrast: float = 40.0, start: Camera | None = None) -> View:
    """A class whose photos have noise, and whose images differ from them in contrast as well."""
    start = start or Camera()
    spectra = Spectrum()
    photos = [
        apply_camera(Camera(noise=NOISE), p, seed=i) for i, p in enumerate(scenes(120, seed))
    ]
    images = scenes(40, seed + 1000, contrast=contrast)
    real = spectra.embed(photos)
    rows = spectra.embed([apply_camera(start, image, seed=i) for i, image in enumerate(images)])
    bank = AtomBank(kernel=Kernel.fit(real), real=real)
    bank.add(rows, range(40))
    encoder = EncoderView(
        embed=spectra.embed, bank=bank, weights=np.ones(1), rows=rows, floor=1e-3
    )
    return View(images=images, seeds=range(40), encoders=[encoder])


def test_noise_that_all_photos_have_is_found() -> None:
    views = [view(seed) for seed in range(3)]
    found = choose_camera(views, cameras=CAMERAS, start=Camera(), seed=0)
    assert found.noise == pytest.approx(NOISE, abs=0.003)


def test_what_one_class_lacks_besides_does_not_lead_the_camera() -> None:
    """Of two classes, one too faint and one too bold: each alone would go astray."""
    views = [view(0, contrast=25.0), view(1, contrast=60.0), view(2), view(3)]
    found = choose_camera(views, cameras=CAMERAS, start=Camera(), seed=0)
    assert found.noise == pytest.approx(NOISE, abs=0.005)


def test_a_camera_that_is_right_already_stays() -> None:
    right = Camera(noise=NOISE)
    found = choose_camera([view(0, start=right)], cameras=CAMERAS, start=right, seed=0)
    assert found.noise == pytest.approx(NOISE, abs=0.004)


def test_choices_are_searched_and_what_is_not_varied_stays() -> None:
    cameras = CAMERAS | {"kernel": CategoricalDistribution(("area", "lanczos"))}
    start = Camera(jpeg_quality=95)
    found = choose_camera([view(0)], cameras=cameras, start=start, seed=1)
    assert found.jpeg_quality == 95
    assert found == replace(start, noise=found.noise, kernel=found.kernel)


def test_the_same_seed_gives_the_same_camera() -> None:
    one, other = (
        choose_camera([view(0)], cameras=CAMERAS, start=Camera(), seed=5) for _ in range(2)
    )
    assert one == other
