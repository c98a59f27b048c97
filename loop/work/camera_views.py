"""Camera views: some of a class's images as the encoders see them, to choose the camera by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gapclose.analysis.embedding import finite_rows
from gapclose.analysis.floor import Floor
from gapclose.analysis.kernel import Kernel
from gapclose.analysis.spectrum import Spectrum
from gapclose.generators.camera import apply_camera
from gapclose.generators.images import Pixels
from gapclose.generators.recipe import Camera
from gapclose.loop.search.atom_bank import AtomBank
from gapclose.loop.search.camera_choice import EncoderView, View
from gapclose.loop.search.class_search import ClassSearch
from gapclose.loop.search.trial import Images
from gapclose.loop.work.real_data import ClassReference, Rows, one_size
from gapclose.loop.work.synthesis import Synthesis


def view_of(
    search: ClassSearch, real: ClassReference, synthesis: Synthesis, *, images: int
) -> View | None:
    """View a class by the tuning embedder, and by its spectra, which show noise best.

    Frequencies are per pixel, so images of another size than the photos have no spectra here.

    Args:
        search: Of the class; it has its baseline.
        real: Its photos.
        synthesis: Reads back what was generated.
        images: How many of its images; fewer where it has fewer.

    Returns:
        None where too few of its images can be embedded.

    Raises:
        GenerationError: An image that was lost could not be generated again.
    """
    jobs = search.sample(images)
    raw = synthesis.generate(
        search.space.cls,
        [(replace(recipe, camera=Camera()), seeds) for recipe, seeds in jobs],
        partly=True,
    )
    if len(raw.seeds) < 2:
        return None
    camera = search.space.camera
    taken = [apply_camera(camera, i, seed=s) for i, s in zip(raw.images, raw.seeds, strict=True)]
    rows = synthesis.embed(taken)
    if not finite_rows(rows).all():
        return None
    made = Images(embeddings=rows, recipes=raw.recipes, seeds=raw.seeds)
    sources = search.sources.named(made, jobs).sources
    tuned = EncoderView(
        embed=synthesis.embed,
        bank=search.bank,
        weights=search.weights,
        rows=rows,
        sources=sources,
        floor=search.floor,
    )
    photos = real.tune.spectra
    if photos is None or not one_size(taken, real.tune.paths):
        encoders = [tuned]
    else:
        encoders = [tuned, _spectral(photos, taken, seeds=raw.seeds, sources=sources)]
    return View(images=raw.images, seeds=raw.seeds, encoders=encoders)


def _spectral(
    photos: Rows, taken: Sequence[Pixels], *, seeds: Sequence[int], sources: Sequence[int]
) -> EncoderView:
    """View a class by its power spectra.

    Args:
        photos: (n_real, bins) spectra of its photos.
        taken: Its images after the class's camera.
        seeds: Of each image.
        sources: Of each, as `Images` has them.
    """
    spectra = Spectrum()
    kernel = Kernel.fit(photos)
    rows = spectra.embed(taken)
    bank = AtomBank(kernel=kernel, real=photos)
    bank.add(rows, seeds, sources=sources)
    floor = Floor.fit(photos, kernel=kernel).floor_p95(n_real=len(photos), n_synthetic=len(rows))
    return EncoderView(
        embed=spectra.embed,
        bank=bank,
        weights=np.ones(1),
        rows=rows,
        sources=sources,
        floor=max(floor, 1e-9),
    )
