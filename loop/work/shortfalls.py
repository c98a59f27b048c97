"""Shortfalls: what each class costs whoever trains on a run's images, as gap.json has it.

Audits and diagnostics ask. A linear probe on features of patches, which know no class, stands for
a network that is trained from scratch. It is printed; no verdict is drawn from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.downstream.squares import to_squares
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.gap import MIN_IMAGES
from gapclose.analysis.patches import SIDE, PatchFeatures
from gapclose.analysis.recall_shortfall import recall_shortfalls
from gapclose.analysis.subsets import spread
from gapclose.loop.run.folder import RunDir
from gapclose.loop.work.evaluation import EvaluationInput

__all__ = ["find_shortfalls"]

EACH: Final = 100  # images of a class and side: the demo takes 2 s
MOST: Final = 5_000  # of a side, but no fewer of a class than are measured

Squares = NDArray[np.uint8]


def find_shortfalls(
    stages: Mapping[str, Sequence[EvaluationInput]], rundir: RunDir, *, seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Measure the images of each stage against the photos, which are the same in all of them.

    Args:
        stages: By name, the classes that are compared.
        rundir: Knows where the files lie.
        seed: Of folds and patches.

    Returns:
        By stage and class what its row of gap.json says of recall. A class of fewer than 20 images
        that can be read, on either side, is left out; nothing for fewer than two classes.
    """
    first = next(iter(stages.values()), ())
    photos = _squares({e.cls: e.real_paths for e in first}, rundir)
    if sum(len(its) > 0 for its in photos.values()) < 2:
        return {stage: {} for stage in stages}
    features = PatchFeatures.fit([*np.concatenate([*photos.values()])], seed=seed)
    real = {cls: features.embed([*its]) for cls, its in photos.items()}
    found = {}
    for stage, inputs in stages.items():
        images = _squares({e.cls: e.synthetic_paths for e in inputs}, rundir)
        rows = {cls: features.embed([*its]) for cls, its in images.items()}
        told = recall_shortfalls(real=real, synthetic=rows, seed=seed)
        found[stage] = {cls: its.to_json() for cls, its in told.items()}
    return found


def _squares(files: Mapping[str, Sequence[str]], rundir: RunDir) -> dict[str, Squares]:
    """Read some images of each class."""
    most = max(MIN_IMAGES, min(EACH, MOST // max(1, len(files))))
    found = {}
    for cls, paths in files.items():
        images = []
        for path in spread(paths, most):
            with suppress(UnreadableImageError, ValueError):
                images += [*to_squares([read_rgb(rundir.resolve(path))], side=SIDE)]
        found[cls] = np.array(images, dtype=np.uint8).reshape(-1, SIDE, SIDE, 3)
    return found
