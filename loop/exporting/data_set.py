"""A data set on disk: the images of an export, their metadata and the data card.

`export` plans it. Images that exist already come first, then newly generated ones, with seeds
that nothing used; each is written with its provenance.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import filterfalse
from pathlib import Path
from typing import IO, Any, Final

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.unseen import UNSEEN
from gapclose.generators.base import Generator, generate_all
from gapclose.generators.camera import apply_camera
from gapclose.generators.errors import GenerationError
from gapclose.generators.images import Pixels, write_png
from gapclose.generators.recipe import Recipe
from gapclose.loop.exporting.plan import Order, seeds_in
from gapclose.loop.report.projections import read_trials
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.search.seeds import SeedBlocks
from gapclose.loop.work.photo_source import made_from

__all__ = ["METADATA", "Metadata", "unused_seeds", "used_seeds", "write_images"]

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
    out: Path,
    orders: Mapping[str, Sequence[Order]],
    folders: Mapping[str, str],
    generator: Generator,
    *,
    reporter: Reporter,
) -> Iterator[list[dict[str, Any]]]:
    """Write the images of each class, and yield their rows of metadata.jsonl.

    Args:
        run: What is exported.
        out: The data set's folder.
        orders: By class.
        folders: Of the classes in it.
        generator: Makes the images.
        reporter: Receives the progress.

    Raises:
        GenerationError: The generator keeps giving images that cannot be used.
    """
    done, total = 0, sum(order.images for mine in orders.values() for order in mine)
    run_seed, used = run.config().tune.seed, used_seeds(run)
    for cls, mine in orders.items():
        seeds, makeup = (
            unused_seeds(cls, run_seed=run_seed, used=used, makeup=makeup)
            for makeup in (False, True)
        )
        # Shuffled, so that the first thousand of a class are a fair sample of it.
        places = [i for i, order in enumerate(mine) for _ in range(order.images)]
        random.Random(cls).shuffle(places)
        rows: list[dict[str, Any]] = [{} for _ in places]
        for index, order in enumerate(mine):
            slots = [place for place, owner in enumerate(places) if owner == index]
            # What makes up for a rejected image has seeds of its own: no other image changes.
            for slot, seed, image in _images(generator, order, seeds, makeup):
                name = f"{folders[cls]}/{slots[slot]:05d}.png"
                write_png(out / name, image, source_type=generator.source_type)
                rows[slots[slot]] = _metadata(name, cls, order, seed, generator)
                done += 1
                reporter.tell(_EXPORTING.advanced(done, total))
        yield rows


def _line(row: Mapping[str, Any]) -> str:
    """Write a line of JSON, also for readers that take U+2028 in a class's name for its end."""
    text = json.dumps(row, ensure_ascii=False)
    return (json.dumps(row) if UNSEEN.search(text) else text) + "\n"


def _images(
    generator: Generator, order: Order, seeds: Iterator[int], makeup: Iterator[int]
) -> Iterator[tuple[int, int, Pixels]]:
    """Yield an order's images after the camera, as (number, seed, pixels).

    First those that are shown already, then fresh ones; what is missing of the first is made up
    for last.
    """
    recipe, n, shown = order.recipe, order.images, order.shown
    holes = []
    for slot, (seed, path) in enumerate(shown[:n]):
        image = _read(path)
        if image is None:
            holes.append(slot)
        else:
            yield slot, seed, image
    rest = range(min(n, len(shown)), n)
    for slot, drawn in zip(rest, _usable(generator, recipe, seeds, len(rest)), strict=True):
        yield slot, *drawn
    for slot, drawn in zip(holes, _usable(generator, recipe, makeup, len(holes)), strict=True):
        yield slot, *drawn


def _read(path: Path | None) -> Pixels | None:
    """Read an image that is shown; None if it is missing or cannot be read."""
    try:
        return None if path is None else read_rgb(path)
    except UnreadableImageError:
        return None


def _usable(
    generator: Generator, recipe: Recipe, seeds: Iterator[int], n: int
) -> Iterator[tuple[int, Pixels]]:
    """Yield usable images of a recipe after its camera; another seed replaces an invalid one."""
    wanted, spent, why = n, 0, ""
    while wanted:
        if spent >= _TRIES * n + _CHUNK:
            raise GenerationError(
                f"{spent - (n - wanted)} of {spent} images of {recipe.draw.prompt!r} cannot be "
                f"used{why}; look at the generator"
            )
        asked = [next(seeds) for _ in range(min(wanted, _CHUNK))]
        drawn = generate_all(generator, [(recipe.draw, asked)])[0]
        why = next((f" ({said})" for said in drawn.invalid if said), why)
        batch = drawn.valid()
        spent += len(asked)
        for seed, image in zip(batch.seeds, batch.images, strict=True):
            yield seed, apply_camera(recipe.camera, image, seed=seed)
            wanted -= 1


def _metadata(
    file_name: str, cls: str, order: Order, seed: int, generator: Generator
) -> dict[str, Any]:
    recipe = order.recipe
    return {
        "file_name": file_name,
        "label": cls,
        **made_from(generator, recipe.draw, seed),
        "seed": seed,
        "recipe": recipe.to_json(),
        "recipe_fingerprint": recipe.fingerprint(),
        "draw_fingerprint": recipe.draw.fingerprint(),
        "camera_fingerprint": recipe.camera.fingerprint(),
        "generator": generator.id,
        "generator_revision": generator.revision,
        "digital_source_type": generator.source_type,
        "confirmed": order.confirmed,
    }
