"""A side: the images of one folder that are scored, embedded by every encoder of a run.

Audits read both sides by it, and a tuning session the real one. What cannot be scored is listed
with its reason: damaged files, pictures of one colour, images that repeat another. It generates
nothing and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.cache import Embedded, embed_files
from gapclose.analysis.confounds import Form
from gapclose.analysis.decode import read_rgb
from gapclose.analysis.embedding import Embedder
from gapclose.analysis.errors import UnreadableImageError
from gapclose.analysis.image_folder import ImageSet
from gapclose.analysis.repeats import EDGE, find_repeats, thumbnail
from gapclose.analysis.spectrum import SPECTRUM
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.fact import as_utf8
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter

Rows = NDArray[np.float32]

LISTED: Final = 1_000  # files that gap.json names, of those that were passed over


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The images of one side that count.

    Attributes:
        name: real or synthetic.
        images: What was scanned.
        paths: By class what is scored: read by every encoder, one of each repeat.
        rows: Of the tuning embedder, by file.
        judge_rows: By judge, in the config's order, the same of it.
        spectra: Power spectra.
        digests: sha256 of each file.
        unreadable: As in gap.json: `path`, `class`, `side` and `why` of damaged files.
        invalid: The same of those that show nothing.
        repeats: As in gap.json.
    """

    name: str
    images: ImageSet
    paths: Mapping[str, tuple[Path, ...]]
    rows: Mapping[Path, Rows]
    judge_rows: Mapping[str, Mapping[Path, Rows]]
    spectra: Mapping[Path, Rows]
    digests: Mapping[Path, bytes]
    unreadable: tuple[dict[str, str], ...]
    invalid: tuple[dict[str, str], ...]
    repeats: tuple[dict[str, Any], ...]

    def n_invalid(self, cls: str) -> int:
        """Count a class's images that show nothing."""
        return sum(row["class"] == cls for row in self.invalid)

    def n_repeats(self, cls: str) -> int:
        """Count a class's images that are left out because they repeat another."""
        mine = (row for row in self.repeats if row["class"] == cls and not row["counted"])
        return sum(len(row["copies"]) for row in mine)

    def others(self) -> list[dict[str, str]]:
        """Return the files that are no images, or of no class, as in gap.json."""
        return [
            {"path": as_utf8(str(other.path)), "side": self.name, "why": other.why}
            for other in self.images.others[:LISTED]
        ]


def photo_id(digest: bytes) -> str:
    """Return the name that a run folder has for a photo: its content, as 16 hex digits."""
    return digest.hex()[:16]


