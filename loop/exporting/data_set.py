"""A data set on disk: the images of an export, their metadata and the data card.

`export` plans it. Images that exist already come first, then newly generated ones, with seeds
that nothing used; each is written with its provenance. What an export that was killed has written
is held against its log, and not generated again.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import filterfalse
from pathlib import Path
from typing import IO, Any, Final

from gapclose.analysis.unseen import UNSEEN
from gapclose.generators.base import Generator, drawing, generate_all
from gapclose.generators.camera import apply_camera
from gapclose.generators.errors import GenerationError
from gapclose.generators.images import Pixels, pixel_digest, write_png
from gapclose.generators.recipe import Recipe
from gapclose.loop.exporting.part_folder import ImageLog, PartFolder
from gapclose.loop.exporting.plan import Order, seeds_in
from gapclose.loop.exporting.shown import ShownImages
from gapclose.loop.report.projections import read_trials
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.work.kept_images import is_whole
from gapclose.loop.work.photo_source import made_from

__all__ = ["METADATA", "Metadata", "unused_seeds", "used_seeds", "write_images"]

log = logging.getLogger(__name__)

METADATA: Final = "metadata.jsonl"

_CHUNK: Final = 64  # images per call of the generator: bounds the memory, not the batch
_EXPORTING: Final = TaskStarted(task=Task.EXPORTING)
_TRIES: Final = 4  # seeds per image asked for, before the generator counts as broken


def used_seeds(run: RunDir) -> set[int]:
    """Return every seed that a run has used."""
    used = {seed for trial in read_trials(run) for seed in seeds_in(trial)}
    used |= {row["seed"] for row in run.samples() if row.get("seed") is not None}
    # What a cut-off trial or a confirmation generated is in no list, but its file bears the seed.
    used |= {int(p.stem) for p in run.folder("images").rglob("*.png") if p.stem.isdecimal()}
    return used


def unused_seeds(
    cls: str, *, run_seed: int, used: Set[int], makeup: bool = False
) -> Iterator[int]:
    """Yield the seeds of a class's exported images without end, none that the run has used.

    Args:
        cls: The class.
        run_seed: The config's `tune.seed`.
        used: What `used_seeds` returns.
        makeup: Those of the images that replace invalid ones: others.
    """
    return filterfalse(used.__contains__, SeedBlocks(seed=run_seed).exported(cls, makeup=makeup))


@dataclass(slots=True)
class Metadata:
    """The rows of metadata.jsonl: one of each kind comes first.

    `load_dataset("imagefolder")` takes the columns' types from the first 10 MB, and could not read
    text where there had been nulls.

    Attributes:
        rest: A file that holds the rows that are no examples, until all are written.
        examples: The first row of each recipe, and of real photos.
    """

    rest: IO[str]
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows."""
        for row in rows:
            kind = row.get("recipe_fingerprint", "")
            if self.examples.setdefault(kind, row) is not row:
                self.rest.write(_line(row))

    def write(self, path: Path) -> None:
        """Write all rows."""
        self.rest.seek(0)
        with path.open("w", encoding="utf-8") as metadata:
            metadata.writelines(map(_line, self.examples.values()))
            shutil.copyfileobj(self.rest, metadata)


def write_images(
    run: RunDir,
    part: PartFolder,
    orders: Mapping[str, Sequence[Order]],
    folders: Mapping[str, str],
    generator: Generator,
    *,
    used: Set[int],
    shown: ShownImages,
    reporter: Reporter,
) -> Iterator[list[dict[str, Any]]]:
    """Write the images of each class, and yield their rows of metadata.jsonl.

    Args:
        run: What is exported.
        part: The data set's folder.
        orders: By class.
        folders: Of the classes in it.
        generator: Makes the images.
        used: Seeds that the run has used.
        shown: What the images that confirmed the mixtures must be.
        reporter: Receives the progress.

    Raises:
        GenerationError: The generator keeps giving images that cannot be used.
    """
    done, total = 0, sum(order.images for mine in orders.values() for order in mine)
    run_seed = run.config().tune.seed
    for cls, mine in orders.items():
        seeds, makeup = (
            unused_seeds(cls, run_seed=run_seed, used=used, makeup=makeup)
            for makeup in (False, True)
        )
        # Shuffled, so that the first thousand of a class are a fair sample of it.
        places = [i for i, order in enumerate(mine) for _ in range(order.images)]
        random.Random(cls).shuffle(places)
        rows: list[dict[str, Any]] = [{} for _ in places]
        again: list[int] = []
        for index, order in enumerate(mine):
            slots = [place for place, owner in enumerate(places) if owner == index]
            names = [f"{folders[cls]}/{slot:05d}.png" for slot in slots]
            files = [part.data / name for name in names]
            maker = _Maker(generator=generator, recipe=order.recipe, log=part.log)
            # What makes up for a rejected image has seeds of its own: no other image changes.
            for slot, seed in _written(maker, order, files, seeds, makeup, shown, again):
                rows[slots[slot]] = _metadata(names[slot], cls, order, seed, generator)
                done += 1
                reporter.tell(_EXPORTING.advanced(done, total))
        if again:
            said = "%s: %d of the images that confirmed it are gone or damaged; made again"
            log.warning(said, cls, len(again))
        yield rows


