"""Export: a run's mixtures -> a data set on disk, every image with what made it.

`gapclose export` calls it. First come the images that confirmed a mixture, which the App shows,
less those that a person tagged `reject` there; then newly generated ones, with seeds that nothing
used. It refuses to import code that a run from elsewhere names unless `trust` is set.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from gapclose.generators.base import Generator, drawing, version_of
from gapclose.generators.recipe import Draw
from gapclose.loop.config.mixtures import is_mixtures_file
from gapclose.loop.config.paths import resolved
from gapclose.loop.config.sources import FolderSpec
from gapclose.loop.errors import ConfigError
from gapclose.loop.exporting.class_folders import class_folders
from gapclose.loop.exporting.data_card import CardClass, data_card, photos_gone
from gapclose.loop.exporting.data_set import METADATA, Metadata, used_seeds, write_images
from gapclose.loop.exporting.mixtures import write_mixtures
from gapclose.loop.exporting.orders import ExportOrders, plan_orders
from gapclose.loop.exporting.part_folder import PartFolder, part_folder, take_away
from gapclose.loop.exporting.plan import ClassPlan, Order, class_plans
from gapclose.loop.exporting.real_photos import place_photos
from gapclose.loop.exporting.request import ExportRequest
from gapclose.loop.exporting.shown import ShownImages
from gapclose.loop.report.contents import GAP
from gapclose.loop.report.projections import Verdicts, open_run, read_verdicts
from gapclose.loop.report.shortcut_words import shortcut_warnings
from gapclose.loop.report.text import in_short, objections, state_of, verdict
from gapclose.loop.run.files import to_json
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import DataExported, Task, TaskStarted
from gapclose.loop.run.reporter import Reporter, SilentReporter
from gapclose.loop.run.trust import check_trust, made_here
from gapclose.loop.work.photo_source import gone_photos, open_generator
from gapclose.loop.work.real_data import real_folder

__all__ = ["drop_outdated", "export"]

logger = logging.getLogger(__name__)

_OWN_FOLDERS: Final = ("embeddings", "images", "real", "validation")  # of a run


def export(
    run: Path,
    out: Path,
    *,
    per_class: int | None = None,
    purpose: str = "probe",
    balance: bool = False,
    per_group: int | None = None,
    real: Path | None = None,
    with_real: str = "none",
    image_format: str = "imagefolder",
    only_confirmed: bool = False,
    trust: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Generate a data set from a run's mixtures: OUT/<class>/<nnnnn>.png, OUT/metadata.jsonl.

    Each class gets `per_class` images, allotted to its recipes by largest remainder; a class
    without a mixture is generated with its baseline. A class that is no good folder name lies in
    one that `class_folders` gives it. OUT appears whole or not at all; an export that was killed
    is resumed by the next of the same images.

    Where OUT ends in .yaml, it gets the mixtures alone, for `tune` to begin another run with; what
    says anything of images is refused then.

    Args:
        run: A run folder in which the classes were measured.
        out: Where to; must be missing or an empty folder.
        per_class: Images per class, at least 1. With `balance`, those that a class has together
            with its real photos; as many as the largest class by default.
        purpose: What it trains, a word of `PURPOSES`: a `probe` on an encoder's features gets the
            mixtures as they are, a network from `scratch` a share of even prompts too.
        balance: Generate only what the real photos lack.
        per_group: With `balance`, fill up the groups of a class, by the words of its prompts, that
            real photos show and that have fewer images, real and synthetic; these count towards
            the class, and where they lack more than the class does, it gets more.
        real: Photos to balance, in class folders; the run's by default.
        with_real: How the real photos come to lie beside: `none`, `link` or `copy`.
        image_format: A word of `FORMATS`.
        only_confirmed: Leave out the classes that are not confirmed.
        trust: Allow a config that names code ("pkg.mod:Class") to import it.
        reporter: Receives the progress.

    Returns:
        `out`.

    Raises:
        ConfigError: There is nothing to export, or nowhere to, or an argument is wrong.
        RealDataError: The real photos are needed, and cannot be used.
        GeneratorConfigError: The run's generator cannot be made here.
        GenerationError: The generator keeps giving images that cannot be used.
    """
    reporter = reporter or SilentReporter()
    reporter.tell(TaskStarted(task=Task.EXPORTING))
    request = ExportRequest(
        per_class=per_class,
        purpose=purpose,
        balance=balance,
        per_group=per_group,
        real=real,
        with_real=with_real,
        image_format=image_format,
    )
    if is_mixtures_file(out):
        request.check_imageless()
        write_mixtures(run, out, only_confirmed=only_confirmed)
        reporter.tell(DataExported(path=str(out)))
        return out
    request.check()
    folder = open_run(run, verdicts=False)  # they are read for the plan, which compares them
    photos = [real_folder(folder), *([request.real] if request.real else [])]
    out = _to_be_made(out, folder, photos=photos)
    config = folder.config()
    if isinstance(config.generator, FolderSpec):
        raise ConfigError("an audit of two folders has nothing to export; tune", where=folder.path)
    beside = request.with_real != "none" and request.real is None
    check_trust(folder, config, trust=trust, copies_photos=beside)
    verdicts = read_verdicts(folder)
    generator = open_generator(config, folder)
    plans = _plans(folder, generator, verdicts, only_confirmed=only_confirmed)
    if left := {plan.name: _unconfirmed(plan.row) for plan in plans if not plan.confirmed}:
        logger.warning("exported with confirmed: false: %s", in_short(left))
    for said in shortcut_warnings(verdicts.files.get(GAP, {})):
        logger.warning("%s", said)
    planned = plan_orders(folder, plans, generator, request, reporter=reporter)
    shown, used = ShownImages.of(folder), used_seeds(folder)
    planned, gone = _without_gone(planned, generator, shown)
    key = _key(folder, planned, generator, request, used=used)
    with part_folder(out, key=key) as part:
        _fill(
            folder,
            part,
            plans,
            planned,
            generator,
            request,
            gone=gone,
            used=used,
            shown=shown,
            reporter=reporter,
        )
    reporter.tell(DataExported(path=str(out)))
    return out