def left_out(sides: Sequence[Side], *, relative: Callable[[Path], str]) -> dict[str, Any]:
    """Return what of the sides is not in the numbers, as in gap.json.

    Args:
        sides: One or both.
        relative: Names a file as the run's other rows do.
    """

    def named(rows: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
        return [{**row, "path": relative(Path(row["path"]))} for row in rows]

    return {
        "unreadable": named(row for side in sides for row in side.unreadable),
        "invalid_images": named(row for side in sides for row in side.invalid),
        "other_files": named(row for side in sides for row in side.others()),
        "n_other_files": {side.name: len(side.images.others) for side in sides},
        "repeats": [
            {
                **row,
                "kept": relative(Path(row["kept"])),
                "copies": [relative(Path(path)) for path in row["copies"]],
            }
            for side in sides
            for row in side.repeats
        ],
    }


def read_side(
    images: ImageSet,
    classes: Sequence[str],
    *,
    name: Literal["real", "synthetic"],
    config: RunConfig,
    reporter: Reporter,
    loaded: dict[str, Embedder],
    forms: Mapping[str, Form | None] | None = None,
    repeats: bool = True,
    seen: Collection[str] = (),
) -> Side:
    """Embed a side's images, from the cache where it has them, and find their repeats.

    Equal files and images of one group count once. So do near repeats of the real side; those of
    the synthetic side are only named, for they are what a collapsed generator makes.

    Args:
        images: The side.
        classes: Those that are wanted.
        name: Which side it is.
        config: Names the embedders and the device.
        reporter: Receives the progress.
        loaded: Embedders by name that need not be loaded again; what is loaded joins them.
        forms: What a class's images are put through first.
        repeats: Whether to find them; a rendered pond has none.
        seen: `photo_id` of files that were used before: of a repeat they are what is kept.

    Raises:
        EmbedderError: An embedder's name is wrong, or it gives numbers that are not finite.
    """
    encoders = [*config.encoders, SPECTRUM]
    found = [
        _Passes.of(images, classes, encoder, name, forms or {}, config, reporter, loaded)
        for encoder in encoders
    ]
    read = {
        cls: [p for p in images.of(cls) if all(p in one.rows for one in found)] for cls in classes
    }
    again = _repeats(read, found[0], name, images.groups(), seen, reporter) if repeats else []
    dropped = {path for row in again if not row["counted"] for path in row["copies"]}
    return Side(
        name=name,
        images=images,
        paths={
            cls: tuple(path for path in mine if str(path) not in dropped)
            for cls, mine in read.items()
        },
        rows=found[0].rows,
        judge_rows={name: its.rows for name, its in zip(config.judge, found[1:-1], strict=True)},
        spectra=found[-1].rows,
        digests=found[0].digests,
        unreadable=_faults(found, "unreadable", name),
        invalid=_faults(found, "invalid", name),
        repeats=tuple(again),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passes:
    """What one encoder made of a side, class by class."""

    by_class: Mapping[str, Embedded]
    rows: Mapping[Path, Rows]
    digests: Mapping[Path, bytes]

    @classmethod
    def of(
        cls,
        images: ImageSet,
        classes: Sequence[str],
        encoder: str,
        side: Literal["real", "synthetic"],
        forms: Mapping[str, Form | None],
        config: RunConfig,
        reporter: Reporter,
        loaded: dict[str, Embedder],
    ) -> _Passes:
        doing = _task(side, encoder, config)
        reporter.tell(doing)
        total = sum(len(images.of(name)) for name in classes)
        done = 0
        by_class: dict[str, Embedded] = {}
        for alike in _by_form(classes, forms):
            paths = [path for name in alike for path in images.of(name)]

            def progress(now: int, _: int, before: int = done) -> None:
                reporter.tell(doing.advanced(before + now, total))

            together = embed_files(
                paths,
                encoder,
                device=config.device,
                progress=progress,
                form=forms.get(alike[0]),
                loaded=loaded,
            )
            done += len(paths)
            by_class |= _split_up(together, {name: images.of(name) for name in alike})
        every = by_class.values()
        return cls(
            by_class=by_class,
            rows={p: r for e in every for p, r in zip(e.paths, e.embeddings, strict=True)},
            digests={p: d for e in every for p, d in zip(e.paths, e.digests, strict=True)},
        )


def _task(side: Literal["real", "synthetic"], encoder: str, config: RunConfig) -> TaskStarted:
    if encoder == SPECTRUM:
        return TaskStarted(task=Task.SPECTRA, side=side)
    named = None if encoder == config.embedder else encoder
    return TaskStarted(task=Task.EMBEDDING, side=side, encoder=named)


def _by_form(classes: Sequence[str], forms: Mapping[str, Form | None]) -> list[list[str]]:
    """Group the classes that are put through one form, to be embedded in one go."""
    alike: dict[Form | None, list[str]] = {}
    for name in classes:
        alike.setdefault(forms.get(name), []).append(name)
    return list(alike.values())


def _split_up(together: Embedded, of: Mapping[str, Sequence[Path]]) -> dict[str, Embedded]:
    owner = {path: name for name, paths in of.items() for path in paths}
    out = {}
    for name in of:
        mine = [i for i, path in enumerate(together.paths) if owner[path] == name]
        out[name] = Embedded(
            embeddings=together.embeddings[mine],
            paths=tuple(together.paths[i] for i in mine),
            digests=tuple(together.digests[i] for i in mine),
            unreadable=tuple(pair for pair in together.unreadable if owner[pair[0]] == name),
            invalid=tuple(pair for pair in together.invalid if owner[pair[0]] == name),
            n_new=0,
        )
    return out


def _faults(
    found: Sequence[_Passes], kind: Literal["unreadable", "invalid"], side: str
) -> tuple[dict[str, str], ...]:
    """List the files that an encoder could not take, as rows of gap.json: one reason a file."""
    rows: dict[Path, dict[str, str]] = {}
    for one in found:
        for cls, embedded in one.by_class.items():
            for path, why in getattr(embedded, kind):
                row = {"path": str(path), "class": cls, "side": side, "why": why}
                rows.setdefault(path, row)
    return tuple(rows.values())


def _repeats(
    read: Mapping[str, Sequence[Path]],
    made: _Passes,
    side: Literal["real", "synthetic"],
    groups: Mapping[Path, str],
    seen: Collection[str],
    reporter: Reporter,
) -> list[dict[str, Any]]:
    """Find the repeats of all classes, as rows of gap.json."""
    doing = TaskStarted(task=Task.REPEATS, side=side)
    reporter.tell(doing)
    rows: list[dict[str, Any]] = []
    for number, (cls, paths) in enumerate(read.items(), start=1):
        rows += _class_repeats(cls, side, paths, made, groups, seen)
        reporter.tell(doing.advanced(number, len(read)))
    return rows


def _class_repeats(
    cls: str,
    side: str,
    paths: Sequence[Path],
    made: _Passes,
    groups: Mapping[Path, str],
    seen: Collection[str],
) -> Iterator[dict[str, Any]]:
    """Find the repeats of a class, as rows of gap.json."""
    if len(paths) < 2:
        return

    def thumbnails(wanted: Sequence[int]) -> NDArray[np.float32]:
        return np.stack([_thumbnail(paths[i]) for i in wanted])

    for repeat in find_repeats(
        digests=[made.digests[path] for path in paths],
        embeddings=np.stack([made.rows[path] for path in paths]),
        thumbnails=thumbnails,
        groups=[groups.get(path) for path in paths],
        seen=[photo_id(made.digests[path]) in seen for path in paths],
    ):
        yield {
            "class": cls,
            "side": side,
            "kind": repeat.kind,
            "kept": str(paths[repeat.kept]),
            "copies": [str(paths[i]) for i in repeat.copies],
            "counted": side == "synthetic" and repeat.kind == "near",
        }


def _thumbnail(path: Path) -> NDArray[np.float32]:
    try:
        return thumbnail(read_rgb(path))
    except UnreadableImageError:  # gone since it was embedded: like no other
        return np.zeros((EDGE, EDGE), dtype=np.float32)