def _line(row: Mapping[str, Any]) -> str:
    """Write a line of JSON, also for readers that take U+2028 in a class's name for its end."""
    text = json.dumps(row, ensure_ascii=False)
    return (json.dumps(row) if UNSEEN.search(text) else text) + "\n"


def _written(
    maker: _Maker,
    order: Order,
    files: Sequence[Path],
    seeds: Iterator[int],
    makeup: Iterator[int],
    shown: ShownImages,
    again: list[int],
) -> Iterator[tuple[int, int]]:
    """Write an order's images after the camera, and yield the number and the seed of each.

    First those that are shown already, and of them those that are damaged or gone by their own
    seeds, which are added to `again`; then fresh ones; what is missing of the first is made up
    for last.
    """
    lost: dict[int, int] = {}
    holes = []
    for slot, (seed, path) in enumerate(order.shown[: order.images]):
        if path is None:
            holes.append(slot)
        elif (image := shown.read(path)) is None:
            lost[seed] = slot
        else:
            maker.write(files[slot], image)
            yield slot, seed
    again += lost
    for seed in maker.again({seed: files[slot] for seed, slot in lost.items()}):
        yield lost.pop(seed), seed
    holes = sorted([*holes, *lost.values()])
    rest = range(min(order.images, len(order.shown)), order.images)
    for slots, numbers in ((rest, seeds), (holes, makeup)):
        made = maker.fresh([files[slot] for slot in slots], numbers)
        yield from zip(slots, made, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maker:
    """Makes images of one recipe, after its camera.

    Attributes:
        generator: Makes them.
        recipe: That they are of.
        log: What an export that was killed has made.
    """

    generator: Generator
    recipe: Recipe
    log: ImageLog

    def write(self, path: Path, image: Pixels) -> None:
        """Write an image."""
        own = drawing(self.generator, self.recipe.draw)
        write_png(path, image, source_type=own.source_type)

    def again(self, files: Mapping[int, Path]) -> Iterator[int]:
        """Make images of some seeds, each into its file, and yield the seeds of the valid ones."""
        for start in range(0, len(files), _CHUNK):
            drawn, _ = self._made([*files][start : start + _CHUNK], files)
            yield from drawn

    def fresh(self, files: Sequence[Path], seeds: Iterator[int]) -> Iterator[int]:
        """Make an image for each file, and yield their seeds; another replaces an invalid one."""
        done, spent, why = 0, 0, ""
        while done < len(files):
            if spent >= _TRIES * len(files) + _CHUNK:
                raise GenerationError(
                    f"{spent - done} of {spent} images of {self.recipe.draw.prompt!r} cannot be "
                    f"used{why}; look at the generator"
                )
            left = files[done:]
            asked = [next(seeds) for _ in left[:_CHUNK]]
            drawn, said = self._made(asked, left)
            why = said or why
            spent += len(asked)
            done += len(drawn)
            yield from drawn

    def _made(
        self, asked: Sequence[int], files: Sequence[Path] | Mapping[int, Path]
    ) -> tuple[Sequence[int], str]:
        """Have images on the disk, all of them from one call: it settles the last bit of each.

        Args:
            asked: Seeds, at least one.
            files: Of the valid images in their order, or of each seed.

        Returns:
            Those seeds, and in brackets why another is invalid.
        """
        known = self.log.drawn(self.recipe, asked)
        if known is not None and all(map(is_whole, _places(files, [*known]), known.values())):
            return [*known], ""
        drawn = generate_all(self.generator, [(self.recipe.draw, asked)])[0]
        batch = drawn.valid()
        images = [
            apply_camera(self.recipe.camera, image, seed=seed)
            for seed, image in zip(batch.seeds, batch.images, strict=True)
        ]
        for path, image in zip(_places(files, batch.seeds), images, strict=True):
            self.write(path, image)
        self.log.add(
            self.recipe, asked, dict(zip(batch.seeds, map(pixel_digest, images), strict=True))
        )
        return batch.seeds, next((f" ({said})" for said in drawn.invalid if said), "")


def _places(files: Sequence[Path] | Mapping[int, Path], seeds: Sequence[int]) -> Sequence[Path]:
    """Return the files of valid images."""
    if isinstance(files, Mapping):
        return [files[seed] for seed in seeds]
    return files[: len(seeds)]


def _metadata(
    file_name: str, cls: str, order: Order, seed: int, generator: Generator
) -> dict[str, Any]:
    recipe = order.recipe
    drawn_by = drawing(generator, recipe.draw)
    # Its own values, and the fingerprints of what it was drawn from: as mixtures.json has them.
    own = replace(recipe, draw=recipe.draw.of_seed(seed))
    return {
        "file_name": file_name,
        "label": cls,
        **made_from(generator, recipe.draw, seed),
        "seed": seed,
        "recipe": own.to_json(),
        "recipe_fingerprint": recipe.fingerprint(),
        "draw_fingerprint": recipe.draw.fingerprint(),
        "camera_fingerprint": recipe.camera.fingerprint(),
        "generator": drawn_by.id,
        "generator_revision": drawn_by.revision,
        "digital_source_type": drawn_by.source_type,
        "confirmed": order.confirmed,
    }
