"""The executors of a run on the world of `modes`, drawn as pixels that an embedder reads back.

An image's blocks of two greys spell its word, guidance and seed; its row is that of `modes`, and
how far its pixels stray from the two greys, which a camera's noise does, is its last coordinate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from modes import WIDTH, WORDS, Reader, Rows, mixed, placed

from gapclose.analysis.embedding import Embedder
from gapclose.analysis.image_folder import ImageSet, digest
from gapclose.analysis.kernel import Kernel
from gapclose.generators.base import Generator
from gapclose.generators.conditioning import FromPhotos
from gapclose.generators.images import NAN, ImageBatch, Pixels, write_pngs
from gapclose.generators.recipe import Draw
from gapclose.loop.config.reading import parse_config
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.events import PhotosGrouped
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.journal import fold_journal
from gapclose.loop.run.reporter import SilentReporter
from gapclose.loop.search.searches import Searches
from gapclose.loop.work.confirmation import Confirmation
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.kept_images import KeptImages
from gapclose.loop.work.photo_groups import open_groups
from gapclose.loop.work.photo_source import PhotoSource
from gapclose.loop.work.real_data import ClassReference, Fold
from gapclose.loop.work.recalls import Recalls
from gapclose.loop.work.source_copies import SourceCopies
from gapclose.loop.work.synthesis import Synthesis
from gapclose.loop.work.trials import ScoredBy, Trials, by_gap, make_searches

BLOCK, SIDE = 4, 8  # pixels of a block; blocks of a side
DARK, LIGHT = 64, 192
STRAY = 5.0  # of the last coordinate, per 255 that pixels stray
TRUTH = {"brown": 0.6, "gray": 0.4}


def spelt(*numbers: tuple[int, int]) -> Pixels:
    """An image of numbers, each of so many bits."""
    bits = [value >> i & 1 for value, length in numbers for i in range(length)]
    bits += [1, 0] * ((SIDE * SIDE - len(bits)) // 2) + [1] * ((SIDE * SIDE - len(bits)) % 2)
    grey = np.where(np.reshape(bits, (SIDE, SIDE)), LIGHT, DARK).astype(np.uint8)
    blocks = np.kron(grey, np.ones((BLOCK, BLOCK), dtype=np.uint8))
    return np.repeat(blocks[:, :, None], 3, axis=2)


class Speller:
    """A generator; what it was asked for it remembers.

    Attributes:
        fails: Given a draw, the error to raise, if any.
        spoils: Whether an image of a draw and seed is invalid.
    """

    id = "speller"
    revision: str | None = "1"
    license: str | None = None
    source_type = "digitalCreation"

    def __init__(self) -> None:
        self.asked: list[tuple[Draw, tuple[int, ...]]] = []
        self.fails: Callable[[Draw], Exception | None] = lambda _: None
        self.spoils: Callable[[Draw, int], bool] = lambda *_: False

    def generate(self, draw: Draw, seeds: Sequence[int]) -> ImageBatch:
        self.asked.append((draw, tuple(seeds)))
        if (error := self.fails(draw)) is not None:
            raise error
        word = next(i for i, w in enumerate(WORDS) if w in draw.prompt.split())
        guidance = round(10 * (draw.guidance_scale or 0.0))
        return ImageBatch(
            images=tuple(spelt((word, 3), (guidance, 8), (seed, 30)) for seed in seeds),
            seeds=tuple(seeds),
            invalid=tuple(NAN if self.spoils(draw, seed) else None for seed in seeds),
        )


class Copier(Speller):
    """One that takes pictures: below a strength of one half it gives them back as they are."""

    def generate_from(
        self, jobs: Sequence[tuple[Draw, Sequence[int], Sequence[Pixels]]]
    ) -> list[ImageBatch]:
        found = []
        for draw, seeds, sources in jobs:
            batch = self.generate(draw, seeds)
            copies = draw.strength is not None and draw.strength < 0.5
            images = tuple(sources) if copies else batch.images
            found.append(replace(batch, images=images))
        return found


class SpellingReader(Reader):
    """Reads what `Speller` spelt."""

    id = "spelling-reader"

    def embed(self, images: Sequence[Pixels]) -> Rows:
        rows = np.zeros((len(images), WIDTH), dtype=np.float32)
        for i, image in enumerate(images):
            grey = image.astype(np.float64).mean(2)
            blocks = grey.reshape(SIDE, BLOCK, SIDE, BLOCK).mean((1, 3))
            bits = [int(b) for b in (blocks > (DARK + LIGHT) / 2).ravel()]

            def number(start: int, length: int, bits: list[int] = bits) -> int:
                return sum(bits[start + j] << j for j in range(length))

            noise = np.random.default_rng([number(11, 30), 99]).normal(size=(1, WIDTH))
            row = placed(WORDS[number(0, 3)], noise)[0]
            row[-1] += 0.2 * abs(number(3, 8) / 10 - 5.0)
            stray = np.where(image > (DARK + LIGHT) / 2, LIGHT, DARK) - image.astype(np.float64)
            row[-1] += STRAY * np.abs(stray).mean() / 255
            rows[i] = row / np.linalg.norm(row)
        return rows


@dataclass
class Workshop:
    """A run folder and everything that works in it."""

    config: RunConfig
    rundir: RunDir
    generator: Speller
    real: dict[str, ClassReference]
    synthesis: Synthesis = field(init=False)
    evidence: Evidence = field(init=False)
    trials: Trials = field(init=False)
    confirmation: Confirmation = field(init=False)
    grouped: Sequence[PhotosGrouped] = field(init=False)
    by_clock: bool = False
    scored_by: ScoredBy = by_gap
    judges: Mapping[str, Embedder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        """As another process opens it: its searches know nothing, and no image is remembered."""
        eye = SpellingReader()
        groups, self.grouped = open_groups(
            self.config,
            self.rundir,
            fold_journal(self.rundir.journal_path).groups,
            images=ImageSet(root=self.rundir.path, files=(), others=()),
            real=self.real,
            embedder=eye,
            reporter=SilentReporter(),
        )
        generator: Generator = self.generator
        if groups:
            lying = {
                photo: path
                for reference in self.real.values()
                for photo, path in zip(reference.tune.photos, reference.tune.paths, strict=True)
            }
            generator = FromPhotos(self.generator, PhotoSource(self.rundir, lambda: lying))
        self.synthesis = Synthesis(generator=generator, embedder=eye, rundir=self.rundir)
        self.evidence = Evidence(self.rundir)
        shared: dict[str, Any] = {
            "synthesis": self.synthesis,
            "evidence": self.evidence,
            "real": self.real,
        }
        copies = SourceCopies(generator=generator, real=self.real)
        self.trials = Trials(
            **shared,
            copies=copies,
            searches=make_searches(
                self.config,
                self.real,
                eye,
                KeptImages(synthesis=self.synthesis, evidence=self.evidence),
                scored_by=self.scored_by,
                groups=groups,
            ),
            seed=self.config.tune.seed,
            by_clock=self.by_clock,
        )
        nouns = dict.fromkeys(self.real, "brown")
        self.confirmation = Confirmation(
            **shared,
            config=self.config,
            judges=self.judges,
            copies=copies,
            nouns=nouns,
            groups={"color": ["brown", "gray", "red"]},
            floors={name: search.floor for name, search in self.searches.items()},
        )

    @property
    def searches(self) -> Searches:
        return self.trials.searches

    @property
    def recalls(self) -> Recalls:
        """New at each call, for it keeps what it has read of the photos."""
        return Recalls(
            synthesis=self.synthesis,
            evidence=self.evidence,
            searches=self.searches,
            real=self.real,
            seed=self.config.tune.seed,
            device="cpu",
        )


def open_workshop(
    path: Path,
    *,
    classes: Sequence[str] = ("frog",),
    truth: Mapping[str, float] | None = None,
    folds: int = 2,
    photos: int = 120,
    images_per_trial: int = 24,
    confirm_images: int = 100,
    by_clock: bool = False,
    judges: Mapping[str, Embedder] | None = None,
    **space: Any,
) -> Workshop:
    """A new run with so many photos in the tune split and in each fold.

    Args:
        path: An empty folder.
        classes: Of the run.
        truth: Shares of the words among the photos.
        folds: Of each class.
        photos: Of each.
        images_per_trial: As in the config.
        confirm_images: As in the config.
        by_clock: As in `Trials`.
        judges: By name; what they see of the photos is what `SpellingReader` would.
        space: What may be varied besides the words.
    """
    words = {"prompt": "a {color} {class}", "slots": {"color": list(WORDS)}}
    speller = Copier if "strength" in space else Speller
    config = parse_config(
        {
            "real": {"path": str(path / "photos")},
            "classes": list(classes),
            "generator": {"kind": f"workshop:{speller.__name__}"},
            "embedder": "pond",
            "space": words | space,
            "baseline": {"prompt": "a plain {class}", "guidance_scale": 5.0},
            "tune": {"images_per_trial": images_per_trial},
            "confirm": {"images": confirm_images},
        }
    )
    real: dict[str, ClassReference] = {}
    for number, name in enumerate(classes):
        rng = np.random.default_rng([number, 17])
        parts = []
        for part in range(folds + 1):
            files = [path / "photos" / name / f"{part}-{i}.png" for i in range(photos)]
            write_pngs(
                {file: spelt((part, 3), (0, 8), (i, 30)) for i, file in enumerate(files)},
                source_type="digitalCreation",
            )
            rows = mixed(truth or TRUTH, photos, rng)
            photo_ids = tuple(f"{name}-{file.stem}" for file in files)
            if config.space.needs_photos:  # then a photo is looked up by its content
                photo_ids = tuple(digest(file)[:16] for file in files)
            seen = dict.fromkeys(judges or {}, rows)
            parts.append(Fold(paths=tuple(files), photos=photo_ids, rows=rows, judge_rows=seen))
        real[name] = ClassReference(
            name=name,
            tune=parts[0],
            folds=tuple(parts[1:]),
            kernel=Kernel.fit(parts[0].rows),
            judge_kernels={judge: Kernel.fit(parts[0].rows) for judge in judges or {}},
        )
    return Workshop(
        config=config,
        rundir=create_run(path / "run", config),
        generator=speller(),
        real=real,
        by_clock=by_clock,
        judges=judges or {},
    )
