"""Synthesis: recipes and seeds -> images on disk, put through the camera and embedded.

The one place where generator, camera and embedder meet; trials and evaluations generate here.
An image of a finished trial is read back, never generated again. It scores nothing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.decode import DAMAGED, open_image
from gapclose.analysis.embedding import Embedder, finite_rows
from gapclose.generators.base import Generator, generate_all
from gapclose.generators.camera import apply_camera
from gapclose.generators.errors import GenerationError
from gapclose.generators.images import NAN, ONE_COLOUR, SAFETY, ImageBatch, pixel_digest
from gapclose.generators.recipe import Draw, Recipe
from gapclose.loop.run.faults import is_machines_fault, is_memory_out, released
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.images import write_drawn
from gapclose.loop.search.trial import Images

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

NOT_FINITE: Final = "without finite features"
FAULTS: Final = {
    NAN: "not a number",
    ONE_COLOUR: "of one colour",
    SAFETY: "flagged by the safety checker",
    "failed": "of a prompt that failed",
}
"""Why an image is invalid, as a person reads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleBatch:
    """What came of one trial's recipes and seeds: valid images only, in their order.

    Attributes:
        images: After the camera.
        embeddings: (n, d) unit rows.
        recipes: Index into the recipes asked for, per image.
        seeds: Per image.
        invalid: Images that could not be scored (NaN, one colour, flagged, no finite features).
        generated: Newly generated images; the others were on disk already.
        faults: Why images are invalid, in words, with how many are.
        drawn: `pixel_digest` of each before the camera.
    """

    images: tuple[Pixels, ...]
    embeddings: NDArray[np.float32]
    recipes: tuple[int, ...]
    seeds: tuple[int, ...]
    invalid: int
    generated: int
    faults: Mapping[str, int] = field(default_factory=dict)
    drawn: tuple[int, ...] = ()

    def only(self, keep: NDArray[np.bool_]) -> SampleBatch:
        """Return the images where `keep` is true; the others count as invalid."""
        chosen = np.flatnonzero(keep)
        return replace(
            self,
            images=tuple(self.images[i] for i in chosen),
            embeddings=self.embeddings[chosen],
            recipes=tuple(self.recipes[i] for i in chosen),
            seeds=tuple(self.seeds[i] for i in chosen),
            invalid=self.invalid + len(keep) - len(chosen),
            faults=Counter(self.faults) + Counter({NOT_FINITE: len(keep) - len(chosen)}),
            drawn=tuple(self.drawn[i] for i in chosen) if self.drawn else (),
        )

    def kept(self, *, shown: bool = False) -> Images:
        """Return what evidence keeps of it.

        Args:
            shown: With the digests of what a person sees.
        """
        return Images(
            embeddings=self.embeddings,
            recipes=self.recipes,
            seeds=self.seeds,
            drawn=self.drawn,
            shown=tuple(map(pixel_digest, self.images)) if shown else (),
        )

    def why(self) -> str:
        """Return, in brackets, why some are invalid; nothing if none is."""
        reasons = [f"{n} {why}" for why, n in Counter(self.faults).most_common()]
        return f" ({', '.join(reasons)})" if reasons else ""


