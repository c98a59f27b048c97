"""The gallery: the real images of a run, split and embedded, class by class.

`controller` and `audit` open it before anything is drawn. It reads the user's images and never
writes beside them; `real: {kind: pond}` is rendered into the run folder and read as any folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gapclose.analysis.embedding import is_code
from gapclose.analysis.gap import MIN_IMAGES
from gapclose.analysis.image_folder import ImageSet, RealDataError, digest, scan, split
from gapclose.analysis.kernel import Kernel
from gapclose.generators.images import Pixels
from gapclose.generators.registry import check_generator
from gapclose.loop.config.schema import ConfigError, FolderSpec, PondReal, RunConfig
from gapclose.loop.report.progress import Reporter
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.space import Space
from gapclose.loop.work.sides import Side, photo_id, read_side

Rows = NDArray[np.float32]

FEWEST_TO_TUNE: Final = 40
_SIZES_READ: Final = 20
PARTS: Final = 3  # looks at the confirm split at most
SMALLEST_PART: Final = 100
_CUTS: Final = 100
_DOUBTED: Final = 100  # photos in a split below which it may turn out too small
_LOOKED: Final = "looked.json"  # in the run folder
_SEARCHED: Final = "searched.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of a class's real images and their embeddings, row by row."""

    paths: tuple[Path, ...]
    rows: Rows
    judge_rows: Rows | None
    spectra: Rows | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassReference:
    """A class's real images: what the search may see, and what only confirmations may.

    Attributes:
        parts: The confirm split, cut beforehand; each look at it uses an unseen part.
    """

    name: str
    tune: Part
    parts: tuple[Part, ...]
    kernel: Kernel
    judge_kernel: Kernel | None


def one_size(images: Sequence[Pixels], photos: Sequence[Path]) -> bool:
    """Whether images are of the one size of the first photos."""
    sizes = {image.shape[1::-1] for image in images}
    for path in photos[:_SIZES_READ]:
        with Image.open(path) as photo:
            sizes.add(photo.size)
    return len(sizes) == 1


def check_real(config: RunConfig) -> tuple[ImageSet | None, tuple[str, ...]]:
    """Find the classes before anything is written or loaded.

    Returns:
        The images (None for the pond, which is rendered later) and the run's classes.

    Raises:
        RealDataError: No images, or a class with too few to tune on or to confirm with.
        ConfigError: `classes` names one that is not there.
    """
    if isinstance(config.real, PondReal):
        from gapclose.generators.pond.renderer import CLASSES

        return None, config.select_classes(CLASSES)
    images = scan(Path(config.real.path))
    classes = config.select_classes(images.classes)
    for name in classes:
        n = len(images.of(name))
        if n < FEWEST_TO_TUNE:
            raise RealDataError(
                f"{config.real.path}: class {name} has {n} images; tuning needs at least "
                f"{FEWEST_TO_TUNE}: add images, or leave it out of classes"
            )
        share = config.real.confirm_share
        if min(share, 1 - share) * n < _DOUBTED:  # else there is no need to read every photo
            readable = [path for path in images.of(name) if os.access(path, os.R_OK)]
            _split_enough(readable, name, config)
    return images, classes


def looked_before(rundir: RunDir) -> dict[str, list[list[str]]]:
    """Which photos a run has confirmed with so far: per class and look, by their content."""
    looked: dict[str, list[list[str]]] = {}
    if rundir.has(_LOOKED):
        looked = rundir.read_json(_LOOKED)
    return looked


def note_looked(rundir: RunDir, parts: Mapping[str, Sequence[Part]]) -> None:
    """Keep which photos a run has confirmed with: all parts of a class that were looked at."""
    looked = looked_before(rundir)
    for name, seen in parts.items():
        known = looked.setdefault(name, [])
        known += [[_name(path) for path in part.paths] for part in seen[len(known) :]]
    rundir.write_json(_LOOKED, looked)


def seen_before(rundir: RunDir) -> set[str]:
    """The photos that a run has searched or confirmed with, by `photo_id`."""
    searched: dict[str, list[str]] = rundir.read_json(_SEARCHED) if rundir.has(_SEARCHED) else {}
    looked = [part for parts in looked_before(rundir).values() for part in parts]
    return {photo for photos in [*searched.values(), *looked] for photo in photos}