def _plans(
    run: RunDir, generator: Generator, verdicts: Verdicts, *, only_confirmed: bool
) -> list[ClassPlan]:
    """Plan the classes as what this generator gives of them.

    Raises:
        ConfigError: There is none, or none is confirmed though only such are wanted.
    """
    plans = class_plans(run, only_confirmed=only_confirmed, verdicts=verdicts)
    plans = [_by_this_generator(plan, generator) for plan in plans]
    if only_confirmed and not (plans := [plan for plan in plans if plan.confirmed]):
        said = "no class is confirmed with this generator; export without --only-confirmed"
        raise ConfigError(said, where=run.path)
    return plans


def _by_this_generator(plan: ClassPlan, generator: Generator) -> ClassPlan:
    """Confirm no class that was confirmed with another generator, or with another version of it.

    The images that confirmed it are not of this one either.
    """
    before, now = plan.row.get("generator"), version_of(generator)
    if generator.revision is None and before is not None:  # what is not at hand is not known
        before = before.partition(" (")[0]
    if before in (None, now):
        return plan
    said = f"was measured with {before}, and {now} is another generator"
    row = {**plan.row, "confirmed": False, "objections": [said]}
    return replace(plan, confirmed=False, shown={}, row=row)


def _key(
    run: RunDir,
    planned: ExportOrders,
    generator: Generator,
    request: ExportRequest,
    *,
    used: Set[int],
) -> str:
    """Name all that the images of an export depend on, in 16 hex digits."""
    config = run.config()
    orders = {
        name: [[o.recipe.to_json(), o.images, o.confirmed, o.shown[: o.images]] for o in its]
        for name, its in planned.orders.items()
    }
    all_of_it = [
        version("gapclose"),
        run.path.resolve(),
        config.tune.seed,
        [[name, spec.as_spec()] for name, spec in config.drawn_by.items()],
        [generator.id, generator.revision, generator.source_type],
        request.with_real,
        orders,
        sorted(used),
    ]
    return hashlib.sha256(to_json(all_of_it).encode()).hexdigest()[:16]


def _without_gone(
    planned: ExportOrders, generator: Generator, shown: ShownImages
) -> tuple[ExportOrders, int]:
    """Look for the photos that images are to be made from, and say if some are gone.

    Returns:
        The plan, in which no order that lacks some stands for what was confirmed, and how many are
        gone.

    Raises:
        RealDataError, RunDamagedError: As `gone_photos`.
    """
    anew = {
        order.recipe.draw
        for orders in planned.orders.values()
        for order in orders
        if order.recipe.draw.photos is not None and _lacks_some(order, shown)
    }
    gone = {draw: gone_photos(generator, draw) for draw in anew}
    orders = {
        name: [
            replace(order, confirmed=order.confirmed and not gone.get(order.recipe.draw))
            for order in its
        ]
        for name, its in planned.orders.items()
    }
    n = len(frozenset().union(*gone.values()))
    if n:
        logger.warning(
            "%s that images are made from; what the others give is not what was confirmed",
            photos_gone(n),
        )
    return replace(planned, orders=orders), n


