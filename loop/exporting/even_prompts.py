"""Even prompts: every prompt that a class's words make, as often as any other.

A classifier that learns its own features wants coverage, which a mixture in the shares of the real
photos does not give; `tempering` mixes the two. Here stands which prompts these are, and which of
them lose the class: "a photo of a frog on a leaf" may show a leaf.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import fsum, nan
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.recall_shortfall import among_real, fitted
from gapclose.generators.recipe import Recipe
from gapclose.loop.search.space import Space, prompt_by
from gapclose.loop.search.trial import Mixture
from gapclose.loop.validation.mixtures import even_mixture

__all__ = ["LABEL_SHARE", "LabelReader", "even_prompts", "prompts_that_lose_the_class"]

Rows = NDArray[np.float32]
_Key = TypeVar("_Key", bound=Hashable)

LABEL_SHARE: Final = 0.5
"""Of the share of real photos that is told as the class: what a prompt's images must reach."""
_BORROWED: Final = 2.0  # images that a prompt's words speak for, beside its own


def even_prompts(
    space: Space, mixture: Mixture, *, seed: int, without: Collection[str] = ()
) -> Mixture | None:
    """Mix all prompts of a class's space evenly, in a random order.

    They are drawn with the settings that have the most weight in the class's mixture, and go
    through its camera: else the two would differ in noise or sharpness, and a classifier would
    learn that. The negative prompt is the baseline's, for it takes words away, as a share does;
    nor are photos, which have shares of their own.

    Args:
        space: Of the class.
        mixture: The class's own.
        seed: Of the run.
        without: Prompts to leave out, by `prompt_by`.

    Returns:
        None if none is left.
    """
    weights: dict[Recipe, float] = {}
    for recipe, weight in zip(mixture.recipes, mixture.weights, strict=True):
        base = space.part_drawing(recipe.draw).base
        draw = replace(
            recipe.draw,
            prompt=base.prompt,
            negative_prompt=base.negative_prompt,
            photos=None,
            strength=None,
            ip_adapter_scale=None,
        )
        settings = replace(recipe, draw=draw)
        weights[settings] = weights.get(settings, 0.0) + weight
    camera = max(weights, key=weights.__getitem__).camera
    usual = {part.name: Recipe(draw=part.base, camera=camera) for part in space.parts}
    for recipe in sorted(weights, key=weights.__getitem__):  # the heaviest of each comes last
        usual[recipe.draw.generator] = replace(recipe, camera=camera)
    every = even_mixture(space, seed=seed, usual=usual)
    kept = {
        recipe: weight
        for recipe, weight in zip(every.recipes, every.weights, strict=True)
        if prompt_by(recipe.draw.prompt, recipe.draw.generator) not in without
    }
    if not kept:
        return None
    total = fsum(kept.values())
    shares = tuple(weight / total for weight in kept.values())
    return Mixture(recipes=tuple(kept), weights=shares, gap_tune=nan)


class LabelReader:
    """Which class an image shows, as a linear probe of the classes' real photos tells it.

    Attributes:
        real: By class, the share of its photos that is told as it, by probes that have not seen
            them.
    """

    def __init__(self, rows: Mapping[str, Rows], *, seed: int = 0) -> None:
        """Fit the probes.

        Args:
            rows: (n, d) embeddings of each class's photos, n >= 10, of two classes or more.
            seed: Of the folds.
        """
        self._classes = tuple(rows)
        own = [*rows.values()]
        shares = among_real(own, [len(its) for its in own], np.random.default_rng(seed))
        self.real = {name: float(share) for name, share in zip(rows, shares, strict=True)}
        self._probe = fitted(own)

    def reads(self, cls: str, rows: Rows) -> NDArray[np.bool_]:
        """Return whether each image is told as a class: (n,)."""
        told = self._probe(rows).argmax(axis=1)
        return np.asarray(told == self._classes.index(cls))


def prompts_that_lose_the_class(
    space: Space,
    prompts: Sequence[str],
    right: NDArray[np.bool_],
    *,
    least: float,
    invalid: Sequence[str] = (),
) -> tuple[str, ...]:
    """Find the prompts of a space whose images are told as the class less often than `least`.

    A prompt has few images, each of its words many: the word that is told worst speaks for it
    beside its own images, as much as two of them, and alone where it has none. An image that is
    invalid is not told as the class; a prompt of which all are is lost whatever its words say, for
    an export would look for a valid one in vain.

    Args:
        space: Of the class.
        prompts: (n,) of the images, by `prompt_by`.
        right: (n,) whether each is told as the class.
        least: In [0, 1].
        invalid: The prompt of each image beside these that cannot be used.

    Returns:
        In the order of the space.
    """
    words = {space.asked(chosen): {*chosen.items()} for chosen in space.prompts()}
    told = [*zip(prompts, right, strict=True), *((prompt, np.False_) for prompt in invalid)]
    own = _tally(told)
    by_word = _tally((word, hit) for prompt, hit in told for word in words.get(prompt, ()))
    barren = {*invalid} - {*prompts}
    lost = []
    for prompt, its in words.items():
        shares = [hits / n for hits, n in (by_word[word] for word in its if word in by_word)]
        if not shares:
            continue
        hits, n = own.get(prompt, (0, 0))
        if prompt in barren or (hits + _BORROWED * min(shares)) / (n + _BORROWED) < least:
            lost.append(prompt)
    return tuple(lost)


def _tally(hits: Iterable[tuple[_Key, np.bool_]]) -> dict[_Key, tuple[int, int]]:
    """Count hits and images by key."""
    found: dict[_Key, tuple[int, int]] = {}
    for key, hit in hits:
        before, n = found.get(key, (0, 0))
        found[key] = before + int(hit), n + 1
    return found
