"""Stored formats: how a class's files differ between the sides, and what of its gap is due to it.

Audits and diagnostics use it, class by class. Codec, compression and size are no part of what a
picture shows, so the gap is reported as the files are stored and with both sides in one form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.cache import embed_files
from gapclose.analysis.confounds import (
    LOSSLESS,
    Confounds,
    Difference,
    Form,
    common_form,
    describe_confounds,
    differences,
    equalize,
    read_confounds,
)
from gapclose.analysis.decode import DAMAGED, open_image
from gapclose.analysis.embedding import Embedder, finite_rows
from gapclose.analysis.floor import Floor
from gapclose.analysis.gap import MIN_IMAGES, mmd2
from gapclose.analysis.kernel import Kernel
from gapclose.loop.run.folder import RunDir
from gapclose.loop.work.holdout import Holdout
from gapclose.loop.work.synthesis import Synthesis, read_image

Rows = NDArray[np.float32]

Item = TypeVar("Item")

SAMPLED: Final = 200
"""Images a side that both gaps are taken of: they stand beside the class's own gap, no test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How one class is stored on both sides.

    Attributes:
        real: In words.
        synthetic: In words.
        differs: In what they differ.
        form: What both can be put through; None where nothing differs.
    """

    real: str
    synthetic: str
    differs: tuple[Difference, ...]
    form: Form | None


def compare_storage(
    real: Mapping[str, Confounds], synthetic: Mapping[str, Confounds]
) -> dict[str, Storage]:
    """Compare both sides class by class; classes that are stored alike are left out."""
    found = {}
    for name, ours in real.items():
        theirs = synthetic[name]
        if differs := differences(ours, theirs, compared=len(real)):
            found[name] = Storage(
                real=ours.told(differs),
                synthetic=theirs.told(differs),
                differs=differs,
                form=common_form(ours, theirs, compared=len(real)),
            )
    return found


def sampled(items: Sequence[Item]) -> list[Item]:
    """Return at most `SAMPLED` of them, spread evenly."""
    step = max(len(items) / SAMPLED, 1.0)
    return [items[int(i * step)] for i in range(min(len(items), SAMPLED))]


def embed_sample(
    paths: Sequence[Path], embedder: Embedder, name: str, *, form: Form | None
) -> Rows:
    """Embed some of a class's files in a form, or as they are.

    Args:
        paths: The class's files.
        embedder: Loaded.
        name: The embedder's, by which its rows are cached.
        form: What they are put through.
    """
    return embed_files(sampled(paths), name, form=form, loaded={name: embedder}).embeddings


def embed_in_form(
    images: Sequence[NDArray[np.uint8]], embedder: Embedder, form: Form | None
) -> Rows:
    """Embed some generated images in a form."""
    few = sampled(images)
    rows = embedder.embed(few if form is None else [equalize(image, form) for image in few])
    return rows[finite_rows(rows)]


def describe_storage(
    storage: Storage, *, as_stored: tuple[Rows, Rows], in_one_form: tuple[Rows, Rows]
) -> dict[str, Any]:
    """Return what gap.json says of a class that is stored differently.

    Both gaps are of the same few images, and in floors of as many, so that they can be compared
    with each other. The class's own row has the gap of all images.

    Args:
        storage: How it is stored.
        as_stored: (n, d) and (m, d) embeddings of some photos and some synthetic images.
        in_one_form: Of the same images, put through the form.
    """
    out: dict[str, Any] = {
        "real": storage.real,
        "synthetic": storage.synthetic,
        "differs": list(storage.differs),
        "form": str(storage.form),
    }
    for key, (real, synthetic) in (("as_stored", as_stored), ("in_one_form", in_one_form)):
        gap = ratio = None
        if min(len(real), len(synthetic)) >= MIN_IMAGES:
            kernel = Kernel.fit(real)
            gap = mmd2(real=real, synthetic=synthetic, kernel=kernel)
            floor = Floor.fit(real, kernel=kernel)
            ratio = floor.ratio(gap, n_real=len(real), n_synthetic=len(synthetic))
        out |= {f"gap_{key}": gap, f"ratio_{key}": ratio}
    return out


def stored_as(
    holdouts: Sequence[Holdout], rundir: RunDir
) -> tuple[dict[str, Confounds], dict[str, Confounds]]:
    """Return, by class, how its photos are stored and what its camera made of its images.

    A class whose images are all lost, or photos, is left out.
    """
    real, synthetic = {}, {}
    for holdout in holdouts:
        photos = read_confounds(holdout.real.folds[holdout.fold].paths)
        cameras = [holdout.mixture.recipes[number].camera for number in holdout.images.recipes]
        sizes = []
        for path in holdout.paths(rundir):
            with suppress(*DAMAGED), open_image(path) as image:
                sizes.append(image.size)
        if not sizes or not photos.codecs:
            continue
        qualities = tuple(c.jpeg_quality for c in cameras if c.jpeg_quality is not None)
        # What went through no JPEG is as good as whatever lossless codec the photos are in.
        lossless = next((codec for codec in photos.codecs if codec in LOSSLESS), "png")
        name = holdout.real.name
        real[name] = photos
        synthetic[name] = Confounds(
            codecs=tuple(lossless if c.jpeg_quality is None else "jpeg" for c in cameras),
            heights=tuple(height for _, height in sizes),
            widths=tuple(width for width, _ in sizes),
            qualities=qualities,
            chromas=("4:2:0",) * len(qualities),  # as the camera's JPEGs are
        )
    return real, synthetic


def storage_of(
    holdouts: Sequence[Holdout], synthesis: Synthesis, embedder: str
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Find what of codec, quality, size and aspect still sets photos and images apart, by class.

    Args:
        holdouts: By class its fresh images, which lie in the run folder.
        synthesis: Its embedder scores the forms.
        embedder: The name of that.

    Returns:
        As `describe_confounds`, and by class as `describe_storage`.
    """
    stored = stored_as(holdouts, synthesis.rundir)
    storage = compare_storage(*stored)
    told = {}
    for holdout in holdouts:
        name = holdout.real.name
        if (kept := storage.get(name)) is None:
            continue
        fold = holdout.real.folds[holdout.fold]
        images = [read_image(path) for path in sampled(holdout.paths(synthesis.rundir))]
        told[name] = describe_storage(
            kept,
            as_stored=(
                np.stack(sampled(list(fold.rows))),
                np.stack(sampled(list(holdout.images.embeddings))),
            ),
            in_one_form=(
                embed_sample(fold.paths, synthesis.embedder, embedder, form=kept.form),
                embed_in_form(
                    [image for image in images if image is not None],
                    synthesis.embedder,
                    kept.form,
                ),
            ),
        )
    return describe_confounds(*stored), told