def compare_searched(
    rundir: RunDir, gallery: Mapping[str, ClassReference], side: Side
) -> list[str]:
    """Say which photos of the search came or went since the run last saw them, and keep those.

    The run goes on: what it has drawn is scored against the photos that there are now.

    Returns:
        A sentence for each class that has changed; none at the first start.

    Raises:
        RealDataError: Most photos of a class are gone: it is another data set.
    """
    before: dict[str, list[str]] = rundir.read_json(_SEARCHED) if rundir.has(_SEARCHED) else {}
    now = {
        name: sorted(photo_id(side.digests[path]) for path in real.tune.paths)
        for name, real in gallery.items()
    }
    said = []
    for name, photos in now.items():
        known = set(before.get(name, photos))
        gone, new = len(known - {*photos}), len({*photos} - known)
        if 2 * gone > len(known):
            raise RealDataError(
                f"class {name}: {gone} of the {len(known)} photos that this run was searching "
                "with are gone: put them back, or start a new run with --out"
            )
        if gone or new:
            said.append(
                f"{name}: {gone} photos of the tune split were removed and {new} added since the "
                f"last session; the run goes on with the {len(photos)} there are now"
            )
    if now != before:
        rundir.write_json(_SEARCHED, before | now)
    return said


def _name(path: Path) -> str:
    return photo_id(bytes.fromhex(digest(path)))


def check_drawn(config: RunConfig, classes: Sequence[str] = ()) -> None:
    """Refuse a generator that cannot be made here, or that draws nothing new.

    Args:
        config: Of the run.
        classes: With the run's classes, a generator of the user's own draws one image of the
            first one's baseline, before hours go into embedding photos.

    Raises:
        GeneratorConfigError: As `check_generator`.
        ConfigError: It is a folder of images that exist.
    """
    if isinstance(config.generator, FolderSpec):
        raise ConfigError(
            "generator.kind: a folder holds images that exist and draws no new ones; score them "
            f"with `gapclose audit --real DIR --synthetic {config.generator.path}`"
        )
    named = {*config.space.scheduler, config.baseline.scheduler} - {None}
    draw = Space.of(config, classes[0]).baseline.draw if classes else None
    check_generator(config.generator.as_spec(), schedulers=sorted(map(str, named)), draw=draw)


def check_device(config: RunConfig) -> None:
    """Refuse a device that this machine lacks; ONNX and a user's own code look for themselves.

    Raises:
        EmbedderError: It is not there.
    """
    names = [name for name in (config.embedder, config.judge) if name is not None]
    if not all(name.startswith("onnx:") or is_code(name) for name in names):
        from gapclose.analysis.inference import pick_device  # torch takes seconds to import

        pick_device(config.device)


def rendered_pond(rundir: RunDir, real: PondReal, classes: Sequence[str]) -> ImageSet:
    """RUN/real, rendered whole or not at all; the run's lock is held."""
    from gapclose.generators.pond.renderer import write_real

    folder = rundir.real_path
    if not folder.exists():
        for left in rundir.path.glob(".real.*"):  # by a run that was killed
            shutil.rmtree(left)
        rough = Path(tempfile.mkdtemp(dir=rundir.path, prefix=".real."))
        try:
            write_real(rough, per_class=real.per_class, seed=real.seed, classes=tuple(classes))
            os.replace(rough, folder)  # noqa: PTH105 - the folder appears at once
        finally:
            shutil.rmtree(rough, ignore_errors=True)
    return replace(scan(folder), others=())  # beside the photos lies what they show