def _lacks_some(order: Order, shown: ShownImages) -> bool:
    """Return whether some images of an order are to be generated."""
    there = (shown.read(path) is not None for _, path in order.shown[: order.images])
    return order.images > sum(there)


def _unconfirmed(row: Mapping[str, Any]) -> str:
    """Say why a class is exported as not confirmed."""
    if "closed" in row and state_of(row, tuned=True) == "unconfirmed":
        return f"closed, but {objections(row)}"
    return verdict(row, tuned=True) or "no verdict yet"


def _fill(
    run: RunDir,
    part: PartFolder,
    plans: Sequence[ClassPlan],
    planned: ExportOrders,
    generator: Generator,
    request: ExportRequest,
    *,
    gone: int,
    used: Set[int],
    shown: ShownImages,
    reporter: Reporter,
) -> None:
    """Write the images, the metadata and the card, which says how many source photos are gone."""
    names = [plan.name for plan in plans]
    folders, out = class_folders(names), part.data
    beside = request.with_real != "none"
    with tempfile.TemporaryFile("w+", dir=out, encoding="utf-8") as rest:
        metadata = Metadata(rest)
        for rows in write_images(
            run,
            part,
            planned.orders,
            folders,
            generator,
            used=used,
            shown=shown,
            reporter=reporter,
        ):
            if beside:
                rows = [row | _side(row, generator) for row in rows]
            metadata.add(rows)
        if beside and planned.photos is not None:
            metadata.add(place_photos(planned.photos, names, out, folders, way=request.with_real))
        metadata.write(out / METADATA)
    card = data_card(
        [_card_class(plan, planned, folders[plan.name]) for plan in plans],
        [*metadata.examples.values()],
        generator=generator,
        config=run.config(),
        beside=beside,
        tempering=planned.tempering,
        gone=gone,
    )
    (out / "README.md").write_text(card, encoding="utf-8")


def _card_class(plan: ClassPlan, planned: ExportOrders, folder: str) -> CardClass:
    orders = planned.orders[plan.name]
    n_real = None if planned.photos is None else len(planned.photos.paths[plan.name])
    return CardClass(
        name=plan.name,
        folder=folder,
        images=sum(order.images for order in orders),
        recipes=len({order.recipe for order in orders}),
        ratio=plan.row.get("ratio"),
        confirmed=plan.confirmed,
        outside=sum(order.images for order in orders if not order.confirmed),
        n_real=n_real,
    )


def _to_be_made(out: Path, run: RunDir, *, photos: Iterable[Path]) -> Path:
    """Resolve the folder, and check that one that is filled elsewhere can take its place."""
    out = resolved(out)
    if any(out.is_relative_to(resolved(real)) for real in photos):
        raise ConfigError("lies in the folder of the real photos; name another", where=out)
    if any(out.is_relative_to(resolved(run.path / name)) for name in _OWN_FOLDERS):
        raise ConfigError("lies among the run's own files; name another folder", where=out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("exists and is not empty; name a new folder", where=out)
    if out == Path.cwd() or out.is_mount():
        raise ConfigError("cannot be replaced as a whole; name a new folder in it", where=out)
    return out


def drop_outdated(run: Path, out: Path) -> None:
    """Remove an export that is older than the run's mixtures; another folder it leaves alone."""
    if out.is_symlink() and not made_here(RunDir(run)):
        return  # a run from elsewhere may lead to any data set
    out = resolved(out)
    card, made = out / "README.md", run / "mixtures.json"
    if not all(path.is_file() for path in (card, out / "metadata.jsonl", made)):
        return
    if card.stat().st_mtime_ns >= made.stat().st_mtime_ns:
        return
    take_away(out)


def _side(row: Mapping[str, Any], generator: Generator) -> dict[str, str]:
    """Say of a generated image which side it is of, and its generator's licence."""
    own = drawing(generator, Draw.from_json(row["recipe"]["draw"]))
    return {"side": "synthetic", "license": own.license or "unknown"}
