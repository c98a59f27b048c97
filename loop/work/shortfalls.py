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
from gapclose.analysis.patches import SIDE, PatchFeatures
from gapclose.analysis.recall_shortfall import recall_shortfalls
from gapclose.loop.run.folder import RunDir
from gapclose.loop.work.evaluation import EvaluationInput

__all__ = ["find_shortfalls"]

EACH: Final = 100  # images of a class and side: the demo takes 2 s
LEAST: Final = 20  # as many where there are many classes
MOST: Final = 5_000  # of a side

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
        By stage and class what its row of gap.json says of recall; nothing for fewer than two
        classes of 20 images.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    features, real = None, dict[str, NDArray[np.float32]]()
    for stage, inputs in stages.items():
        found[stage] = {}
        if len(inputs) < 2:
            continue
        if features is None:
            photos = _squares({e.cls: e.real_paths for e in inputs}, rundir)
            if not all(len(its) for its in photos.values()):
                continue
            features = PatchFeatures.fit([*np.concatenate([*photos.values()])], seed=seed)
            real = {cls: features.embed([*its]) for cls, its in photos.items()}
        images = _squares({e.cls: e.synthetic_paths for e in inputs}, rundir)
        rows = {cls: features.embed([*its]) for cls, its in images.items()}
        told = recall_shortfalls(real=real, synthetic=rows, seed=seed)
        found[stage] = {cls: its.to_json() for cls, its in told.items()}
    return found


def _squares(files: Mapping[str, Sequence[str]], rundir: RunDir) -> dict[str, Squares]:
    """Read some images of each class, spread evenly, for files are often sorted by something."""
    most = max(LEAST, min(EACH, MOST // len(files)))
    found = {}
    for cls, paths in files.items():
        images = []
        for i in range(min(most, len(paths))):
            with suppress(UnreadableImageError, ValueError):
                path = rundir.resolve(paths[i * len(paths) // min(most, len(paths))])
                images += [*to_squares([read_rgb(path)], side=SIDE)]
        found[cls] = np.array(images, dtype=np.uint8).reshape(-1, SIDE, SIDE, 3)
    return found
