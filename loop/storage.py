"""Storage: how a class's files differ between the sides, and how much of its gap that makes.

Audits and the controller ask it, class by class. Codec, compression and size are no part of what
a picture shows, so the gap is told as the files are stored and with both sides in one form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.cache import embed_files
from gapclose.analysis.confounds import (
    Confounds,
    Difference,
    Form,
    common_form,
    differences,
    equalize,
)
from gapclose.analysis.embedding import Embedder
from gapclose.analysis.gap import MIN_IMAGES, ClassGap, Floor, mmd2
from gapclose.analysis.kernel import Kernel

Rows = NDArray[np.float32]

SAMPLED: Final = 200
"""Images a side that the gap in the other form is taken of: it is told beside the gap, no test."""


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


def sampled(paths: Sequence[Path]) -> list[Path]:
    """At most `SAMPLED` of the files, spread evenly."""
    step = max(len(paths) / SAMPLED, 1.0)
    return [paths[int(i * step)] for i in range(min(len(paths), SAMPLED))]


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
    """Embed some drawn images in a form, or as they are."""
    few = list(images[:SAMPLED])
    rows = embedder.embed(few if form is None else [equalize(image, form) for image in few])
    return rows[np.isfinite(rows).all(axis=1)]


def told(
    gap: ClassGap, storage: Storage, *, real: Rows, synthetic: Rows, equalized: bool
) -> dict[str, Any]:
    """What gap.json says of a class that is stored differently.

    Args:
        gap: The class's row.
        storage: How it is stored.
        real: (n, d) embeddings of some images in the form that the row's own are not in.
        synthetic: (m, d) likewise.
        equalized: Whether the row's own images are in one form.
    """
    value = ratio = None
    if min(len(real), len(synthetic)) >= MIN_IMAGES:
        kernel = Kernel.fit(real)
        value = mmd2(real=real, synthetic=synthetic, kernel=kernel)
        floor = Floor.fit(real, kernel=kernel)
        # At the sizes of the row's own floor, so that both ratios have one unit.
        ratio = floor.ratio(value, n_real=gap.n_real, n_synthetic=gap.n_synthetic)
    own, other = ("in_one_form", "as_stored") if equalized else ("as_stored", "in_one_form")
    return {
        "real": storage.real,
        "synthetic": storage.synthetic,
        "differs": list(storage.differs),
        "form": str(storage.form),
        f"gap_{own}": gap.gap,
        f"ratio_{own}": gap.ratio,
        f"gap_{other}": value,
        f"ratio_{other}": ratio,
    }


__all__ = [
    "SAMPLED",
    "Storage",
    "compare_storage",
    "embed_in_form",
    "embed_sample",
    "sampled",
    "told",
]