@dataclass(slots=True)
class Synthesis:
    """A generator, its cameras, an embedder and the index of images generated so far."""

    generator: Generator
    embedder: Embedder
    rundir: RunDir
    generate_seconds: float = 0.0
    embed_seconds: float = 0.0
    generated: int = 0
    _shelf: dict[tuple[str, str, int], int | None] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Seconds of generating and embedding so far."""
        return self.generate_seconds + self.embed_seconds

    def remember(
        self, cls: str, draw: str, seeds: Iterable[int], digests: Mapping[int, int] | None = None
    ) -> None:
        """Note that a finished trial generated these: from now on they are read back.

        Args:
            cls: The class they are for.
            draw: The fingerprint of their draw.
            seeds: Of each.
            digests: By seed, the `pixel_digest` of those that are known: what is on the disk must
                have it, or is generated again.
        """
        for seed in seeds:
            known = (digests or {}).get(seed)
            if known is not None or (cls, draw, seed) not in self._shelf:
                self._shelf[cls, draw, seed] = known

    def forget(self, cls: str, draw: str, seeds: Iterable[int]) -> None:
        """Have these generated again, but those that a digest vouches for."""
        for seed in seeds:
            if self._shelf.get((cls, draw, seed)) is None:
                self._shelf.pop((cls, draw, seed), None)

    def generate(
        self, cls: str, jobs: Sequence[tuple[Recipe, Sequence[int]]], *, partly: bool = False
    ) -> SampleBatch:
        """Generate, apply the camera and embed; images are on disk when this returns.

        Where memory is out, which may pass, it is done once more.

        Args:
            cls: The class they are for.
            jobs: Recipes with the seeds each gets.
            partly: Of several recipes, take the images of those that the generator does not fail
                for, and count what is missing as invalid. A trial of several prompts must not
                fail for one of them every time.

        Raises:
            GenerationError: The generator failed; nothing of the batch counts.
            Exception: Memory is out, as `is_memory_out` tells.
        """
        for again in (False, True):
            try:
                drawn, generated, faults = self._drawn(cls, jobs, partly=partly, again=again)
                batch = self._embedded(jobs, drawn, generated, faults)
                self.generated += generated
                return batch
            except Exception as error:
                if again or not is_memory_out(error):
                    raise
                released(error)
        raise AssertionError("the second try returns or raises")

    def read(self, cls: str, jobs: Sequence[tuple[Recipe, Sequence[int]]]) -> SampleBatch:
        """Embed what is there of images that are remembered, after the camera; generate none."""
        drawn = []
        for recipe, seeds in jobs:
            draw = recipe.draw.fingerprint()
            places = {seed: self.rundir.image_path(cls, draw, seed) for seed in seeds}
            drawn.append(self._whole(cls, draw, places)[0])
        return self._embedded(jobs, drawn, 0, Counter())

    def _embedded(
        self,
        jobs: Sequence[tuple[Recipe, Sequence[int]]],
        drawn: Sequence[Mapping[int, Pixels]],
        generated: int,
        faults: Counter[str],
    ) -> SampleBatch:
        images = _taken(jobs, drawn)
        recipes = [number for number, by_seed in enumerate(drawn) for _ in by_seed]
        seeds = [seed for by_seed in drawn for seed in by_seed]
        embeddings = self.embed(images)
        batch = SampleBatch(
            images=tuple(images),
            embeddings=embeddings,
            recipes=tuple(recipes),
            seeds=tuple(seeds),
            invalid=faults.total(),
            generated=generated,
            faults=faults,
            drawn=tuple(pixel_digest(image) for by_seed in drawn for image in by_seed.values()),
        )
        return batch.only(finite_rows(embeddings))

    def images(self, cls: str, jobs: Sequence[tuple[Recipe, Sequence[int]]]) -> list[Pixels]:
        """Generate, and apply the camera: the valid images, which nothing has embedded.

        Raises:
            GenerationError: The generator failed; nothing of the batch counts.
        """
        drawn, generated, _ = self._drawn(cls, jobs)
        self.generated += generated
        return _taken(jobs, drawn)

    def embed(
        self, images: Sequence[Pixels], *, by: Embedder | None = None
    ) -> NDArray[np.float32]:
        """Embed images, after the camera.

        Args:
            images: To embed.
            by: Another embedder than that of the search.
        """
        embedder = by or self.embedder
        start = time.perf_counter()
        if images:
            out = embedder.embed(list(images))
        else:
            out = np.zeros((0, embedder.width), dtype=np.float32)
        self.embed_seconds += time.perf_counter() - start
        return out

    def suffices(self, recipe: Recipe, seeds: Sequence[int]) -> bool:
        """Return whether images of a recipe can be generated just now; none of them is kept."""
        try:
            (batch,) = generate_all(self.generator, [(recipe.draw, seeds)])
            pairs = zip(batch.images, batch.seeds, strict=True)
            self.embed([apply_camera(recipe.camera, image, seed=seed) for image, seed in pairs])
        except Exception:  # noqa: BLE001 - whatever it is, it tells nothing else
            return False
        return True

    def _drawn(
        self,
        cls: str,
        jobs: Sequence[tuple[Recipe, Sequence[int]]],
        *,
        partly: bool = False,
        again: bool = False,
    ) -> tuple[list[dict[int, Pixels]], int, Counter[str]]:
        """Return each job's valid images by seed, how many are new, and why others are invalid."""
        prints = [recipe.draw.fingerprint() for recipe, _ in jobs]
        paths = [
            {seed: self.rundir.image_path(cls, draw, seed) for seed in wanted}
            for draw, (_, wanted) in zip(prints, jobs, strict=True)
        ]
        # Only what a finished trial recorded is read back. An image that a cut-off trial left
        # behind is generated again, so that a batch always holds the same images: results are
        # equal to the bit at one batch size, and only to 1/255 across sizes.
        found: list[dict[int, Pixels]] = []
        for draw, places in zip(prints, paths, strict=True):
            whole, lost = self._whole(cls, draw, places)
            found.append(whole)
            if lost:
                log.warning(
                    "%s: %d of its images are gone or damaged; generated again, by their seeds",
                    cls,
                    lost,
                )
        missing = [
            (number, recipe.draw, [seed for seed in wanted if seed not in found[number]])
            for number, (recipe, wanted) in enumerate(jobs)
        ]
        missing = [(number, draw, seeds) for number, draw, seeds in missing if seeds]
        start = time.perf_counter()
        draws = [(draw, seeds) for _, draw, seeds in missing]
        partly = partly and len(jobs) > 1
        batches = self._generate(draws, partly=partly, again=again, others=any(found))
        self.generate_seconds += time.perf_counter() - start
        generated, bad = 0, Counter[str]()
        files = []
        for (number, drawn, asked), batch in zip(missing, batches, strict=True):
            if batch is None:
                bad[FAULTS["failed"]] += len(asked)
                continue
            generated += len(asked)
            for seed, image, why in zip(batch.seeds, batch.images, batch.invalid, strict=True):
                if why is not None:
                    bad[FAULTS.get(why, why)] += 1
                    continue
                found[number][seed] = image
                files.append((paths[number][seed], image, drawn))
                if (key := (cls, prints[number], seed)) in self._shelf:
                    self._shelf[key] = pixel_digest(image)
        write_drawn(self.rundir, self.generator, files)
        ordered = [
            {seed: images[seed] for seed in wanted if seed in images}
            for images, (_, wanted) in zip(found, jobs, strict=True)
        ]
        return ordered, generated, bad

    def _whole(
        self, cls: str, draw: str, places: Mapping[int, Path]
    ) -> tuple[dict[int, Pixels], int]:
        """Read the images of a draw that are remembered and as they were, by seed.

        Returns:
            Them, and how many are known to be gone or damaged.
        """
        found, lost = {}, 0
        for seed, path in places.items():
            if (cls, draw, seed) not in self._shelf:
                continue
            image, known = read_image(path), self._shelf[cls, draw, seed]
            if image is not None and (known is None or known == pixel_digest(image)):
                found[seed] = image
            elif known is not None:  # else it may have been invalid from the start
                lost += 1
        return found, lost

    def _generate(
        self,
        jobs: Sequence[tuple[Draw, Sequence[int]]],
        *,
        partly: bool,
        again: bool,
        others: bool,
    ) -> list[ImageBatch | None]:
        """Return a batch per job; with `partly`, None for a failed one if any other succeeds."""
        try:
            return [*generate_all(self.generator, jobs)]
        except Exception as error:
            if not partly or not _is_prompts(error, again=again):
                raise
            released(error)
            failure = error
        batches: list[ImageBatch | None] = []
        for job in jobs:
            try:
                batches += generate_all(self.generator, [job])
            except Exception as error:
                if not _is_prompts(error, again=again):
                    raise
                released(error)
                batches.append(None)
        if not others and all(batch is None for batch in batches):
            raise failure
        log.warning("some of a trial's prompts fail: %s", failure)
        return batches


def _is_prompts(error: Exception, *, again: bool) -> bool:
    """Return whether a prompt may be left out for it: memory that is out may pass, at first."""
    if is_memory_out(error):
        return again
    return isinstance(error, GenerationError) and not is_machines_fault(error)


def _taken(
    jobs: Sequence[tuple[Recipe, Sequence[int]]], drawn: Sequence[Mapping[int, Pixels]]
) -> list[Pixels]:
    """Return the images of jobs after their cameras."""
    return [
        apply_camera(recipe.camera, image, seed=seed)
        for (recipe, _), by_seed in zip(jobs, drawn, strict=True)
        for seed, image in by_seed.items()
    ]


def read_image(path: Path) -> Pixels | None:
    """Read an image of the run folder; None where there is no whole or no valid one.

    A run folder may come from elsewhere: a link, or what is of no format of `decode`, is none.
    """
    if path.is_symlink():
        return None
    try:
        with open_image(path) as image:
            return np.array(image.convert("RGB"))  # torch wants an array that it may write to
    except DAMAGED:  # a power cut can leave a file without its end
        return None
