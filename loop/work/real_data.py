"""Real data: the real images of a run, split into a tune split and folds, and embedded.

A test part may be cut off first, which only `gapclose validate` opens.

`tune` and `audit` open it before anything is generated. It reads the user's images and never
writes beside them; `real: {kind: pond}` is rendered into the run folder and read as any folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.class_gap import MIN_CLOSED
from gapclose.analysis.decode import DAMAGED, open_image
from gapclose.analysis.embedding import Embedder, is_code
from gapclose.analysis.errors import RealDataError
from gapclose.analysis.gap import MIN_IMAGES
from gapclose.analysis.image_folder import ImageSet, scan, split
from gapclose.analysis.kernel import Kernel
from gapclose.generators.images import Pixels
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import PondReal
from gapclose.loop.run.events import FoldOpened
from gapclose.loop.run.files import remove_all
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.schedule.decide import MOST_FOLDS
from gapclose.loop.work.sides import Side, photo_id, read_side

Rows = NDArray[np.float32]

FEWEST_TO_TUNE: Final = 2 * MIN_IMAGES  # as many in each split
FEWEST_TO_TEST: Final = 20
"""Test photos of a class: recalls of fewer say nothing."""
_SIZES_READ: Final = 20
_CUTS: Final = 100
_DOUBTED: Final = 100  # photos in a split below which it may turn out too small
_TEST_CUT: Final = -1  # the seed of the test part: another than that of any other cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Some of a class's real images and their embeddings, row by row.

    Attributes:
        paths: Their files.
        photos: Their content, as `photo_id`.
        rows: (n, d) of the tuning embedder.
        judge_rows: By judge, in the config's order, the same of it.
        spectra: Power spectra.
    """

    paths: tuple[Path, ...]
    photos: tuple[str, ...]
    rows: Rows
    judge_rows: Mapping[str, Rows] = field(default_factory=dict)
    spectra: Rows | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def only(self, chosen: Sequence[int]) -> Fold:
        """Return some of its images."""
        rows = list(chosen)
        return Fold(
            paths=tuple(self.paths[i] for i in rows),
            photos=tuple(self.photos[i] for i in rows),
            rows=self.rows[rows],
            judge_rows={name: its[rows] for name, its in self.judge_rows.items()},
            spectra=None if self.spectra is None else self.spectra[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassReference:
    """A class's real images: what the search may see, and what only confirmations may.

    Attributes:
        tune: What the search sees.
        folds: The confirm split, cut beforehand; each evaluation opens one that none has opened.
        kernel: Frozen from the tune split.
        judge_kernels: By judge, the same in its embedding.
    """

    name: str
    tune: Fold
    folds: tuple[Fold, ...]
    kernel: Kernel
    judge_kernels: Mapping[str, Kernel] = field(default_factory=dict)


def one_size(images: Sequence[Pixels], photos: Sequence[Path]) -> bool:
    """Return whether images are of the one size of the first photos."""
    sizes = {image.shape[1::-1] for image in images}
    for path in photos[:_SIZES_READ]:
        with suppress(*DAMAGED), open_image(path) as photo:  # read before, and here still
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
                f"class {name} has {n} images; tuning needs at least "
                f"{FEWEST_TO_TUNE}: add images, or leave it out of classes",
                path=config.real.path,
            )
        share, tested = config.real.confirm_share, config.real.test_share
        parts = [min(share, 1 - share) * (1 - tested), *([tested] if tested else [])]
        if min(parts) * n < _DOUBTED:  # else there is no need to read every photo
            readable = [path for path in images.of(name) if os.access(path, os.R_OK)]
            left, test = cut_test(readable, tested)
            _check_test(left, test, name, config)
            _split_enough(left, name, config)
    return images, classes


def cut_test(paths: Sequence[Path], share: float) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Cut off the test part of a class, by content: the same in all runs, whatever their seed.

    Args:
        paths: Of the class, each of its repeats once.
        share: As `real.test_share`.

    Returns:
        (the others, the test part).
    """
    if not share:
        return tuple(paths), ()
    return split(paths, confirm_share=share, seed=_TEST_CUT)


def compare_photos(
    real: Mapping[str, ClassReference],
    before: Mapping[str, Sequence[str]],
    opened: Mapping[str, FoldOpened] | None = None,
) -> list[str]:
    """Return what to say of photos that are not what they were; the run goes on with them.

    Args:
        real: The run's classes now.
        before: By class, the photos of its tune split when the run last saw them.
        opened: By class, the fold that is opened and not yet evaluated.

    Returns:
        A line for each tune split that has changed and for each open fold that has lost photos;
        none at the first start.

    Raises:
        RealDataError: Most photos of a class are gone: it is another data set.
    """
    said = []
    for name, reference in real.items():
        now = {*reference.tune.photos}
        known = {*before.get(name, now)}
        gone, new = len(known - now), len(now - known)
        if 2 * gone > len(known):
            raise RealDataError(
                f"{gone} of the {len(known)} photos of its tune split are gone: put them back, "
                "or start a new run with --out",
                cls=name,
            )
        if gone or new:
            changes = [f"{n} {what}" for n, what in ((gone, "removed"), (new, "added")) if n]
            said.append(
                f"{name}: the tune split has changed since the last session "
                f"({', '.join(changes)}); gaps are now measured against its {len(now)} photos"
            )
    for name, event in (opened or {}).items():
        left = len(real[name].folds[event.fold])
        if left < len(event.photos):
            said.append(
                f"{name}: {len(event.photos) - left} of the {len(event.photos)} photos of the "
                f"fold to be evaluated are gone; the other {left} are used"
            )
    return said


def check_device(config: RunConfig) -> None:
    """Refuse a device that this machine lacks; ONNX and a user's own code choose their own.

    Raises:
        EmbedderError: It is not there.
    """
    if not all(name.startswith("onnx:") or is_code(name) for name in config.encoders):
        from gapclose.analysis.inference import pick_device  # torch takes seconds to import

        pick_device(config.device)


def real_folder(rundir: RunDir) -> Path:
    """Return the folder that holds a run's real photos."""
    real = rundir.config().real
    return rundir.real_path if isinstance(real, PondReal) else Path(real.path).expanduser()


def rendered_pond(rundir: RunDir, real: PondReal, classes: Sequence[str]) -> ImageSet:
    """Render RUN/real, whole or not at all; the run's lock is held."""
    from gapclose.generators.pond.renderer import write_real

    folder = rundir.real_path
    if not folder.exists():
        for left in rundir.path.glob(".real.*"):  # by a run that was killed
            remove_all(left)
        rough = Path(tempfile.mkdtemp(dir=rundir.path, prefix=".real."))
        try:
            write_real(rough, per_class=real.per_class, seed=real.seed, classes=tuple(classes))
            os.replace(rough, folder)  # noqa: PTH105 - the folder appears at once
        finally:
            shutil.rmtree(rough, ignore_errors=True)
    return own_photos(folder)


def run_photos(rundir: RunDir) -> ImageSet:
    """Scan the real photos of a run: a user's folder, or what was rendered into the run's own.

    Raises:
        RealDataError: They are gone.
    """
    if isinstance(rundir.config().real, PondReal):
        return own_photos(rundir.real_path)
    return scan(real_folder(rundir))


def own_photos(folder: Path) -> ImageSet:
    """Scan what was rendered into a run folder, which may come from elsewhere and hold links.

    Raises:
        RealDataError: It is gone.
    """
    return replace(scan(folder, links=False), others=())  # beside them lies what they show


def open_real_data(
    images: ImageSet,
    classes: Sequence[str],
    *,
    config: RunConfig,
    reporter: Reporter,
    loaded: dict[str, Embedder],
    pinned: Mapping[str, Sequence[Sequence[str]]] | None = None,
    cuts: Mapping[str, int] | None = None,
    tuned: Mapping[str, Sequence[str]] | None = None,
) -> tuple[dict[str, ClassReference], Side, dict[str, int]]:
    """Split and embed every class; what cannot be scored, or repeats others, is left out.

    Args:
        images: All of them.
        classes: The run's.
        config: Of the run.
        reporter: Receives the progress.
        loaded: Embedders by name that need not be loaded again; what is loaded joins them.
        pinned: By class, the photos of the folds that are not cut anew, from fold 0 on.
        cuts: By class, which of its cuts is not the first: photos that come later must not move
            those that are there to the other side.
        tuned: By class, the photos that the run has searched with.

    Returns:
        The classes, the side that they were cut from, and `cuts` as they are now.

    Raises:
        RealDataError: So many of a class are unreadable that too few are left, or the photos of
            a pinned fold are gone.
    """
    pinned, cuts = pinned or {}, dict(cuts or {})
    seen = {photo for photos in (tuned or {}).values() for photo in photos}
    seen |= {photo for folds in pinned.values() for fold in folds for photo in fold}
    # A pond is rendered scene by scene: it has no repeats.
    rendered = isinstance(config.real, PondReal)
    side = read_side(
        images,
        classes,
        name="real",
        config=config,
        reporter=reporter,
        loaded=loaded,
        repeats=not rendered,
        seen=seen,
    )
    found = {}
    for name in classes:
        attempt, found[name] = _class_reference(
            name, side, config, pinned=pinned.get(name, ()), first=cuts.get(name, 0)
        )
        if attempt:
            cuts[name] = attempt
    return found, side, cuts


def _class_reference(
    name: str, side: Side, config: RunConfig, *, pinned: Sequence[Sequence[str]], first: int
) -> tuple[int, ClassReference]:
    """Split a class, and say which cut it is, from the `first` on."""
    readable, test = cut_test(side.paths[name], config.real.test_share)
    _check_test(readable, test, name, config)
    if len(readable) < FEWEST_TO_TUNE:
        again = side.n_repeats(name)
        repeats = f" ({again} more repeat others and count once)" if again else ""
        repeats += f" beside {len(test)} test photos" if test else ""
        raise RealDataError(
            f"class {name} has {len(readable)} readable images{repeats}; tuning "
            f"needs at least {FEWEST_TO_TUNE}: add images, or leave it out of classes",
            path=side.images.root,
        )
    attempt, (tune, confirm) = _split_enough(readable, name, config, first=first)
    searched = _fold(tune, side)
    return attempt, ClassReference(
        name=name,
        tune=searched,
        folds=_folds(_fold(confirm, side), pinned, name),
        kernel=Kernel.fit(searched.rows),
        judge_kernels={name: Kernel.fit(rows) for name, rows in searched.judge_rows.items()},
    )


def _folds(confirm: Fold, pinned: Sequence[Sequence[str]], name: str) -> tuple[Fold, ...]:
    """Cut the confirm split; pinned folds come first, each as it was.

    Photos that came since belong to no pinned fold, and pinned photos to no other.
    """
    own = [
        [i for i, photo in enumerate(confirm.photos) if photo in photos]
        for photos in map(set, pinned)
    ]
    if any(len(fold) < MIN_IMAGES for fold in own):
        raise RealDataError(
            f"fewer than {MIN_IMAGES} are left of the photos of a fold that this run has opened: "
            "put them back, or start a new run with --out",
            cls=name,
        )
    kept = {photo for photos in pinned for photo in photos}
    rest = [i for i, photo in enumerate(confirm.photos) if photo not in kept]
    most = MOST_FOLDS - len(own)
    count = max(0 if own else 1, min(most, len(rest) // MIN_CLOSED))
    return tuple(confirm.only(fold) for fold in [*own, *(rest[i::count] for i in range(count))])


def _split_enough(
    paths: Sequence[Path], name: str, config: RunConfig, *, first: int = 0
) -> tuple[int, tuple[tuple[Path, ...], tuple[Path, ...]]]:
    """Cut both splits so that each can be scored; return which cut it is, from the `first` on.

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
        f"real.confirm_share {share:g} of {len(paths)} images leaves fewer than "
        f"{MIN_IMAGES} to tune on or to confirm with: set real.confirm_share nearer to "
        "0.5, or add images",
        cls=name,
    )


def _check_test(left: Sequence[Path], test: Sequence[Path], name: str, config: RunConfig) -> None:
    """Refuse a test part that tells nothing, or leaves too few, before a night is spent.

    Where there are too few even without one, it is not to blame.
    """
    if not config.real.test_share or len(left) + len(test) < FEWEST_TO_TUNE:
        return
    if len(left) < FEWEST_TO_TUNE:
        raise RealDataError(
            f"real.test_share {config.real.test_share:g} of {len(left) + len(test)} images leaves "
            f"{len(left)}; tuning needs at least {FEWEST_TO_TUNE}: set a smaller share, or add "
            "images",
            cls=name,
        )
    if len(test) < FEWEST_TO_TEST:
        raise RealDataError(
            f"real.test_share {config.real.test_share:g} cuts off {len(test)} photos; a test "
            f"needs {FEWEST_TO_TEST} of each class: set a larger share, or add images",
            cls=name,
        )


def _fold(paths: Sequence[Path], side: Side) -> Fold:
    return Fold(
        paths=tuple(paths),
        photos=tuple(photo_id(side.digests[path]) for path in paths),
        rows=np.stack([side.rows[p] for p in paths]),
        judge_rows={
            name: np.stack([rows[p] for p in paths]) for name, rows in side.judge_rows.items()
        },
        spectra=np.stack([side.spectra[p] for p in paths]),
    )
