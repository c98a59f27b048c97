"""Export: a run's mixtures -> a data set on disk, every image with what made it.

`gapclose export` calls it. First come the images that confirmed a mixture, which the App shows,
less those that a person tagged `reject` there; then newly generated ones, with seeds that nothing
used. All are written with their provenance. It reads the run folder only, and refuses to import
code that a run from elsewhere names unless `trust` is set.
"""

from __future__ import annotations

import json
import logging
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import filterfalse
from pathlib import Path
from typing import Any, Final

from gapclose.analysis.decode import read_rgb
from gapclose.analysis.errors import UnreadableImageError
from gapclose.generators.base import Generator, generate_all
from gapclose.generators.camera import apply_camera
from gapclose.generators.errors import GenerationError
from gapclose.generators.images import Pixels, write_png
from gapclose.generators.recipe import Recipe
from gapclose.generators.registry import make_generator
from gapclose.loop.class_folders import class_folders
from gapclose.loop.config.hints import nearest
from gapclose.loop.config.sources import FolderSpec
from gapclose.loop.data_card import CardClass, data_card
from gapclose.loop.errors import ConfigError, unwritable
from gapclose.loop.export_plan import ClassPlan, class_plans, seeds_in
from gapclose.loop.report.projections import open_run, read_trials
from gapclose.loop.report.text import in_short, objections, state_of, verdict
from gapclose.loop.run.files import kept
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import DataExported, Task, TaskStarted
from gapclose.loop.run.reporter import Reporter, SilentReporter
from gapclose.loop.run.trust import check_trust
from gapclose.loop.search.mixture_weights import allot
from gapclose.loop.search.seeds import SeedBlocks

__all__ = ["FORMATS", "drop_outdated", "export", "unused_seeds", "used_seeds"]

logger = logging.getLogger(__name__)

FORMATS: Final = ("imagefolder",)

_CHUNK: Final = 64  # images per call of the generator: bounds the memory, not the batch
_EXPORTING: Final = TaskStarted(task=Task.EXPORTING)
_TRIES: Final = 4  # seeds per image asked for, before the generator counts as broken


def export(
    run: Path,
    out: Path,
    *,
    per_class: int,
    image_format: str = "imagefolder",
    only_confirmed: bool = False,
    trust: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Generate a data set from a run's mixtures: OUT/<class>/<nnnnn>.png, OUT/metadata.jsonl.

    Each class gets `per_class` images, allotted to its recipes by largest remainder; a class
    without a mixture is generated with its baseline. A class that is no good folder name lies in
    one that `class_folders` gives it. OUT appears whole or not at all.

    Args:
        run: A run folder in which the classes were measured.
        out: Where to; must be missing or an empty folder.
        per_class: Images per class, at least 1.
        image_format: A word of `FORMATS`.
        only_confirmed: Leave out the classes that are not confirmed.
        trust: Allow a config that names code ("pkg.mod:Class") to import it.
        reporter: Receives the progress.

    Returns:
        `out`.

    Raises:
        ConfigError: There is nothing to export, or nowhere to, or an argument is wrong.
        GeneratorConfigError: The run's generator cannot be made here.
        GenerationError: The generator keeps giving images that cannot be used.
    """
    reporter = reporter or SilentReporter()
    reporter.tell(_EXPORTING)
    folder = open_run(run, verdicts=False)  # they are read for the plan, which compares them
    if per_class < 1:
        raise ConfigError(f"got {per_class}, expected at least 1", where="--per-class")
    if image_format not in FORMATS:
        raise ConfigError(
            f"unknown {image_format!r}; {nearest(image_format, FORMATS)}", where="--format"
        )
    out = _to_be_made(out)
    config = folder.config()
    if isinstance(config.generator, FolderSpec):
        raise ConfigError("an audit of two folders has nothing to export; tune", where=folder.path)
    check_trust(folder, config, trust=trust)
    plans = class_plans(folder, only_confirmed=only_confirmed)
    if left := {plan.name: _unconfirmed(plan.row) for plan in plans if not plan.confirmed}:
        logger.warning("exported with confirmed: false: %s", in_short(left))
    generator = make_generator(config.generator.as_spec())
    with _appearing(out) as building:
        _fill(folder, building, plans, generator, per_class=per_class, reporter=reporter)
    reporter.tell(DataExported(path=str(out)))
    return out


def _unconfirmed(row: Mapping[str, Any]) -> str:
    """Say why a class is exported as not confirmed."""
    if "closed" in row and state_of(row, tuned=True) == "unconfirmed":
        return f"closed, but {objections(row)}"
    return verdict(row, tuned=True) or "no verdict yet"


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes its place once it is whole, and is deleted otherwise."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
    except OSError as error:
        raise unwritable(out, error, "name another folder") from None
    try:
        with kept(out):
            yield building
        building.chmod(0o755)  # mkdtemp's 0700 would hide a data set from the owner's group
        if out.is_dir():
            out.rmdir()
        building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _to_be_made(out: Path) -> Path:
    """Resolve the folder, and check that one that is filled elsewhere can take its place."""
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("exists and is not empty; name a new folder", where=out)
    if out == Path.cwd() or out.is_mount():
        raise ConfigError("cannot be replaced as a whole; name a new folder in it", where=out)
    return out


def drop_outdated(run: Path, out: Path) -> None:
    """Remove an export that is older than the run's mixtures; another folder it leaves alone."""
    out = out.resolve()
    card, made = out / "README.md", run / "mixtures.json"
    if not all(path.is_file() for path in (card, out / "metadata.jsonl", made)):
        return
    if card.stat().st_mtime_ns >= made.stat().st_mtime_ns:
        return
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".old"))
    out.rename(old)  # so that a kill leaves no half of it under its name
    shutil.rmtree(old)


