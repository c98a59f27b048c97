"""The classifiers of a validation: made by name, networks all for images of one size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.downstream.classifier import Classifier, choose_side, make_classifier
from gapclose.analysis.embedding import Embedder, identity
from gapclose.analysis.subsets import spread
from gapclose.generators.images import Pixels
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.validation.pools import MixturePool, Pool
from gapclose.loop.validation.test_photos import TestPhotos

__all__ = ["LINEAR", "make_classifiers"]

LINEAR: Final = "linear"
"""The classifier that sees images through the first judge, or the embedder where there is none."""
_SHOWN: Final = 20  # images of a set that say how large its images are; one of each class at least


def make_classifiers(
    names: Sequence[str],
    pools: Mapping[str, Pool],
    test: TestPhotos,
    *,
    per_class: int,
    config: RunConfig,
    loaded: Mapping[str, Embedder],
) -> tuple[list[Classifier], dict[str, str]]:
    """Make them, networks for a size that no image has to be enlarged for.

    Args:
        names: As `make_classifier` has them.
        pools: What they are trained on; what their first draw takes is there.
        test: What they are tested on.
        per_class: Images of a class.
        config: Of the run.
        loaded: Its embedders by name.

    Returns:
        The classifiers, and by their ids what their predictions follow from besides: the size, or
        the weights that they see through.
    """
    side = choose_side(_shown(pools, test, per_class))
    through = next(iter(config.judge), config.embedder)
    made = [
        make_classifier(name, embedder=loaded.get(through), side=side, device=config.device)
        for name in names
    ]
    versions = {
        one.id: identity(through) if name == LINEAR else f"{side} pixels"
        for name, one in zip(names, made, strict=True)
    }
    return made, versions


def _shown(pools: Mapping[str, Pool], test: TestPhotos, per_class: int) -> Iterator[Pixels]:
    """Yield some images of every set, and of every class of files that somebody brought."""
    each = -(-_SHOWN // len(test.classes))
    for label in range(len(test.classes)):
        mine = [test.paths[i] for i in np.flatnonzero(test.labels == label)]
        yield from map(read_rgb, spread(mine, each))
    for pool in pools.values():
        # What a run generates is of one size, and to see one image is to read back its class.
        generated = isinstance(pool, MixturePool)
        for cls in test.classes[:1] if generated else test.classes:
            yield from islice(pool.images(cls, draw=0, n=per_class), _SHOWN if generated else each)