def open_gallery(
    images: ImageSet,
    classes: Sequence[str],
    *,
    config: RunConfig,
    reporter: Reporter,
    looked: Mapping[str, Sequence[Sequence[str]]] | None = None,
    cuts: dict[str, int] | None = None,
    seen: Collection[str] = (),
) -> tuple[dict[str, ClassReference], Side]:
    """Split and embed every class; what cannot be scored, or repeats others, is left out.

    Args:
        images: All of them.
        classes: The run's.
        config: Of the run.
        reporter: Told how far it is.
        looked: `looked_before`.
        cuts: Class -> which of its cuts is not the first, as it was and as it is now: photos that
            come later must not move those that are there to the other side.
        seen: `seen_before`: nor may copies of them.

    Returns:
        The classes, and the side that they were cut from.

    Raises:
        RealDataError: So many of a class are unreadable that too few are left, or what it was
            confirmed with is gone.
    """
    # A pond is rendered scene by scene: there is nothing to look for.
    rendered = isinstance(config.real, PondReal)
    side = read_side(
        images,
        classes,
        name="real",
        config=config,
        reporter=reporter,
        loaded={},
        repeats=not rendered,
        seen=seen,
    )
    gallery = {}
    for name in classes:
        readable = side.paths[name]
        if len(readable) < FEWEST_TO_TUNE:
            again = side.n_repeats(name)
            told = f" ({again} more repeat others and count once)" if again else ""
            raise RealDataError(
                f"{images.root}: class {name} has {len(readable)} readable images{told}; tuning "
                f"needs at least {FEWEST_TO_TUNE}: add images, or leave it out of classes"
            )
        attempt, (tune, confirm) = _split_enough(
            readable, name, config, first=(cuts or {}).get(name, 0)
        )
        if attempt and cuts is not None:
            cuts[name] = attempt
        cut = _parts(confirm, (looked or {}).get(name, ()), name)
        parts = tuple(_part(paths, side) for paths in cut)
        searched = _part(tune, side)
        gallery[name] = ClassReference(
            name=name,
            tune=searched,
            parts=parts,
            kernel=Kernel.fit(searched.rows),
            judge_kernel=None if searched.judge_rows is None else Kernel.fit(searched.judge_rows),
        )
    return gallery, side


def _parts(
    confirm: Sequence[Path], looked: Sequence[Sequence[str]], name: str
) -> list[Sequence[Path]]:
    """Cut the confirm split for the looks at it; what was looked at stays one part each.

    Photos that came since belong to no part that was looked at, and to those that were not no
    photo that was.
    """
    known = {path: _name(path) for path in confirm} if looked else {}
    seen = [[path for path in confirm if known[path] in part] for part in map(set, looked)]
    if any(len(part) < MIN_IMAGES for part in seen):
        raise RealDataError(
            f"class {name}: photos that this run has confirmed it with are gone: put them back, "
            "or start a new run with --out"
        )
    shown = {path for part in seen for path in part}
    rest = [path for path in confirm if path not in shown]
    count = max(0 if seen else 1, min(PARTS - len(seen), len(rest) // SMALLEST_PART))
    return [*seen, *(rest[i::count] for i in range(count))]


def _split_enough(
    paths: Sequence[Path], name: str, config: RunConfig, *, first: int = 0
) -> tuple[int, tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """Both splits with enough images to be scored, and which cut it is, from the `first` on.

    A split meets its share on average only: of 40 images, every second cut at one half leaves a
    side with fewer than 20. Then the next cut that does not is taken.
    """
    share, seed = config.real.confirm_share, config.tune.seed
    tries = _CUTS if len(paths) >= 2 * MIN_IMAGES else 1
    for attempt in range(first, first + tries):
        # Apart from the cuts of other runs' seeds, which count from 0.
        cut = split(paths, confirm_share=share, seed=seed + attempt * 1_000_003)
        if min(map(len, cut)) >= MIN_IMAGES:
            return attempt, cut
    raise RealDataError(
        f"class {name}: real.confirm_share {share:g} of {len(paths)} images leaves fewer than "
        f"{MIN_IMAGES} to tune on or to confirm with: set real.confirm_share nearer to "
        "0.5, or add images"
    )


def _part(paths: Sequence[Path], side: Side) -> Part:
    judged = side.judge_rows
    return Part(
        paths=tuple(paths),
        rows=np.stack([side.rows[p] for p in paths]),
        judge_rows=None if judged is None else np.stack([judged[p] for p in paths]),
        spectra=np.stack([side.spectra[p] for p in paths]),
    )