# ---------------------------------------------------------------------------------- generating


def used_seeds(run: RunDir) -> set[int]:
    """Return every seed that a run has used."""
    used = {seed for trial in read_trials(run) for seed in seeds_in(trial)}
    used |= {row["seed"] for row in run.samples() if row.get("seed") is not None}
    # What a cut-off trial or a confirmation generated is in no list, but its file bears the seed.
    used |= {int(p.stem) for p in (run.path / "images").rglob("*.png") if p.stem.isdecimal()}
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


def _fill(
    run: RunDir,
    out: Path,
    plans: Sequence[ClassPlan],
    generator: Generator,
    *,
    per_class: int,
    reporter: Reporter,
) -> None:
    done, total = 0, per_class * len(plans)
    folders = class_folders([plan.name for plan in plans])
    table: list[CardClass] = []
    examples: dict[str, dict[str, Any]] = {}
    config, used = run.config(), used_seeds(run)
    with tempfile.TemporaryFile("w+", dir=out, encoding="utf-8") as rest:
        for plan in plans:
            seeds, makeup = (
                unused_seeds(plan.name, run_seed=config.tune.seed, used=used, makeup=makeup)
                for makeup in (False, True)
            )
            counts = allot(plan.weights, per_class)
            table.append(
                CardClass(
                    name=plan.name,
                    folder=folders[plan.name],
                    images=per_class,
                    recipes=sum(count > 0 for count in counts),
                    ratio=plan.row.get("ratio"),
                    confirmed=plan.confirmed,
                )
            )
            # Shuffled, so that the first thousand of a class are a fair sample of it.
            places = [i for i, count in enumerate(counts) for _ in range(count)]
            random.Random(plan.name).shuffle(places)
            rows: list[dict[str, Any]] = [{} for _ in places]
            shown = [plan.shown.get(recipe.fingerprint(), ()) for recipe in plan.recipes]
            for index, recipe in enumerate(plan.recipes):
                slots = [place for place, owner in enumerate(places) if owner == index]
                # What makes up for a rejected image has seeds of its own: no other image changes.
                images = _images(generator, recipe, shown[index], seeds, makeup, len(slots))
                for slot, seed, image in images:
                    name = f"{folders[plan.name]}/{slots[slot]:05d}.png"
                    write_png(out / name, image, source_type=generator.source_type)
                    rows[slots[slot]] = _metadata(name, plan, recipe, seed, generator)
                    done += 1
                    reporter.tell(_EXPORTING.advanced(done, total))
            for row in rows:
                if examples.setdefault(row["recipe_fingerprint"], row) is not row:
                    rest.write(_line(row))
        # One row of each recipe comes first: `load_dataset("imagefolder")` takes the columns'
        # types from the first 10 MB, and could not read text where there had been nulls.
        rest.seek(0)
        with (out / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
            metadata.writelines(map(_line, examples.values()))
            shutil.copyfileobj(rest, metadata)
    card = data_card(table, [*examples.values()], generator=generator, config=config)
    (out / "README.md").write_text(card, encoding="utf-8")


def _line(row: Mapping[str, Any]) -> str:
    """Write a line of JSON, also for readers that take U+2028 in a class's name for its end."""
    text = json.dumps(row, ensure_ascii=False)
    return (text if len(text.splitlines()) == 1 else json.dumps(row)) + "\n"


def _images(
    generator: Generator,
    recipe: Recipe,
    shown: Sequence[tuple[int, Path | None]],
    seeds: Iterator[int],
    makeup: Iterator[int],
    n: int,
) -> Iterator[tuple[int, int, Pixels]]:
    """Yield a recipe's images after its camera, as (slot of n, seed, pixels).

    First those that are shown already, then fresh ones; what is missing of the first is made up
    for last.
    """
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
    wanted, spent = n, 0
    while wanted:
        if spent >= _TRIES * n + _CHUNK:
            raise GenerationError(
                f"{spent - (n - wanted)} of {spent} images of {recipe.draw.prompt!r} cannot be "
                "used; look at the generator"
            )
        asked = [next(seeds) for _ in range(min(wanted, _CHUNK))]
        batch = generate_all(generator, [(recipe.draw, asked)])[0].valid()
        spent += len(asked)
        for seed, image in zip(batch.seeds, batch.images, strict=True):
            yield seed, apply_camera(recipe.camera, image, seed=seed)
            wanted -= 1


def _metadata(
    file_name: str, plan: ClassPlan, recipe: Recipe, seed: int, generator: Generator
) -> dict[str, Any]:
    return {
        "file_name": file_name,
        "label": plan.name,
        "seed": seed,
        "recipe": recipe.to_json(),
        "recipe_fingerprint": recipe.fingerprint(),
        "draw_fingerprint": recipe.draw.fingerprint(),
        "camera_fingerprint": recipe.camera.fingerprint(),
        "generator": generator.id,
        "generator_revision": generator.revision,
        "digital_source_type": generator.source_type,
        "confirmed": plan.confirmed,
    }
