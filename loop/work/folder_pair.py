"""A pair of folders: real and synthetic images that exist, and the classes that both have.

The audit of two folders reads them. They are checked as files first, so that what cannot be
compared is refused before anything is written; then they are embedded. Where a class is stored
differently on both sides, both are put through one form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.confounds import Confounds, describe_confounds, read_confounds
from gapclose.analysis.embedding import Embedder
from gapclose.analysis.errors import RealDataError
from gapclose.analysis.gap import MIN_IMAGES
from gapclose.analysis.image_folder import ImageSet, is_split, scan_sides
from gapclose.analysis.kernel import Kernel
from gapclose.loop.config.paths import resolved
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.work.audit_scores import AuditMaterial
from gapclose.loop.work.evaluation import EvaluationInput, JudgeInput
from gapclose.loop.work.holdout import sample_row
from gapclose.loop.work.sides import Side, left_out, read_side
from gapclose.loop.work.stored_formats import (
    Storage,
    compare_storage,
    describe_storage,
    embed_sample,
    sampled,
)

SideName = Literal["real", "synthetic"]
SIDES: tuple[SideName, SideName] = ("real", "synthetic")

Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderPair:
    """Two folders as they lie there.

    Attributes:
        folders: By side.
        images: By side, what was scanned.
        classes: Those of both.
        stored: By side and class, how the files are stored.
        storage: The classes that are stored differently.
    """

    folders: Mapping[SideName, Path]
    images: Mapping[SideName, ImageSet]
    classes: tuple[str, ...]
    stored: Mapping[SideName, Mapping[str, Confounds]]
    storage: Mapping[str, Storage]

    @classmethod
    def scan(cls, *, real: Path, synthetic: Path) -> FolderPair:
        """Scan both folders.

        Raises:
            RealDataError: One is missing or empty, or no class is on both sides with enough
                images.
        """
        if resolved(real) == resolved(synthetic):
            raise RealDataError(
                "is the folder of the real images; give the other side",
                path=synthetic,
            )
        ours, theirs = scan_sides(real=real, synthetic=synthetic)
        shared = tuple(name for name in ours.classes if name in theirs.classes)
        if not shared:
            raise RealDataError(
                f"{real} and {synthetic} share no class: {', '.join(ours.classes)} against "
                f"{', '.join(theirs.classes)}; give class folders the same names"
            )
        if all(min(len(ours.of(c)), len(theirs.of(c))) < MIN_IMAGES for c in shared):
            raise RealDataError(
                f"no class has {MIN_IMAGES} images on both sides; add images",
                path=synthetic,
            )
        images: dict[SideName, ImageSet] = {"real": ours, "synthetic": theirs}
        stored = {s: {c: read_confounds(images[s].of(c)) for c in shared} for s in SIDES}
        return cls(
            folders={"real": real, "synthetic": synthetic},
            images=images,
            classes=shared,
            stored=stored,
            storage=compare_storage(stored["real"], stored["synthetic"]),
        )

    def read(self, config: RunConfig, reporter: Reporter, loaded: dict[str, Embedder]) -> ReadPair:
        """Embed both sides.

        Args:
            config: Names the encoders.
            reporter: Receives the progress.
            loaded: Encoders by name; what is loaded joins them.

        Raises:
            RealDataError: No class has enough readable images.
        """
        forms = {name: its.form for name, its in self.storage.items()}
        sides = {
            side: read_side(
                self.images[side],
                self.classes,
                name=side,
                config=config,
                reporter=reporter,
                loaded=loaded,
                forms=forms,
            )
            for side in SIDES
        }
        kept = tuple(name for name in self.classes if _scored(sides, name))
        few = tuple(_too_few(sides, name) for name in self.classes if name not in kept)
        if not kept:
            raise RealDataError(
                f"no class has {MIN_IMAGES} readable images on both "
                f"sides ({few[0]['class']}: {few[0]['why']}); add images",
                path=self.folders["synthetic"],
            )
        return ReadPair(pair=self, sides=sides, classes=kept, few=few)

    def one_sided(self) -> list[dict[str, str]]:
        """Return the classes that one side lacks, as in gap.json."""
        return [
            {"class": name, "why": f"only on the {side} side"}
            for side in SIDES
            for name in self.images[side].classes
            if name not in self.classes
        ]

    def notes(self) -> list[str]:
        """Return a note where both sides are splits of one data set, by their names."""
        ours, theirs = (resolved(self.folders[side]) for side in SIDES)
        if ours.parent != theirs.parent or not (is_split(ours.name) and is_split(theirs.name)):
            return []
        return [
            f"{ours.name} and {theirs.name} look like two splits of one data set: an embedder "
            "that was trained on one of them sees a small gap in every class"
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPair:
    """Both folders, embedded.

    Attributes:
        pair: The folders.
        sides: What was read.
        classes: Those with enough readable images.
        few: The others, as in gap.json.
    """

    pair: FolderPair
    sides: Mapping[SideName, Side]
    classes: tuple[str, ...]
    few: tuple[dict[str, str], ...]

    def real_rows(self, embedder: str) -> dict[str, dict[str, Rows]]:
        """Return the embeddings of the real images, by encoder and class.

        Args:
            embedder: The tuning embedder's name.
        """
        real = self.sides["real"]
        return {
            encoder: {name: _stacked(rows, real.paths[name]) for name in self.classes}
            for encoder, rows in {embedder: real.rows, **real.judge_rows}.items()
        }

    def material(
        self, rundir: RunDir, config: RunConfig, embedder: Embedder, *, notes: Sequence[str] = ()
    ) -> AuditMaterial:
        """Return what is to be scored.

        Args:
            rundir: Names the files.
            config: Its nouns are used.
            embedder: The tuning embedder.
            notes: To be kept in gap.json.
        """
        nouns = {
            c: config.space.nouns.get(c, (c.replace("_", " "),))[0] for c in self.pair.classes
        }
        shown = [*self._shown(rundir)]
        return AuditMaterial(
            inputs=[self._input(rundir, name, nouns[name]) for name in self.classes],
            nouns=nouns,
            stored=self._stored(embedder, config.embedder),
            facts={
                "confounds": describe_confounds(*(self.pair.stored[side] for side in SIDES)),
                "equalized": True,
                "skipped": [*self.pair.one_sided(), *self.few],
                "notes": [*self.pair.notes(), *notes],
                **left_out(list(self.sides.values()), relative=rundir.relative),
            },
            rows=[row for row, _ in shown],
            embeddings=[embedding for _, embedding in shown],
        )

    def _shown(self, rundir: RunDir) -> Iterator[tuple[dict[str, Any], Rows]]:
        """Yield every image with its embedding, for the map."""
        for cls in self.classes:
            for name, side in self.sides.items():
                stage = "real" if name == "real" else "baseline"
                for path in side.paths[cls]:
                    row = sample_row(rundir, path, cls, stage, None, None) | {"split": None}
                    yield row, side.rows[path]

    def _stored(self, embedder: Embedder, name: str) -> dict[str, dict[str, Any]]:
        """Return what gap.json says of the classes that are stored differently."""
        return {
            cls: describe_storage(
                self.pair.storage[cls],
                as_stored=_both(
                    embed_sample(side.paths[cls], embedder, name, form=None)
                    for side in self.sides.values()
                ),
                in_one_form=_both(
                    np.stack([side.rows[path] for path in sampled(side.paths[cls])])
                    for side in self.sides.values()
                ),
            )
            for cls in self.classes
            if cls in self.pair.storage
        }

    def _input(self, rundir: RunDir, cls: str, noun: str) -> EvaluationInput:
        real, synthetic = self.sides["real"], self.sides["synthetic"]
        own = _stacked(real.rows, real.paths[cls])
        judges = {}
        for judge, rows in real.judge_rows.items():
            seen = _stacked(rows, real.paths[cls])
            judges[judge] = JudgeInput(
                real=seen,
                synthetic=_stacked(synthetic.judge_rows[judge], synthetic.paths[cls]),
                kernel=Kernel.fit(seen),
            )
        return EvaluationInput(
            cls=cls,
            noun=noun,
            real=own,
            synthetic=_stacked(synthetic.rows, synthetic.paths[cls]),
            kernel=Kernel.fit(own),
            judges=judges,
            invalid=synthetic.n_invalid(cls),
            invalid_real=real.n_invalid(cls),
            repeats={name: side.n_repeats(cls) for name, side in self.sides.items()},
            real_spectra=_stacked(real.spectra, real.paths[cls]),
            synthetic_spectra=_stacked(synthetic.spectra, synthetic.paths[cls]),
            real_paths=tuple(map(rundir.relative, real.paths[cls])),
            synthetic_paths=tuple(map(rundir.relative, synthetic.paths[cls])),
        )


def _scored(sides: Mapping[SideName, Side], cls: str) -> bool:
    return min(len(side.paths[cls]) for side in sides.values()) >= MIN_IMAGES


def _too_few(sides: Mapping[SideName, Side], cls: str) -> dict[str, str]:
    said = " and ".join(f"{len(side.paths[cls])} {name}" for name, side in sides.items())
    why = f"too few: {said} images, {MIN_IMAGES} needed"
    if any(side.n_repeats(cls) for side in sides.values()):
        again = [f"{n} {name}" for name, side in sides.items() if (n := side.n_repeats(cls))]
        why += f"; {' and '.join(again)} images repeat others and are not counted"
    return {"class": cls, "why": why}


def _stacked(of: Mapping[Path, Rows], paths: Sequence[Path]) -> Rows:
    return np.stack([of[path] for path in paths])


def _both(sides: Iterable[Rows]) -> tuple[Rows, Rows]:
    real, synthetic = sides
    return real, synthetic
