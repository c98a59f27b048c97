"""The subject of a validation: a run, and what of it can be trained on.

`validating` opens one, for it alone knows how a run's verdicts are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gapclose.analysis.cache import embed_files
from gapclose.analysis.embedding import Embedder
from gapclose.analysis.image_folder import ImageSet, scan, scan_sides
from gapclose.analysis.spectrum import SPECTRUM
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import FolderSpec, PondReal
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.search.space import Space
from gapclose.loop.search.trial import Mixture
from gapclose.loop.validation.arms import REAL
from gapclose.loop.validation.mixtures import mixtures_of
from gapclose.loop.validation.photos import Photos
from gapclose.loop.validation.pools import PhotoPool, Pool, generated_pools
from gapclose.loop.work.photo_source import open_generator
from gapclose.loop.work.real_data import own_photos
from gapclose.loop.work.synthesis import Synthesis

__all__ = ["Subject"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is validated.

    Attributes:
        rundir: The run.
        config: Of the run.
        classes: That are told apart.
        tuned: By class, as in mixtures.json; None for an audit.
        shortcuts: As in gap.json; none where an older version wrote it.
        seen: `photo_id` of the photos that the run has searched with, or judged by.
        alone: By generator and class, what each of several comes to by itself.
    """

    rundir: RunDir
    config: RunConfig
    classes: tuple[str, ...]
    tuned: Mapping[str, Any] | None
    shortcuts: Sequence[Mapping[str, Any]]
    seen: frozenset[str]
    alone: Mapping[str, Mapping[str, Mixture]] = field(default_factory=dict)

    @cached_property
    def spaces(self) -> dict[str, Space]:
        """The search spaces, by class."""
        return {name: Space.of(self.config, name) for name in self.classes}

    @property
    def rendered(self) -> bool:
        """Whether its photos are rendered, and test photos are too, unless some are given."""
        return isinstance(self.config.real, PondReal)

    @property
    def synthetic(self) -> Path | None:
        """The folder of the synthetic images, where they exist; None where they are generated."""
        generator = self.config.generator
        return Path(generator.path) if isinstance(generator, FolderSpec) else None

    @property
    def unjudged(self) -> list[str]:
        """Classes of a run that was tuned that have no mixture yet."""
        return [] if self.tuned is None else [c for c in self.classes if c not in self.tuned]

    def real_images(self) -> ImageSet:
        """Scan the run's photos.

        Raises:
            RealDataError: They are gone.
        """
        if self.rendered:
            return own_photos(self.rundir.real_path)
        return self._sides[0]

    def pools(self, photos: Photos, embedder: Embedder, *, reporter: Reporter) -> dict[str, Pool]:
        """Return all that can be trained on, by name.

        Args:
            photos: The real ones.
            embedder: The tuning embedder.
            reporter: Receives the progress.
        """
        seed = self.config.tune.seed
        real = PhotoPool(paths=photos.real, digests=photos.side.digests, seed=seed)
        if self.synthetic is not None:
            return {"synthetic": self._synthetic(reporter), REAL: real}
        synthesis = Synthesis(
            generator=open_generator(self.config, self.rundir),
            embedder=embedder,
            rundir=self.rundir,
        )
        mixtures = mixtures_of(self.spaces, self.tuned, seed=seed, alone=self.alone)
        generated = generated_pools(mixtures, synthesis=synthesis, seeds=SeedBlocks(seed=seed))
        return {**generated, REAL: real}

    def _synthetic(self, reporter: Reporter) -> Pool:
        """Take the synthetic images that can be read, repeats of each other too."""
        images = self._sides[1]
        doing = TaskStarted(task=Task.SPECTRA, side="synthetic")
        reporter.tell(doing)
        # Power spectra are quickly read, and the cache says of which images there are some.
        read = embed_files(
            [path for name in self.classes for path in images.of(name)],
            SPECTRUM,
            device=self.config.device,
            progress=lambda done, total: reporter.tell(doing.advanced(done, total)),
        )
        there = {*read.paths}
        return PhotoPool(
            paths={name: [p for p in images.of(name) if p in there] for name in self.classes},
            digests=dict(zip(read.paths, read.digests, strict=True)),
            seed=self.config.tune.seed,
        )

    @cached_property
    def _sides(self) -> tuple[ImageSet, ...]:
        """Scan the folders, as an audit does."""
        assert not isinstance(self.config.real, PondReal), "the pond is rendered"
        real = Path(self.config.real.path)
        if self.synthetic is None:
            return (scan(real),)
        return scan_sides(real=real, synthetic=self.synthetic)
