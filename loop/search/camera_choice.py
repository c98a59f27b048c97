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
from gapclose.loop.search.optuna_distributions import Distributions, coordinates, nearest
from gapclose.loop.search.optuna_record import Observation, derive_seed, propose
from gapclose.loop.search.score import Score
from gapclose.loop.search.settings import smooth
from gapclose.loop.search.space import Params

TRIED: Final = 24  # cameras
STARTUP: Final = 10  # of them at random
IMAGES: Final = 480  # that each of them is tried on, of all classes together
LEAST: Final = 8  # of a class


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderView:
    """One class as one encoder sees it, and the mixture that its images stand for.

    Attributes:
        embed: Rows of images.
        bank: That the mixture's images lie in.
        weights: Of its atoms.
        rows: (n, d) embeddings of the class's images under the camera so far.
        sources: (n,) theirs, as `Images` has them.
        floor: `floor_p95`, the unit of changes.
    """

    embed: Callable[[Sequence[Pixels]], NDArray[np.float32]]
    bank: Score
    weights: NDArray[np.float64]
    rows: NDArray[np.float32]
    floor: float
    sources: Sequence[int] = ()

    def change(self, images: Sequence[Pixels], seeds: Sequence[int]) -> float:
        """Return the gap's change with these images; where a class lacks more, chance makes more.

        Args:
            images: (n,) those of the rows, under another camera.
            seeds: (n,) theirs.
        """
        unit = self.floor + max(self.bank.gap(self.weights), 0.0)
        rows = self.embed(images)
        change = self.bank.change(self.weights, self.rows, rows, seeds, sources=self.sources)
        return change / unit


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Some of one class's images, and what encoders see of a camera on them.

    Attributes:
        images: Before the camera, by the mixture's weights.
        seeds: (n,) theirs.
        encoders: That see the same images.
    """

    images: Sequence[Pixels]
    seeds: Sequence[int]
    encoders: Sequence[EncoderView]

    def changes(self, camera: Camera) -> list[float]:
        """Return a camera's change of the gap, by encoder."""
        taken = [
            apply_camera(camera, image, seed=seed)
            for image, seed in zip(self.images, self.seeds, strict=True)
        ]
        return [encoder.change(taken, self.seeds) for encoder in self.encoders]


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
        values.append(sum(change for view in views for change in view.changes(camera)))
    smoothed = smooth(np.asarray([coordinates(cameras, params) for params in tried]), values)
    chosen: dict[str, Any] = tried[int(np.argmin(smoothed))]
    return replace(start, **chosen)
