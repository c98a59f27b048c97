"""The camera of a run: one imaging pipeline for all classes, for they come from one data set.

A camera of its own for each class would separate the classes where real photos do not, and a
classifier trained on the export would learn that. It is chosen once, when the first prompts of
a class are known; images exist before the camera, so nothing is generated for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.generators.camera import apply_camera
from gapclose.generators.images import Pixels
from gapclose.generators.recipe import Camera
from gapclose.loop.search.optuna_record import Observation, derive_seed, propose
from gapclose.loop.search.score import Score
from gapclose.loop.search.settings import smooth
from gapclose.loop.search.space import Distributions, Params, coordinates, nearest

TRIED: Final = 24  # cameras
STARTUP: Final = 10  # of them at random
IMAGES: Final = 480  # that each of them is tried on, of all classes together
LEAST: Final = 8  # of a class


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One class's images as one encoder sees them, and the mixture that they stand for.

    Attributes:
        embed: Rows of images.
        bank: That the mixture's images lie in.
        weights: Of its atoms.
        images: Some of them before the camera, by the mixture's weights.
        rows: (n, d) their embeddings under the camera so far.
        seeds: (n,) theirs.
        floor: `floor_p95`, the unit of changes.
    """

    embed: Callable[[Sequence[Pixels]], NDArray[np.float32]]
    bank: Score
    weights: NDArray[np.float64]
    images: Sequence[Pixels]
    rows: NDArray[np.float32]
    seeds: Sequence[int]
    floor: float

    def change(self, camera: Camera) -> float:
        """Return a camera's change of the gap; where a class lacks more, chance makes more."""
        unit = self.floor + max(self.bank.gap(self.weights), 0.0)
        after = self.embed(
            [apply_camera(camera, image, seed=seed)
             for image, seed in zip(self.images, self.seeds, strict=True)]
        )  # fmt: skip
        return self.bank.change(self.weights, self.rows, after, self.seeds) / unit


def choose_camera(
    views: Sequence[View],
    *,
    cameras: Distributions,
    start: Camera,
    seed: int,
) -> Camera:
    """Choose the camera under which all classes together come nearest to their real photos.

    What a class's content lacks pulls its camera astray, a class's this way and another's that;
    what the imaging lacks they have in common.

    Args:
        views: Of the classes.
        cameras: What may be varied of it.
        start: The camera so far, which the rows were made under; all else stays as it is there.
        seed: Of the run.
    """
    tried: list[Params] = [{name: nearest(d, getattr(start, name)) for name, d in cameras.items()}]
    values = [0.0]
    while len(tried) < TRIED:
        past = [Observation(params=p, value=v) for p, v in zip(tried, values, strict=True)]
        number = derive_seed(seed, "camera", len(tried))
        tried.append(propose(cameras, past, seed=number, startup=STARTUP))
        camera = replace(start, **tried[-1])
        values.append(sum(view.change(camera) for view in views))
    smoothed = smooth(np.asarray([coordinates(cameras, params) for params in tried]), values)
    chosen: dict[str, Any] = tried[int(np.argmin(smoothed))]
    return replace(start, **chosen)
