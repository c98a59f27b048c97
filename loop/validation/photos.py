"""Photos of a validation: those that may be trained on, and those that test.

Test photos come from a folder, from the part that `real.test_share` cuts off, or are rendered anew
where the real side is the pond. None of them is, or repeats, a photo that the run has seen.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gapclose.analysis.embedding import Embedder
from gapclose.analysis.image_folder import ImageSet
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import PondReal
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.work.real_data import cut_test, own_photos
from gapclose.loop.work.sides import Side, photo_id, read_side

__all__ = ["RENDERED", "Photos", "rendered_test"]

RENDERED: Final = 200  # test photos of a class, where the real side is the pond

ByClass = Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Photos:
    """Real photos of a run's classes, each of their repeats once.

    Attributes:
        real: By class, those to train on.
        test: By class, those to test on.
        side: All of them, as read.
        repeated: Given test photos that are left out: the run has seen them, or what they repeat.
    """

    real: ByClass
    test: ByClass
    side: Side
    repeated: int

    @classmethod
    def read(
        cls,
        real: ImageSet,
        given: ImageSet | None,
        classes: Sequence[str],
        *,
        config: RunConfig,
        seen: Collection[str],
        loaded: dict[str, Embedder],
        reporter: Reporter,
        rendered: bool = False,
    ) -> Photos:
        """Read and embed all photos, and part them.

        Args:
            real: The run's photos.
            given: To test on; None to take the part that `real.test_share` cuts off.
            classes: Of the run.
            config: Of the run.
            seen: `photo_id` of what the run has searched with, or judged by: of photos that repeat
                each other, these belong to it.
            loaded: Embedders by name that need not be loaded again; what is loaded joins them.
            reporter: Receives the progress.
            rendered: Whether all are rendered, scene by scene: then there are no repeats.
        """

        def read(images: ImageSet, *, repeats: bool, seen: Collection[str] = ()) -> Side:
            return read_side(
                images,
                classes,
                name="real",
                config=config.model_copy(update={"judge": ()}),  # it has no say here
                reporter=reporter,
                loaded=loaded,
                repeats=repeats,
                seen=seen,
            )

        share = config.real.test_share
        if given is None:
            side = read(real, repeats=not rendered, seen=seen)
            cut = {name: cut_test(side.paths[name], share) for name in classes}
            parts = [{name: both[i] for name, both in cut.items()} for i in (0, 1)]
            return cls(real=parts[0], test=parts[1], side=side, repeated=0)
        ours = {file.path for file in real.files}
        known = {photo_id(digest) for digest in read(real, repeats=False).digests.values()}
        # All together, so that copies of the run's photos are found among those that are given.
        side = read(_joined(real, given), repeats=not rendered, seen=known)
        mine = {name: [p for p in side.paths[name] if p in ours] for name in classes}
        return cls(
            real={name: cut_test(paths, share)[0] for name, paths in mine.items()},
            test={name: tuple(p for p in side.paths[name] if p not in ours) for name in classes},
            side=side,
            repeated=_repeated(side, ours),
        )

    def tested(self, given: ImageSet) -> Side:
        """Return the side as if it held the given test photos alone, to say what is left out."""
        own = {str(file.path) for file in given.files}
        return replace(
            self.side,
            images=given,
            unreadable=tuple(row for row in self.side.unreadable if row["path"] in own),
            invalid=tuple(row for row in self.side.invalid if row["path"] in own),
            repeats=tuple(row for row in self.side.repeats if row["kept"] in own),
        )


def rendered_test(
    rundir: RunDir, real: PondReal, classes: Sequence[str], reporter: Reporter
) -> ImageSet:
    """Render photos of the pond that no run of its seed has, whole or not at all.

    Unless they are all there, and nothing else, they are rendered anew: `check_folder` has seen
    that the folder is the run's own.
    """
    from gapclose.generators.pond.renderer import write_real

    folder = rundir.folder("validation/test")
    if not _is_whole(folder, classes):
        reporter.tell(TaskStarted(task=Task.RENDERING))
        folder.parent.mkdir(parents=True, exist_ok=True)
        rough = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".test."))
        try:
            write_real(rough, per_class=RENDERED, seed=real.seed + 1, classes=tuple(classes))
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(rough, folder)  # noqa: PTH105 - the folder appears at once
        finally:
            shutil.rmtree(rough, ignore_errors=True)
    return own_photos(folder)


def _is_whole(folder: Path, classes: Sequence[str]) -> bool:
    """Return whether a folder holds the files that `write_real` writes, and no other."""
    rendered = {f"{cls}/{i:05d}.png" for cls in classes for i in range(RENDERED)}
    found = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {path.relative_to(folder).as_posix() for path in found}
    return names == {*rendered, "scenes.jsonl"} and not any(map(Path.is_symlink, found))


def _joined(real: ImageSet, given: ImageSet) -> ImageSet:
    """Put the given photos after the run's; what they call a group is another one."""
    ours = {file.path for file in real.files}
    others = [
        replace(file, group=None if file.group is None else f"test: {file.group}")
        for file in given.files
        if file.path not in ours
    ]
    return replace(given, files=(*real.files, *others))


def _repeated(side: Side, ours: Collection[Path]) -> int:
    """Count the given photos of which the run has another copy."""
    return sum(
        Path(copy) not in ours
        for row in side.repeats
        if Path(row["kept"]) in ours
        for copy in row["copies"]
    )
